"""A package that MLflow opens: it answers as the model does, and a digest pins it."""

import numpy as np
import pytest
from helpers.scored import X

import modelkit as mk
from modelkit.errors import IntegrityError, SignatureError
from modelkit.integrations.mlflow.opened import open_logged


def test_an_empty_pin_of_mlflow_is_no_pin(package, monkeypatch):
    """As where a deployment sets MODELKIT_DIGEST to a variable that it does not have."""
    digest = mk.inspect(package).digest
    monkeypatch.setenv("MODELKIT_DIGEST", digest)
    open_logged(str(package), {"digest": digest})
    for unset in ("", None):
        with pytest.raises(IntegrityError, match="model_config is set and empty"):
            open_logged(str(package), {"digest": unset})
    monkeypatch.setenv("MODELKIT_DIGEST", "")
    with pytest.raises(IntegrityError, match="MODELKIT_DIGEST is set and empty"):
        open_logged(str(package), {"digest": digest})


@pytest.mark.parametrize("settings", [None, {}, {"team": "risk"}])
def test_a_logged_model_that_would_drop_a_pin_is_refused(package, settings):
    """MLflow passes on only those settings that the logged model has."""
    with pytest.raises(IntegrityError, match="lacks the setting 'digest'"):
        open_logged(str(package), settings)


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
