"""Values that do not add up are not given."""

import numpy as np
import pytest

import modelkit as mk
from modelkit.errors import AdditivityError
from modelkit.explain.method import check_gap

pytestmark = pytest.mark.usefixtures("one_thread")


def test_values_that_do_not_add_up_are_not_given(models, monkeypatch):
    model, X = models["trees"]
    explainer = mk.Explainer(model, background=X[:20])
    run_exact = explainer._method._run
    monkeypatch.setattr(
        explainer._method, "_run", lambda feeds: (run_exact(feeds)[0] * 1.01, run_exact(feeds)[1])
    )
    with pytest.raises(AdditivityError) as caught:
        explainer.explain(X[50:60])
    assert caught.value.gap > 1e-5
    with pytest.raises(AdditivityError):
        check_gap(np.array([[np.nan]]), np.ones((1, 1)))
