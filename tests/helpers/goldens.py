"""Write tests/golden anew: `PYTHONPATH=src:tests .venv/bin/python -m helpers.goldens`.

Only until the first release; from then on a format that changed gets files of its own beside these.
"""

import dataclasses
import math

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk
from helpers.encoders import tiny
from helpers.kinds import penguins
from helpers.places import GOLDEN

NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
TEXTS = ["a good film", "good fun", "a bad film", "bad, so bad"] * 10


def main():
    save_packages()
    write_drift()
    write_explanation()


def save_packages():
    X, y = penguins()
    X = X.assign(year=2008)  # which is not read
    prepare = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
            ["island", "sex"],
        ),
    )
    fitted = make_pipeline(prepare, LogisticRegression(max_iter=1000)).fit(X, y)
    options = {"version": "1.0.0", "metadata": {"rows": len(X)}}
    mk.save(fitted, GOLDEN / "penguins1.mk", example=X, name="penguins", **options)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    fitted = make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, [1, 1, 0, 0] * 10)
    mk.save(fitted, GOLDEN / "texts1.mk", example=TEXTS, name="texts")
    with tiny(dims=(8, 4), roles={"query": "query ", "passage": "text "}) as encoder:
        mk.save(encoder, GOLDEN / "encoder1.mk", name="encoder")


def write_drift():
    """A profile with all that one can have, and a Detector of another that has alarms."""
    r = np.random.default_rng(0)
    train, reference = (
        {
            "x": r.normal(size=n),
            "s": r.choice(["u", "v"], n),
            "e": r.normal(size=(n, 3)).astype(np.float32),
            "h": r.choice(["a", "b"], n),
        }
        for n in (400, 600)
    )
    p = r.random(600)
    labels = (r.random(600) < p).astype(int)
    answers = {"scores": np.c_[1 - p, p], "labels": labels}
    full = mk.Profile.fit(train, reference=reference, ordered=True, stratum="h", **answers)
    (GOLDEN / "profile1.npz").write_bytes(full.to_bytes())
    names = ("x", "s")
    train, reference = ({name: rows[name] for name in names} for rows in (train, reference))
    profile = mk.Profile.fit(train, reference=reference, **answers)
    (GOLDEN / "watched1.npz").write_bytes(profile.to_bytes())
    detector = mk.Detector(profile, alpha=0.05, seed=7, clock=lambda: 1_800_000_000.0)
    for _ in range(8):
        p = r.random(200)
        rows = {"x": r.normal(1, size=200), "s": r.choice(["u", "v"], 200)}
        detector.update(rows, np.c_[1 - p, p])
        detector.update_labels(r.integers(0, 2, 200), (p > 0.5).astype(int))
    detector.acknowledge(detector.alarms[0], reason="seen")
    (GOLDEN / "detector1.npz").write_bytes(detector.state())
    (GOLDEN / "report1.json").write_text(detector.report().to_json() + "\n")


def write_explanation():
    X = np.random.default_rng(0).normal(size=(40, 3))
    fitted = LogisticRegression().fit(X, X[:, 0] > 0)
    model = mk.FunctionModel(
        lambda feeds: {"probabilities": fitted.predict_proba(feeds["input"])},
        mk.Signature(
            (mk.TensorSpec("input", "float64", ("batch", 3)),),
            (mk.TensorSpec("probabilities", "float64", ("batch", 2)),),
            primary="probabilities",
            classes=(0, 1),
        ),
        batchable=True,
    )
    found = mk.Explainer(model, background=X[:10], method="sampling").explain(X[:2])
    data = np.array([["a", None, 1.5], ["b", math.nan, math.inf]], object)
    fidelity = {
        "r2": [[0.5, math.nan], [1.0, 0.25]],
        "local_error": [[0.1, 0.2], [0.3, 0.4]],
        "ess": [3.0, math.inf],
        "kernel_width": 0.75,
        "samples": 10,
    }
    found = dataclasses.replace(found, data=data, fidelity=fidelity, version="1.2.0 <b>")
    (GOLDEN / "explanation1.json").write_text(found.to_json() + "\n")


if __name__ == "__main__":
    main()
