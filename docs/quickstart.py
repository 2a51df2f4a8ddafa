"""Train two models, package each, and let other processes without scikit-learn open and serve it.

What it makes stays in the folder `quickstart`, to play with.
"""

import http.client
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
from palmerpenguins import load_penguins
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk

SERVE = Path(__file__).with_name("quickstart_serve.py")
FOLDER = Path("quickstart")
GO_ON = """\
In the folder quickstart are the packages, rows and pages. Go on with
  .venv/bin/modelkit predict quickstart/penguins.mk quickstart/penguins.csv
  .venv/bin/modelkit explain quickstart/penguins.mk quickstart/penguins.csv --row 0 --background quickstart/penguins.csv
  .venv/bin/modelkit serve quickstart/penguins.mk"""


def breast_cancer():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return GradientBoostingClassifier(random_state=0).fit(X, y), X


def penguins():
    X = load_penguins()
    y = X.pop("species")
    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "year"]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
            ["island", "sex"],
        ),
    )
    return make_pipeline(columns, LogisticRegression()).fit(X, y), X


def serve(path, X):
    """Answers to the rows of X from a process of its own, which gets them as JSON with null for what is missing."""
    rows = X.astype(object).where(X.notna(), None).to_dict("list")
    command = [sys.executable, SERVE, path]
    done = subprocess.run(
        command, input=json.dumps(rows), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def say(what, text):
    print(
        textwrap.fill(
            f"  {what:<10}{text}", 100, subsequent_indent=" " * 12, break_on_hyphens=False
        )
    )


def show(name, estimator, X):
    path = FOLDER / f"{name}.mk"
    start = time.perf_counter()
    manifest = mk.save(estimator, path, example=X, name=name, version="1.0.0")
    saved = 1000 * (time.perf_counter() - start)

    answers = serve(path, X)
    same = np.array(answers["labels"]) == estimator.predict(X)
    gap = np.abs(np.array(answers["probabilities"]) - estimator.predict_proba(X)).max()
    assert same.all(), "the second process predicts other labels"
    took = answers["milliseconds"]

    print(f"{name}: a {type(estimator).__name__} trained on {len(X)} rows")
    for what, text in (
        ("saved", f"{path.name}, {path.stat().st_size:,} bytes, in {saved:.0f} ms"),
        ("parity", str(manifest.parity)),
        (
            "opened",
            f"by a second process in {took['open']:.0f} ms, imports included; no sklearn, joblib, onnx or pickle",
        ),
        ("signature", textwrap.shorten(answers["signature"], 80, placeholder=" ...")),
        ("placement", answers["placement"]),
        (
            "answers",
            f"{same.sum()} of {len(X)} labels equal to scikit-learn's, probabilities within {gap:.1g}",
        ),
        ("timings", timings(took, len(X))),
        ("explained", explain(path, X)),
    ):
        say(what, text)


def timings(took, rows):
    alone = f"{rows} rows {took['batch']:.1f} ms, one record {took['single']:.3f} ms"
    return f"{alone}, {rows} tasks of an event loop {took['concurrent']:.0f} ms"


def explain(path, X):
    """What adds most to the last class of the first row, relative to the rows at large."""
    with mk.load(path) as model:
        why = mk.Explainer(model, background=X).explain(X[:1])
    top = ", ".join(f"{name} {added:+.2f}" for name, _, added in why.top(2))
    return f"row 0, class {why.output_names[-1]} ({why.output_space}, {'exact' if why.exact else 'sampled'}): {top}"


def watch(path, X):
    """Alarms of a Monitor that serves all rows, and of a batch of the heaviest, against half of the rows."""
    X = X.sample(frac=1, random_state=0)
    with mk.load(path) as model:
        watched = mk.Monitor(model, mk.Profile.fit(X[::2], reference=X[1::2]))
        for start in range(0, len(X), 20):
            watched.predict(X[start : start + 20])
        heavy = watched.detector.test(X.nlargest(60, "body_mass_g"))
    (FOLDER / "drift.html").write_text(heavy.to_html(), encoding="utf-8")
    usual, found = watched.detector.alarms, {alarm.feature: alarm.effect for alarm in heavy.alarms}
    return f"{len(usual)} alarms on {len(X)} rows, {len(found)} on the 60 heaviest: body mass {found['body_mass_g']}"


def ask(path, X):
    """The answer of `modelkit serve` to the first row of X, and the URL it came from."""
    command = [sys.executable, "-m", "modelkit", "serve", path, "--port", "0", "--drain", "0"]
    row = X[:1].astype(object).where(X[:1].notna(), None).to_dict("records")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().split()[-1]
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.request(
            "POST",
            f"/models/{path.stem}/predict",
            json.dumps({"rows": row}),
            {"Content-Type": "application/json"},
        )
        outputs = json.load(connection.getresponse())["outputs"]
        connection.close()
        server.terminate()
    return outputs, url


def compare(path, estimator, X):
    """How the answer over HTTP differs from scikit-learn's."""
    answer, url = ask(path, X)
    label, likely = answer["label"][0], answer["probabilities"][0]
    assert label == estimator.predict(X[:1])[0], "modelkit serve predicts another label"
    gap = np.abs(np.array(likely) - estimator.predict_proba(X[:1])[0]).max()
    return f"at {url}: row 0 is {label!r}, as by scikit-learn, within {gap:.1g}"


def judge():
    """Whether a linear model may take the place of boosting, by rows that neither was trained on."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    estimators = {"1.0.0": GradientBoostingClassifier(random_state=0), "2.0.0": linear}
    for version, estimator in estimators.items():
        path = FOLDER / f"cancer-{version}.mk"
        fitted = estimator.fit(X[::2], y[::2])
        mk.save(fitted, path, example=X[::2], name="cancer", version=version)
    candidate, champion = FOLDER / "cancer-2.0.0.mk", FOLDER / "cancer-1.0.0.mk"
    verdict = mk.gate(candidate, champion, X[1::2], y[1::2], margin=0.01)
    (FOLDER / "gate.html").write_text(verdict.to_html(), encoding="utf-8")
    primary = next(check for check in verdict.checks if check.part == "metric")
    return (
        f"a linear model for boosting: {verdict.decision}, {primary.name} {primary.interval_text}"
    )


def main():
    FOLDER.mkdir(exist_ok=True)
    show("breast-cancer", *breast_cancer())
    model, X = penguins()
    X.to_csv(FOLDER / "penguins.csv", index=False)
    show("penguins", model, X)
    say("watched", watch(FOLDER / "penguins.mk", X))
    say("served", compare(FOLDER / "penguins.mk", model, X))
    say("judged", judge())
    print(GO_ON)


if __name__ == "__main__":
    main()
