"""Which output is explained: the one that is named, where there are several."""

import numpy as np
import pytest
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier

import modelkit as mk
from modelkit.errors import ExplainError, UsageError


@pytest.fixture(scope="module")
def multi_label(tmp_path_factory):
    X, Y = make_multilabel_classification(200, 4, n_classes=3, random_state=0)
    X = X.astype(np.float32)
    path = tmp_path_factory.mktemp("labels") / "m.mk"
    forest = RandomForestClassifier(5, random_state=0).fit(X, Y)
    mk.save(forest, path, example=X, name="m", version="1", background=X[:20])
    with mk.load(path) as model:
        yield model, X


def test_of_several_outputs_the_explainer_asks_for_one(multi_label):
    model, _ = multi_label
    for output in ("auto", "probability", "raw_score"):
        with pytest.raises(
            ExplainError, match=r"several outputs.*'probabilities_0', 'probabilities_1'.*output="
        ):
            mk.Explainer(model, output=output)
    with pytest.raises(UsageError, match="'label' is not an output of numbers"):
        mk.Explainer(model, output="label")
    with pytest.raises(UsageError, match=r"output 'probabilities_9' is unknown.*'probabilities_2'"):
        mk.Explainer(model, output="probabilities_9")


@pytest.mark.parametrize("method", ["auto", "lime", "sampling"])
def test_the_output_that_is_named_is_the_one_that_is_explained(multi_label, method):
    model, X = multi_label
    for name in ("probabilities_0", "probabilities_2"):
        found = mk.Explainer(model, method=method, output=name).explain(X[:3])
        assert found.output_names == (f"{name}[0]", f"{name}[1]")
        served = model.run(X[:3])[name]
        if method != "lime":  # which explains the neighbourhood
            np.testing.assert_allclose(
                found.base_values + found.values.sum(axis=1), served, atol=1e-6
            )
        assert (
            model.run(X[:3])["probabilities_0"].tolist()
            != model.run(X[:3])["probabilities_2"].tolist()
        )
