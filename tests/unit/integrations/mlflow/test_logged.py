"""Logging a package to MLflow: what it takes, and what is missing where MLflow is."""

import importlib.util

import pytest
from helpers.scored import X

import modelkit as mk
from modelkit.errors import MissingExtraError
from modelkit.integrations import mlflow as mkm
from modelkit.integrations.mlflow.logged import log_model


def test_mlflow_is_given_a_path(package):
    pytest.importorskip("mlflow")
    with package.open("rb") as file:
        for wrong in (package.read_bytes(), file, mk.load(package)):
            with pytest.raises(TypeError, match="the path of a package"):
                log_model(wrong)


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="MLflow is installed")
def test_without_mlflow_the_message_says_what_to_install(package, tmp_path):
    asked = (
        lambda: mkm.log_model(package),
        lambda: mkm.import_model("x", tmp_path / "x.mk", example=X, name="x", version="1"),
    )
    for ask in asked:
        with pytest.raises(MissingExtraError, match="pip install mlflow"):
            ask()
