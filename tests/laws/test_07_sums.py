"""Law 7. An exact explanation adds up to the served output within a stated bound, or raises.

By method, and for every kind of model: `tests/unit/explain`.
"""

import numpy as np
import pytest
from helpers.models import COLUMNED
from scipy.special import expit, softmax

import modelkit as mk

BOUND = 1e-5


@pytest.mark.parametrize("name", COLUMNED)
def test_an_explanation_adds_up_to_what_was_served(name, request):
    subject = COLUMNED[name](request.getfixturevalue)
    explainer = mk.Explainer(subject.model, background=subject.take(range(8)))
    explanation = explainer.explain(subject.take(range(4)))
    total = explanation.base_values + explanation.values.sum(axis=1)
    signature = subject.model.signature
    served = subject.model.run(subject.take(range(4)))
    expected = served["probabilities" if signature.has_probabilities else signature.primary]
    expected = np.asarray(expected, np.float64).reshape(4, -1)[:, -total.shape[1] :]
    if explanation.output_space == "raw_score":
        total = softmax(total, axis=1) if total.shape[1] > 1 else expit(total)
    np.testing.assert_allclose(total, expected, rtol=0, atol=BOUND)
    assert explanation.additivity_gap.max() <= BOUND
