"""Packages of two versions of a model and of one with other rows, which registries of commands hold: saved once."""

import pytest
from helpers.churn import X, Y, save_versions
from sklearn.linear_model import LogisticRegression

import modelkit as mk


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    folder = save_versions(tmp_path_factory.mktemp("packages"))
    narrow = LogisticRegression().fit(X[:, :2], Y)
    mk.save(narrow, folder / "narrow.mk", example=X[:, :2], name="churn", version="narrow")
    return folder
