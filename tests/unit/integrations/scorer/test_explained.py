"""Contributions of a Scorer: their names, and what is not explained."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.graphs import model_of, tensor
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import modelkit as mk
from modelkit.errors import ExplainError, SignatureError

R = np.random.default_rng(0)
IMAGES = R.normal(size=(7, 3)).astype(np.float32)


def test_an_output_named_as_an_explanation_is_refused(tmp_path):
    graph = model_of(
        [("ReduceSum", ["x", "axis"], ["base"], {"keepdims": 0})],
        [tensor("x", "n", 3)],
        [tensor("base", "n")],
        {"axis": np.array([1])},
    )
    rows = {"x": IMAGES}
    path = tmp_path / "named.mk"
    mk.save(graph, path, example=rows, name="n", version="1", background=rows)
    with pytest.raises(SignatureError, match="outputs of the names that an explanation adds"):
        mk.Scorer(path, explain=True)


def test_contributions_of_several_classes_name_them(tmp_path):
    data, labels = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=500).fit(data, labels)
    mk.save(model, tmp_path / "i.mk", example=data, name="i", version="1", background=data[::5])
    frame = mk.Scorer(tmp_path / "i.mk", explain=True).frame(data[:5])
    explained = mk.Explainer(mk.load(tmp_path / "i.mk", threads=1)).explain(data[:5])
    bases = [f"base_{name}" for name in explained.output_names]
    assert np.array_equal(frame[bases].to_numpy(), explained.base_values)
    own = f"contributions_{explained.output_names[1]}_{explained.feature_names[2]}"
    assert np.array_equal(frame[own].to_numpy(), explained.values[:, 2, 1])


def test_a_text_is_not_explained_by_a_scorer(tmp_path):
    words = np.array(["good day", "bad day", "good night", "bad night"] * 20, object)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(words, words > "c")
    rows = pd.DataFrame({"text": words})
    path = tmp_path / "t.mk"
    mk.save(model, path, example=rows["text"], name="t", version="1")
    with pytest.raises(ExplainError, match=r"by the background of the package alone.*mk.Explainer"):
        mk.Scorer(path, explain=True)


def test_contributions_of_one_name_are_told_with_a_form_that_has_them(tmp_path):
    rows = pd.DataFrame({"x": [0.0, 1.0] * 30, "b_x": [0.0, 0.0, 1.0, 1.0] * 15})
    model = LogisticRegression().fit(rows, ["a_b", "a", "c", "c"] * 15)
    mk.save(model, tmp_path / "m.mk", example=rows, name="m", version="1", background=rows[:30])
    scorer = mk.Scorer(tmp_path / "m.mk", explain=True)
    with pytest.raises(SignatureError, match=r"\['contributions_a_b_x'\]; score an Arrow table"):
        scorer.frame(rows)
    table = scorer.arrow(pa.Table.from_pandas(rows))
    assert table.column_names == ["label", "probabilities", "contributions", "base"]
