"""An Explanation as a value, the background rows of packages, and misuse."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.coalitions import (
    METHODS,
    SEED,
    agree,
    brute,
    models_by_method,
    penguin_pipeline,
    saved,
    small,
)
from helpers.ensembles import graph
from helpers.kinds import penguins
from helpers.places import GOLDEN
from helpers.processes import run
from onnx import TensorProto, helper
from sklearn import compose, datasets, ensemble, linear_model, preprocessing, svm
from sklearn.pipeline import make_pipeline

import modelkit as mk
from modelkit.errors import AdditivityError, ExplainError, SignatureError
from modelkit.explain import exact, structure, subject
from modelkit.explain.graph import whole_proto
from modelkit.explain.method import check_gap

EXPLANATION = GOLDEN / "explanation1.json"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return models_by_method(tmp_path_factory.mktemp("models"))


# The answer, as a value.


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    X, y = penguins()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = penguin_pipeline(
            ensemble.GradientBoostingClassifier(n_estimators=5, **SEED)
        ).fit(X, y)
        model = saved(estimator, tmp_path_factory.mktemp("mixed"), X, background=X.iloc[::7])
        return model, X, mk.Explainer(model, background=X.iloc[::7]).explain(X.iloc[:9])


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
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
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


def test_an_explanation_of_an_earlier_version_is_read_and_written_unchanged():
    """Written at commit c198415, before `fields` read it."""
    text = EXPLANATION.read_text().strip()
    read = mk.Explanation.from_json(text)
    assert read.to_json() == text
    assert read.values.shape == read.std_error.shape == (2, 3, 2)
    assert math.isnan(read.fidelity["r2"][0][1])
    assert read.fidelity["ess"] == [3.0, math.inf]
    assert read.data.tolist()[0] == ["a", None, 1.5]
    assert "R2 nan" in read.card(row=0)
    assert read.version is None  # it was written before an explanation had one
    versioned = dataclasses.replace(read, version="1.2.0 <b>")
    assert mk.Explanation.from_json(versioned.to_json()).version == "1.2.0 <b>"
    assert json.loads(versioned.to_json()).keys() - json.loads(text).keys() == {"version"}
    assert "1.2.0 &lt;b&gt;" in versioned.card()
    with pytest.raises(ExplainError, match="version must be str"):
        mk.Explanation.from_json(json.dumps(json.loads(text) | {"version": 3}))


@pytest.mark.parametrize(
    "odd",
    [{"exact": 1}, {"seed": "0"}, {"feature_names": "abc"}, {"warnings": "a"}, {"additivity_gap": None},
     {"more": 1}, {"std_error": [1.0]}],
)  # fmt: skip
def test_an_explanation_with_a_field_of_another_type_is_refused(odd):
    plain = json.loads(EXPLANATION.read_text()) | odd
    with pytest.raises(ExplainError, match="explanation"):
        mk.Explanation.from_json(json.dumps(plain))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", "null", "[" * 100_000, '{"schema": "other/1"}',
                                  '{"schema": "modelkit.explanation/1"}'])  # fmt: skip
def test_what_is_no_record_is_refused(text):
    with pytest.raises(ExplainError):
        mk.Explanation.from_json(text)


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
            with pytest.raises(ExplainError, match="no output"):
                ask(output=output)
    with pytest.raises(AttributeError):
        explanation.values = None


@pytest.mark.parametrize(
    ("fitted", "method"),
    [
        (linear_model.LogisticRegression(), "auto"),
        (svm.LinearSVC(), "auto"),
        (linear_model.LogisticRegression(), "sampling"),
        (linear_model.LogisticRegression(), "lime"),
    ],
)
def test_either_of_two_classes_is_explained(fitted, method, tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.where(X[:, 0] > 0.3, "late", "on time")
    model = saved(fitted.fit(X, y), tmp_path, X)
    of = {
        name: mk.Explainer(model, background=X[:20], method=method, positive=name, seed=0).explain(
            X[:5]
        )
        for name in ("late", "on time", None)
    }
    for name in ("late", "on time"):
        assert of[name].output_names[-1] == name
        assert mk.Explanation.from_json(of[name].to_json()).output_names == of[name].output_names
        assert of[name].card(output=name) == of[name].card()
        total = of[name].base_values[:, -1] + of[name].values[:, :, -1].sum(axis=1)
        if method == "auto":  # a margin, or a score: above 0 speaks for the class
            np.testing.assert_array_equal(total > 0, fitted.predict(X[:5]) == name)
        else:
            assert {*of[name].output_names} == {"late", "on time"}
    np.testing.assert_array_equal(of["on time"].values, of[None].values)
    one = of["late"].values[:, :, -1]
    other = of["on time"].values[:, :, -1 if method == "auto" else 0]
    np.testing.assert_array_equal(one, -other if method == "auto" else other)
    if method == "lime":
        told = [of[name].fidelity["r2"][0] for name in ("late", "on time")]
        assert told[0] == told[1][::-1]
    if of[None].output_space == "margin":
        with pytest.raises(ExplainError, match=r"no output 'late'.*other sign.*positive="):
            of[None].plot(output="late")
    with pytest.raises(ExplainError, match=r"positive='x' is no class of this model"):
        mk.Explainer(model, background=X[:20], positive="x")


def test_positive_is_of_two_classes(mixed):
    model, X, _ = mixed
    with pytest.raises(ExplainError, match="positive= is for what a model of two classes gives"):
        mk.Explainer(model, background=X.iloc[::7], positive="Adelie")


def test_shap_takes_it(mixed):
    shap = pytest.importorskip("shap")
    explanation = mixed[2]
    assert isinstance(explanation.to_shap(), shap.Explanation)
    assert explanation.to_shap().values.shape == (9, 6, 3)
    one = explanation.to_shap("Chinstrap")
    np.testing.assert_array_equal(one.values, explanation.values[:, :, 1])
    np.testing.assert_array_equal(one.base_values, explanation.base_values[:, 1])
    assert one.feature_names == list(explanation.feature_names)
    with pytest.raises(ExplainError, match="no output"):
        explanation.to_shap("Emperor")


@pytest.mark.parametrize("method", METHODS)
def test_no_rows(method, models):
    model, X = models[method]
    nothing = mk.Explainer(model, background=X[:20]).explain(X[:0])
    assert nothing.values.shape == (0, X.shape[1], len(nothing.output_names))
    assert (
        nothing.base_values.shape == nothing.additivity_gap.shape == (0, len(nothing.output_names))
    )


def test_one_column(tmp_path):
    X, y = small(0)
    single = saved(svm.SVR().fit(X[:, :1], y), tmp_path, X[:, :1])
    explanation = mk.Explainer(single, background=X[:30, :1]).explain(X[40:50, :1])
    agree(explanation, *brute(single.predict, X[40:50, :1], X[:30, :1]))


def test_a_constant_model_explains_nothing(tmp_path):
    X, _ = small(0)
    for estimator in (ensemble.GradientBoostingRegressor(n_estimators=2), linear_model.Ridge()):
        model = saved(estimator.fit(X, np.full(len(X), 2.5)), tmp_path, X)
        explanation = mk.Explainer(model, background=X[:30]).explain(X[:5])
        assert explanation.values.shape == (5, 6, 1)
        np.testing.assert_allclose(explanation.values, 0, atol=1e-6)
        np.testing.assert_allclose(explanation.base_values, 2.5)


# Background rows of the package.


def test_the_background_of_the_package_is_that_which_was_passed(mixed):
    model, X, passed = mixed
    stored = mk.Explainer(model).explain(X.iloc[:9])
    np.testing.assert_array_equal(stored.values, passed.values)
    assert stored.background_id == passed.background_id
    assert stored.background_rows == len(X.iloc[::7])
    assert stored.model_digest == model.manifest.model_digest
    other = mk.Explainer(model, background=X.iloc[::8]).explain(X.iloc[:9])
    assert other.background_id != stored.background_id


# Misuse.


def test_misuse_is_told_apart(models, mixed, tmp_path):
    model, X = models["sampling"]
    penguin, frame, _ = mixed
    for options, text in (
        ({}, "background"),
        ({"background": X[:0]}, "no rows"),
        ({"background": X[:20], "method": "magic"}, "unknown"),
        ({"background": X[:20], "output": "logits"}, "unknown"),
        ({"background": X[:20], "budget": 100}, "budget=260"),
        ({"background": X[:20], "budget": 0}, "budget"),
        ({"background": X[:5]}, "larger background"),
        ({"background": X[:20], "method": "trees"}, "does not fit"),
        ({"background": X[:20], "method": "additive"}, "does not fit"),
        ({"background": X[:20], "method": "enumeration"}, "smaller background"),
        ({"background": X[:20], "output": "margin"}, "margin"),
    ):
        with pytest.raises(ExplainError, match=text):
            mk.Explainer(model, **options)
    line, wide = models["additive"]
    with pytest.raises(ExplainError, match="additive"):
        mk.Explainer(line, background=wide[:20], method="trees")
    with pytest.raises(ExplainError, match="structure for 'trees'"):
        mk.Explainer(models["trees"][0], background=models["trees"][1][:20], method="additive")
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20, :5])
    with pytest.raises(SignatureError, match="sex"):
        mk.Explainer(penguin, background=frame.drop(columns="sex"))
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20]).explain(X[:2, :5])
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20]).plan(X[:2, :5])
    holes = np.where(np.arange(14) == 3, np.nan, X[:20])
    with pytest.raises(SignatureError, match=r"(?i)missing|nan"):
        mk.Explainer(model, background=holes)
    with pytest.raises(SignatureError, match=r"(?i)missing|nan"):
        mk.Explainer(model, background=X[:20]).explain(holes)


def test_a_model_of_labels_alone_cannot_be_explained(tmp_path):
    proto = graph([helper.make_node("LinearClassifier", ["x"], ["label", "s"], domain="ai.onnx.ml",
                   coefficients=[1.0, 2, -1, -2], intercepts=[0.0, 0.0], classlabels_ints=[0, 1])],
                  inputs={"x": (np.float32, 2)}, outputs={})  # fmt: skip
    proto.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    with pytest.raises(ExplainError, match="labels alone"):
        mk.Explainer(saved(proto, tmp_path), background=np.zeros((20, 2), np.float32))


def test_probabilities_of_trees_are_enumerated_on_request(models):
    model, X = models["trees"]
    explainer = mk.Explainer(model, background=X[:20], output="probability")
    explanation = explainer.explain(X[50:54])
    assert explanation.output_space == "probability"
    assert explanation.method == "enumeration"
    agree(explanation, *brute(model.predict_proba, X[50:54], X[:20]))


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


def test_explaining_a_linear_package_loads_no_shap_and_no_lime(penguins_mk, tmp_path):
    run(
        """
        import sys, modelkit as mk
        unwanted = {"shap", "lime", "sklearn", "pandas", "matplotlib", "numba", "tqdm"}
        assert not unwanted & set(sys.modules)
        mk.Explainer
        assert not unwanted & set(sys.modules)
        row = dict(island="Biscoe", bill_length_mm=50.0, bill_depth_mm=None, flipper_length_mm=230.0,
                   body_mass_g=5500.0, sex=None, year=2008)
        other = row | dict(island="Dream", bill_depth_mm=17.0, sex="female", body_mass_g=3000.0)
        with mk.load(sys.argv[1]) as model:
            explanation = mk.Explainer(model, background=[row, other]).explain([other])
        assert explanation.method == "additive"
        assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
        """,
        penguins_mk,
    )


def test_a_column_that_moves_what_is_said_to_be_anothers_is_noticed(tmp_path):
    X, y = small(0)
    scaled = make_pipeline(
        preprocessing.MinMaxScaler(), ensemble.GradientBoostingRegressor(n_estimators=5)
    )
    packed = saved(scaled.fit(X, y), tmp_path, X)
    about = subject.make_subject(packed, X[:30])
    found = structure.read_structure(whole_proto(*packed.graph), packed.signature, "prediction")
    assert found.kind == "trees"
    exact._run_trees(about, found)
    swapped = dataclasses.replace(found, groups=found.groups[::-1].copy())
    with pytest.raises(structure.NoStructureError, match="moves what should not depend on it"):
        exact._run_trees(about, swapped)


def test_what_a_model_does_not_serve_is_refused(tmp_path):
    X, y = small(0)
    regressor = saved(ensemble.GradientBoostingRegressor(n_estimators=3).fit(X, y), tmp_path, X)
    with pytest.raises(ExplainError, match="serves a value, not a probability"):
        mk.Explainer(regressor, background=X[:20], output="probability")
    nothing = mk.FunctionModel(
        lambda feeds: {"y": feeds["x"][:, :1] / 0}, two_columns(), batchable=True
    )
    with (
        np.errstate(all="ignore"),
        pytest.raises(ExplainError, match=r"row 0: .* only finite outputs"),
    ):
        mk.Explainer(nothing, background=np.ones((5, 2)), method="sampling", budget=40).explain(
            np.ones((1, 2))
        )


def two_columns():
    return mk.Signature(
        (mk.TensorSpec("x", "float64", ("n", 2)),), (mk.TensorSpec("y", "float64", ("n", 1)),)
    )


@pytest.mark.parametrize("link", ["identity", "logistic"])
def test_contributions_that_a_model_gives_itself_are_taken_where_they_add_up(link):
    weights = np.array([1.0, -2.0, 0.5])
    classes = ("no", "yes") if link == "logistic" else None
    name, shape = ("probabilities", ("n", 2)) if classes else ("prediction", ("n",))
    outputs = (
        mk.TensorSpec(name, "float64", shape),
        mk.TensorSpec("contributions", "float64", ("n", 3)),
    )
    signature = mk.Signature((mk.TensorSpec("x", "float64", ("n", 3)),), outputs, name, classes)

    def answer(feeds, off=0.0):
        parts = feeds["x"] ** 2 * weights
        margin = 0.25 + parts.sum(axis=1) + off * feeds["x"][:, 0]
        likely = 1 / (1 + np.exp(-margin))
        served = np.stack([1 - likely, likely], axis=1) if classes else margin
        return {name: served, "contributions": parts}

    X = np.random.default_rng(0).normal(size=(60, 3))
    explanation = mk.Explainer(
        mk.FunctionModel(answer, signature, batchable=True), background=X[:40]
    ).explain(X[40:])
    assert (explanation.method, explanation.exact) == ("contributions", False)
    assert "contributions, the model's own" in repr(explanation)
    np.testing.assert_allclose(explanation.values[:, :, 0], X[40:] ** 2 * weights, atol=1e-9)
    np.testing.assert_allclose(explanation.base_values, 0.25, atol=1e-9)
    wrong = mk.FunctionModel(lambda feeds: answer(feeds, 0.1), signature, batchable=True)
    plan = mk.Explainer(wrong, background=X[:40]).plan()
    assert plan.method == "enumeration"
    assert "no one base add up" in str(plan)
    with pytest.raises(ExplainError, match="'contributions' does not fit"):
        mk.Explainer(wrong, background=X[:40], method="contributions")


def test_names_are_drawn_as_they_are(tmp_path):
    """matplotlib would read what stands between two dollars as mathematics."""
    pytest.importorskip("matplotlib").use("Agg")
    X = pd.DataFrame(
        {"a$b_$": np.arange(9.0), "a": np.arange(9.0) % 2, "a = 1": np.arange(9.0) % 3}
    )
    mk.save(
        linear_model.LinearRegression().fit(X, X["a"]),
        tmp_path / "m.mk",
        example=X,
        name="m",
        version="1",
    )
    axes = mk.Explainer(mk.load(tmp_path / "m.mk"), background=X).explain(X[:2]).plot()
    axes.figure.savefig(tmp_path / "p.png")
    assert len(axes.patches) == 3
    assert any("a$b_$" in label.get_text() for label in axes.get_yticklabels())


def test_softmax_that_is_divided_by_its_sum_is_additive(tmp_path):
    X, y = datasets.load_iris(return_X_y=True, as_frame=True)
    X = X.assign(kind=np.where(X.iloc[:, 0] > 5.8, "u", "v"))
    parts = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(), ["kind"]), remainder=preprocessing.StandardScaler()
    )
    mk.save(
        make_pipeline(parts, linear_model.LogisticRegression()).fit(X, y),
        tmp_path / "m.mk",
        example=X,
        name="m",
        version="1",
    )
    model = mk.load(tmp_path / "m.mk")
    explanation = mk.Explainer(model, background=X[:40]).explain(X[50:60])
    assert (explanation.method, explanation.exact) == ("additive", True)
    margin = explanation.base_values + explanation.values.sum(axis=1)
    shares = np.exp(margin - margin.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(axis=1, keepdims=True), model.predict_proba(X[50:60]), atol=1e-5
    )


@pytest.mark.parametrize(
    "wrong", [{"budget": 1e4}, {"budget": np.nan}, {"budget": 0}, {"seed": -1}, {"seed": 1.5}]
)
def test_a_budget_and_a_seed_are_whole_numbers(mixed, wrong):
    with pytest.raises(ExplainError, match="is an integer of at least"):
        mk.Explainer(mixed[0], background=mixed[1][:50], **wrong)


def test_rows_that_are_not_there_are_named(mixed):
    explanation = mixed[2]
    for ask in (explanation.top, explanation.card):
        with pytest.raises(ExplainError, match="there are 9 rows and no row 9"):
            ask(row=9)
    with pytest.raises(ExplainError, match="k is at least 0"):
        explanation.top(-1)


@pytest.mark.parametrize("method", ["auto", "sampling", "enumeration"])
def test_a_model_whose_rows_depend_on_their_batch_is_not_explained(method, tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    proto = graph(nodes, inputs={"x": (np.float32, 5)}, outputs={"y": (np.float32, 5)})
    mk.save(proto, tmp_path / "centred.mk", name="centred", version="1")
    centred = mk.load(tmp_path / "centred.mk")
    background = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    with pytest.raises(ExplainError, match="depends on the rows beside it"):
        mk.Explainer(centred, background=background, method=method)
