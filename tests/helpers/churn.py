"""Versions of a model, and a registry that has them."""

import numpy as np
from sklearn.linear_model import LogisticRegression

import modelkit as mk

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
VERSIONS = ("1.0.0", "1.1.0")
ALL_VERSIONS = (*VERSIONS, "2.0.0")


def save_versions(folder, versions=ALL_VERSIONS):
    """The folder, with a package of each version."""
    for i, version in enumerate(versions):
        model = LogisticRegression(C=1.0 + i).fit(X, Y)
        mk.save(model, folder / f"{version}.mk", example=X, name="churn", version=version)
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
