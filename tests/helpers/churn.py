"""Versions of a model, and a registry that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

import modelkit as mk

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
VERSIONS = ("1.0.0", "1.1.0")
ALL_VERSIONS = (*VERSIONS, "2.0.0")


def save_versions(folder):
    """The folder, with a package of each version, another one of the first, one of joblib, and one of other rows."""
    folder.mkdir(exist_ok=True)
    for i, version in enumerate(ALL_VERSIONS):
        model = LogisticRegression(C=1.0 + i).fit(X, Y)
        mk.save(model, folder / f"{version}.mk", example=X, name="churn", version=version)
    other = LogisticRegression(C=9.0).fit(X, Y)
    mk.save(other, folder / "other.mk", example=X, name="churn", version="1.0.0")
    mk.save(other, folder / "joblib.mk", example=X, name="pickled", version="1", format="joblib")
    narrow = LogisticRegression().fit(X[:, :2], Y)
    mk.save(narrow, folder / "narrow.mk", example=X[:, :2], name="churn", version="narrow")
    return folder


def registry_at(where, packages, versions=VERSIONS):
    """A registry, in which these versions are registered."""
    registry = mk.Registry(where)
    for version in versions:
        registry.register(packages / f"{version}.mk")
    return registry


def run_keys(rollout, count, calls=1):
    """So many customers call so often."""
    for number in range(count):
        for _ in range(calls):
            rollout.predict(X[:1], key=f"customer-{number}")


def file_of(registry, name):
    """The path of a file of a registry in a folder."""
    path = Path(registry._store.path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def log_of(registry, number):
    """The path of an entry of its log."""
    return file_of(registry, f"models/churn/log/{number:010d}")


class Record:
    """A policy or a verdict, as far as a registry reads one."""

    stages = ()

    def __init__(self, text="{}", candidate_digest=""):
        self.text = text
        self.candidate_digest = candidate_digest

    def to_json(self):
        return self.text


class Counting:
    """A store that counts what it is asked."""

    def __init__(self, store):
        self.store = store
        self.asked = 0

    def __getattr__(self, name):
        if name in ("create", "read", "names"):
            self.asked += 1
        return getattr(self.store, name)
