"""Write what tests/golden lacks: `PYTHONPATH=src:tests .venv/bin/python -m helpers.goldens`.

What is there is never written again: a release has written it, and every later one reads it. A format that changes gets
files of its own beside these, such as profile2.npz.
"""

import dataclasses
import math
import os
import shutil
import socket
import tempfile
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk
from helpers import retrainings, rollouts
from helpers.encoders import tiny
from helpers.kinds import penguins
from helpers.places import GOLDEN
from helpers.signers import private_pem, public_pem

NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
TEXTS = ["a good film", "good fun", "a bad film", "bad, so bad"] * 10


# Everybody knows these keys: they are no secrets, and protect nothing but golden files.
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
READER = X25519PrivateKey.from_private_bytes(bytes(range(32)))


def main():
    os.environ["LOGNAME"] = "somebody"
    socket.gethostname = lambda: "somewhere"  # no name of a machine is committed
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for write in (save_packages, write_drift, write_explanation, write_values, write_folders):
            write(folder)
        for made in folder.iterdir():
            there = GOLDEN / made.name
            if not there.exists():
                (shutil.copytree if made.is_dir() else shutil.copyfile)(made, there)
                print(there)


def save_packages(folder):
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
    mk.save(fitted, folder / "penguins1.mk", example=X, name="penguins", **options)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    fitted = make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, [1, 1, 0, 0] * 10)
    mk.save(fitted, folder / "texts1.mk", example=TEXTS, name="texts")
    with tiny(dims=(8, 4), roles={"query": "query ", "passage": "text "}) as encoder:
        mk.save(encoder, folder / "encoder1.mk", name="encoder")


def write_drift(folder):
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
    (folder / "profile1.npz").write_bytes(full.to_bytes())
    names = ("x", "s")
    train, reference = ({name: rows[name] for name in names} for rows in (train, reference))
    profile = mk.Profile.fit(train, reference=reference, **answers)
    (folder / "watched1.npz").write_bytes(profile.to_bytes())
    detector = mk.Detector(profile, alpha=0.05, seed=7, clock=lambda: 1_800_000_000.0)
    for _ in range(8):
        p = r.random(200)
        rows = {"x": r.normal(1, size=200), "s": r.choice(["u", "v"], 200)}
        detector.update(rows, np.c_[1 - p, p])
        detector.update_labels(r.integers(0, 2, 200), (p > 0.5).astype(int))
    detector.acknowledge(detector.alarms[0], reason="seen")
    (folder / "detector1.npz").write_bytes(detector.state())
    (folder / "report1.json").write_text(detector.report().to_json() + "\n")


def write_explanation(folder):
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
    (folder / "explanation1.json").write_text(found.to_json() + "\n")


def write_values(folder):
    """A tally, and what is decided about a model, as JSON; a package that is sealed, and its signatures."""
    X, y = penguins()
    X = X.assign(year=2008)
    package = folder / "penguins1.mk"
    mk.seal(package, {"reader": public_pem(READER)}, out=folder / "sealed1.mk")
    mk.sign(folder / "sealed1.mk", private_pem(SIGNER))
    with mk.load(package) as model:
        profile = mk.Profile.from_bytes((folder / "watched1.npz").read_bytes())
        rows = {"x": [0.1, 2.0], "s": ["u", "w"]}
        (folder / "tally1.npz").write_bytes(
            profile.tally(rows, [[0.3, 0.7], [0.6, 0.4]]).to_bytes()
        )
        options = {"slices": {"sex": X["sex"].astype(str)}}
        write_json(folder / "evaluation1.json", mk.evaluate(model, X, y, **options))
        write_json(folder / "robustness1.json", mk.robustness(model, X[:60], y[:60]))
    write_json(folder / "verdict1.json", mk.gate(package, package, X, y, margin=0.05))
    stages = (mk.RolloutStage(0, calls=100), mk.RolloutStage(0.5, seconds=60))
    write_json(folder / "policy1.json", mk.RolloutPolicy(stages))


def write_json(path, value):
    path.write_text(value.to_json() + "\n", encoding="utf-8")


def write_folders(folder):
    """A registry with a retraining and a rollout that counted, an audit log, and the counts of two processes."""
    registry = retrainings.registry_at(folder / "registry1", folder)
    with tempfile.TemporaryDirectory() as training:
        run = retrainings.retrain(registry, Path(training))
    for entry in (folder / "registry1").rglob(
        "retraining/log/*"
    ):  # names no folder of this machine
        text = entry.read_text(encoding="utf-8")
        entry.write_text(text.replace(training, "retrainings"), encoding="utf-8")
    write_json(folder / "retraining1.json", run)
    (folder / "champion.mk").unlink()
    registry.set_alias("churn", "champion", "1.0.0", expected=run.version, reason="a look back")
    guards = (mk.Guard("errors"), mk.Guard("loss", margin=0.1))
    policy = mk.RolloutPolicy((mk.RolloutStage(0.5),), guards, tick=0.05)
    registry.start_rollout("churn", run.version, policy, reason="on trial", force=True)
    with mk.Rollout(registry, "churn", poll=0.01) as rollout:
        for key in range(20):
            rollout.predict(retrainings.X[:1], key=f"customer {key}")
            rollout.outcome(f"customer {key}", float(key % 2))
        rollouts.until(lambda: rollout.status() and [*(folder / "registry1").rglob("sums/*")])
    underway = registry.state("churn").rollout
    registry.decide_rollout("churn", underway, "rollback", reason="the trial is over")
    with mk.AuditLog(folder / "audit1", private_pem(SIGNER), checkpoint_every=2) as audit:
        with mk.load(folder / "penguins1.mk") as model:
            audit.answers(model).predict(penguins()[0][:2].assign(year=2008), key="customer 17")
        audit.record(mk.events.AliasSet("m", "champion", "2", "1", "somebody"))
    (folder / "meter1").mkdir()
    with mk.load(folder / "penguins1.mk") as model:
        meter = mk.Meter(model, shared=folder / "meter1")
        for _ in range(3):
            meter.predict(penguins()[0][:2].assign(year=2008))


if __name__ == "__main__":
    main()
