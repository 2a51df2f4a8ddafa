"""Without MLflow, what needs it says what to install, and opening a logged package needs none."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from helpers.processes import run
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import IntegrityError, MissingExtraError, SignatureError
from modelkit.integrations import mlflow as mkm
from modelkit.integrations.mlflow.opened import open_logged

X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("packages") / "sign.mk"
    model = LogisticRegression().fit(X, np.where(X["a"] > 0, "yes", "no"))
    mk.save(model, path, example=X, name="sign", version="1")
    return path


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="MLflow is installed")
def test_without_mlflow_the_message_says_what_to_install(package, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    registry.register(package)
    asked = (
        lambda: mkm.log_model(package),
        lambda: mkm.mirror(registry, "sign"),
        lambda: mkm.import_model("x", tmp_path / "x.mk", example=X, name="x", version="1"),
    )
    for ask in asked:
        with pytest.raises(MissingExtraError, match="pip install mlflow"):
            ask()


def test_what_mlflow_calls_answers_as_the_model_does(package, monkeypatch):
    monkeypatch.delenv("MODELKIT_DIGEST", raising=False)
    opened = open_logged(str(package), {"digest": mk.inspect(package).digest})
    served = mk.load(package).run(X)
    answer = opened.predict(X)
    assert list(answer["label"]) == list(served["label"])
    assert np.array_equal(np.stack(answer["probabilities"]), served["probabilities"])
    for wanted in (["probabilities"], ["probabilities", "label"]):
        assert list(opened.predict(X, {"outputs": [*wanted, *wanted]})) == wanted
    for wanted in ([], ["score"], ["label", "score"]):
        with pytest.raises(SignatureError, match="the model has"):
            opened.predict(X, {"outputs": wanted})
    with pytest.raises(IntegrityError, match="model_config asks for"):
        open_logged(str(package), {"digest": "0" * 64})


def test_opening_a_logged_package_needs_what_was_logged_as_needed_and_no_more(package):
    """`log_model` lists no onnx, so that what MLflow imports to open a package may not need it."""
    code = """
    import sys
    sys.modules["onnx"] = None
    from modelkit.integrations import mlflow
    opened = mlflow._load_pyfunc(sys.argv[1], {"digest": sys.argv[2]})
    print(*opened.predict([{"a": 1.0, "b": 0.0}])["label"])
    """
    assert run(code, package, mk.inspect(package).digest) == "yes\n"
