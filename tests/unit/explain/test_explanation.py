"""An Explanation as a value: JSON, frames, the objects of shap, and what is asked of it."""

import json
import math

import numpy as np
import pytest
from helpers.places import GOLDEN

import modelkit as mk
from modelkit.errors import PackageError, UsageError
from modelkit.explain.explanation import method_in_words

EXPLANATION = GOLDEN / "explanation1.json"
pytestmark = pytest.mark.usefixtures("one_thread")


def test_json_and_back(mixed, models):
    model, X = models["sampling"]
    sampled = mk.Explainer(model, background=X[:30], budget=26 * 12).explain(X[:3])
    assert sampled.warnings
    for explanation in (
        mixed[2],
        sampled,
        mixed[2].__class__(**{**vars(mixed[2]), "fidelity": {"r2": math.nan}}),
    ):
        text = explanation.to_json()
        assert "\n" not in text
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        back = mk.Explanation.from_json(text)
        for name in ("values", "base_values", "additivity_gap"):
            np.testing.assert_array_equal(getattr(back, name), getattr(explanation, name))
            assert getattr(back, name).shape == getattr(explanation, name).shape
        assert (back.std_error is None) == (explanation.std_error is None)
        assert [list(map(repr, row)) for row in back.data.tolist()] == [
            list(map(repr, row)) for row in explanation.data.tolist()
        ]
        for name in ("feature_names", "output_names", "output_space", "method", "exact", "seed", "background_id",
                     "background_rows", "model_digest", "warnings", "evaluations"):  # fmt: skip
            assert getattr(back, name) == getattr(explanation, name)
        assert back.to_json() == text
    data = mixed[2].data
    assert None in data[3].tolist()
    assert any(isinstance(value, float) and math.isnan(value) for value in data[3])


def test_an_explanation_of_the_first_format_is_read_and_written_unchanged():
    text = EXPLANATION.read_text().strip()
    read = mk.Explanation.from_json(text)
    assert read.to_json() == text
    assert read.values.shape == read.std_error.shape == (2, 3, 2)
    assert math.isnan(read.fidelity["r2"][0][1])
    assert read.fidelity["ess"] == [3.0, math.inf]
    assert read.data.tolist()[0] == ["a", None, 1.5]
    assert "R2 nan" in read.card(row=0)
    assert read.version == "1.2.0 <b>"
    assert "1.2.0 &lt;b&gt;" in read.card()
    with pytest.raises(PackageError, match="version must be str"):
        mk.Explanation.from_json(json.dumps(json.loads(text) | {"version": 3}))


@pytest.mark.parametrize(
    "odd",
    [{"exact": 1}, {"seed": "0"}, {"feature_names": "abc"}, {"warnings": "a"}, {"additivity_gap": None},
     {"more": 1}, {"std_error": [1.0]}],
)  # fmt: skip
def test_an_explanation_with_a_field_of_another_type_is_refused(odd):
    plain = json.loads(EXPLANATION.read_text()) | odd
    with pytest.raises(PackageError, match="explanation"):
        mk.Explanation.from_json(json.dumps(plain))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", "null", "[" * 100_000, '{"schema": "other/1"}',
                                  '{"schema": "modelkit.explanation/1"}'])  # fmt: skip
def test_what_is_no_record_is_refused(text):
    with pytest.raises(PackageError):
        mk.Explanation.from_json(text)


def test_a_record_of_another_format_is_named(mixed):
    plain = json.loads(mixed[2].to_json()) | {"schema": "modelkit.explanation/2"}
    with pytest.raises(
        PackageError, match=r"of 'modelkit.explanation/2', and not of modelkit.explanation/1"
    ):
        mk.Explanation.from_json(json.dumps(plain))


def test_frames_tops_and_unknown_outputs(mixed):
    explanation = mixed[2]
    assert explanation.output_names == ("Adelie", "Chinstrap", "Gentoo")
    frame = explanation.to_dataframe("Gentoo")
    assert list(frame.columns) == ["base", *explanation.feature_names]
    np.testing.assert_array_equal(frame.to_numpy()[:, 1:], explanation.values[:, :, 2])
    np.testing.assert_array_equal(frame["base"], explanation.base_values[:, 2])
    np.testing.assert_array_equal(
        explanation.to_dataframe(0)["base"], explanation.base_values[:, 0]
    )
    top = explanation.top(3, row=2, output="Adelie")
    sizes = [abs(added) for _, _, added in top]
    assert len(top) == 3
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == np.abs(explanation.values[2, :, 0]).max()
    assert len(explanation) == 9
    assert "9 rows, 6 columns, 3 outputs" in repr(explanation)
    assert "bill_length_mm" in explanation._repr_html_()
    assert "other column" not in explanation._repr_html_()
    others = explanation.values[2, :, 0].sum() - sum(added for _, _, added in top)
    bars = explanation.card(row=2, output="Adelie", most=3)
    assert "3 other columns" in bars
    assert f"{others:+.3g}<" in bars
    assert "1 other column<" in explanation.card(most=5)
    for output in ("Emperor", 3, -4):
        for ask in (explanation.top, explanation.to_dataframe):
            with pytest.raises(UsageError, match="unknown output"):
                ask(output=output)
    with pytest.raises(AttributeError):
        explanation.values = None


def test_shap_takes_it(mixed):
    shap = pytest.importorskip("shap")
    explanation = mixed[2]
    assert isinstance(explanation.to_shap(), shap.Explanation)
    assert explanation.to_shap().values.shape == (9, 6, 3)
    one = explanation.to_shap("Chinstrap")
    np.testing.assert_array_equal(one.values, explanation.values[:, :, 1])
    np.testing.assert_array_equal(one.base_values, explanation.base_values[:, 1])
    assert one.feature_names == list(explanation.feature_names)
    with pytest.raises(UsageError, match="unknown output"):
        explanation.to_shap("Emperor")


def test_rows_that_are_not_there_are_named(mixed):
    explanation = mixed[2]
    for ask in (explanation.top, explanation.card):
        with pytest.raises(UsageError, match="there are 9 rows and no row 9"):
            ask(row=9)
    with pytest.raises(UsageError, match="k is at least 0"):
        explanation.top(-1)


@pytest.mark.parametrize(("method", "exact", "words"), [
    ("trees", True, "trees, exact"),
    ("sampling", False, "sampling"),
    ("shap:kernel", False, "shap:kernel, sampled"),
    ("lime", False, "lime, fitted"),
    ("contributions", False, "contributions, the model's own"),
])  # fmt: skip
def test_a_method_is_named_with_how_it_comes_to_its_values(method, exact, words):
    assert method_in_words(method, exact=exact) == words
