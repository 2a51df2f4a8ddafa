"""A model turns a batch into a batch: the verbs, the hooks under them, wrappers, and scikit-learn's tools."""

import asyncio
import inspect
import threading
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from modelkit import Column, FunctionModel, Model, Signature, TensorSpec, Wrapper
from modelkit.errors import (
    ClosedError,
    ModelkitError,
    OutputCountError,
    PackageError,
    SignatureError,
)
from modelkit.testing import check_model

COLUMNS = (Column("a", "float32"), Column("b", "float32"))
FLOWER = Signature(
    (TensorSpec("X", "float32", ("batch", 2), COLUMNS),),
    (
        TensorSpec("label", "string", ("batch",)),
        TensorSpec("probabilities", "float32", ("batch", 2)),
    ),
    classes=("iris", "rose"),
)
ROWS = pd.DataFrame({"b": [3.0, -4.0, 0.5, 2.0], "a": [1.0, 2.0, -1.0, 0.0]})
LABELS = ["rose", "iris", "iris", "rose"]
VERBS = ("run", "predict", "predict_proba")


def flower(feeds):
    rose = 1 / (1 + np.exp(-feeds["X"].sum(axis=1)))
    return {
        "label": np.where(rose > 0.5, "rose", "iris"),
        "probabilities": np.column_stack([1 - rose, rose]).astype(np.float32),
    }


def regression(fn=lambda feeds: {"prediction": feeds["X"].sum(axis=1)}, width=None):
    shape = ("batch",) if width is None else ("batch", width)
    return FunctionModel(
        fn, Signature(FLOWER.inputs, (TensorSpec("prediction", "float32", shape),))
    )


@pytest.fixture
def model():
    return FunctionModel(flower, FLOWER)


@pytest.fixture(params=VERBS)
def ask(request):
    """Each verb as a function of the model, the rows and its keywords."""
    return lambda model, X, **keywords: getattr(model, request.param)(X, **keywords)


@pytest.fixture(params=[*VERBS, *(f"a{verb}" for verb in VERBS)])
def ask_or_await(request):
    """Each verb, and each async verb awaited on a loop of its own."""

    def ask(model, X, **keywords):
        answer = getattr(model, request.param)(X, **keywords)
        return asyncio.run(answer) if inspect.iscoroutine(answer) else answer

    return ask


# The verbs.


def test_a_function_model_keeps_the_contract(model):
    check_model(model, ROWS)


def test_predict_is_the_primary_output(model):
    assert model.predict(ROWS).tolist() == LABELS


def test_predict_proba_has_a_column_a_class(model):
    probabilities = model.predict_proba(ROWS)
    assert probabilities.shape == (4, 2)
    assert model.classes_[probabilities.argmax(axis=1)].tolist() == LABELS


def test_run_gives_every_output_in_the_order_of_the_signature(model):
    outputs = model.run(ROWS)
    assert list(outputs) == ["label", "probabilities"]
    assert outputs["label"].tolist() == model.predict(ROWS).tolist()
    np.testing.assert_array_equal(outputs["probabilities"], model.predict_proba(ROWS))


def test_the_async_verbs_answer_as_the_others(model):
    async def all_at_once():
        return await asyncio.gather(
            model.arun(ROWS), model.apredict(ROWS), model.apredict_proba(ROWS)
        )

    outputs, labels, probabilities = asyncio.run(all_at_once())
    assert list(outputs) == ["label", "probabilities"]
    assert outputs["label"].tolist() == labels.tolist() == LABELS
    np.testing.assert_array_equal(probabilities, model.predict_proba(ROWS))


def test_many_async_calls_each_get_their_own_answer():
    sums = regression()

    async def all_at_once():
        return await asyncio.gather(
            *(sums.apredict(np.full((2, 2), i, np.float32)) for i in range(50))
        )

    assert [answer.tolist() for answer in asyncio.run(all_at_once())] == [
        [2 * i, 2 * i] for i in range(50)
    ]


def test_an_async_verb_runs_a_model_that_only_has_run_in_another_thread():
    threads = []

    def fn(feeds):
        threads.append(threading.get_ident())
        return {"prediction": feeds["X"].sum(axis=1)}

    asyncio.run(regression(fn).apredict(ROWS))
    regression(fn).predict(ROWS)
    assert threads[0] != threading.get_ident()
    assert threads[1] == threading.get_ident()


def test_the_verbs_are_final_and_async_where_they_say_so():
    for verb in VERBS:
        for name in (verb, f"a{verb}"):
            assert getattr(Model, name).__final__
            assert inspect.iscoroutinefunction(getattr(Model, name)) == name.startswith("a")
            assert list(inspect.signature(getattr(Model, name)).parameters)[2:] == [
                "deadline",
                "priority",
                "key",
            ]
    assert FunctionModel.__final__


def test_a_model_has_a_signature_and_a_hook_that_runs():
    assert Model.__abstractmethods__ == {"signature", "_run"}
    with pytest.raises(TypeError, match="abstract"):
        Model()


def test_predict_needs_a_primary_output(ask_or_await):
    outputs = tuple(TensorSpec(name, "float32", ("batch",)) for name in ("mean", "spread"))
    model = FunctionModel(
        lambda feeds: dict.fromkeys(("mean", "spread"), feeds["X"][:, 0]),
        Signature(FLOWER.inputs, outputs),
    )
    assert list(model.run(ROWS)) == ["mean", "spread"]
    for refused in (model.predict, lambda X: asyncio.run(model.apredict(X))):
        with pytest.raises(
            SignatureError, match=r"predict needs a primary output.*run\(X\)\[name\].*primary=name"
        ) as error:
            refused(ROWS)
        assert error.value.signature is model.signature


@pytest.mark.parametrize(
    ("outputs", "classes"),
    [
        ((TensorSpec("prediction", "float32", ("batch",)),), None),
        ((TensorSpec("label", "string", ("batch",)),), ("iris", "rose")),
        (FLOWER.outputs, None),
    ],
    ids=["regression", "no probabilities", "no classes"],
)
def test_predict_proba_needs_classes_and_probabilities(outputs, classes):
    model = FunctionModel(flower, Signature(FLOWER.inputs, outputs, classes=classes))
    for refused in (model.predict_proba, lambda X: asyncio.run(model.apredict_proba(X))):
        with pytest.raises(
            SignatureError, match="predict_proba needs classes and an output named probabilities"
        ) as error:
            refused(ROWS)
        assert error.value.signature is model.signature
        by_name = "use run(X)['probabilities']" in str(error.value)
        assert by_name == ("probabilities" in model.signature.output_names)


def test_rows_that_do_not_fit_never_reach_the_function(ask_or_await):
    def fn(feeds):
        raise AssertionError

    with pytest.raises(SignatureError, match="missing column 'b'"):
        ask_or_await(FunctionModel(fn, FLOWER), {"a": [1.0]})


def test_an_error_of_the_function_is_the_callers(ask_or_await):
    def fn(feeds):
        raise ZeroDivisionError("in the function")

    with pytest.raises(ZeroDivisionError, match="in the function"):
        ask_or_await(FunctionModel(fn, FLOWER), ROWS)


# Deadline, priority and key.


class Recorder(Wrapper):
    """Keeps the coerced feeds that pass through it."""

    _call = Model._call
    _acall = Model._acall

    def __init__(self, inner):
        super().__init__(inner)
        self.hooks = []

    def _run(self, feeds, outputs, call):
        self.hooks.append(("_run", feeds, outputs, call))
        return self._inner._run(feeds, outputs, call)

    async def _arun(self, feeds, outputs, call):
        self.hooks.append(("_arun", feeds, outputs, call))
        return await self._inner._arun(feeds, outputs, call)


@pytest.fixture
def recorder(model):
    return Recorder(model)


def test_a_plain_call_builds_nothing(recorder, ask_or_await):
    ask_or_await(recorder, ROWS)
    ask_or_await(recorder, ROWS)
    recorder.predict(ROWS)
    calls = [call for _, _, _, call in recorder.hooks]
    assert (calls[0].deadline, calls[0].priority, calls[0].key) == (None, 0, None)
    assert all(call is calls[0] for call in calls)


def test_a_deadline_is_turned_from_seconds_into_a_point_in_time(recorder, ask_or_await):
    before = time.monotonic()
    ask_or_await(recorder, ROWS, deadline=30, priority=-1, key="user 7")
    after = time.monotonic()
    ((_, _, _, call),) = recorder.hooks
    assert before + 30 <= call.deadline <= after + 30
    assert (call.priority, call.key) == (-1, "user 7")


@pytest.mark.parametrize("deadline", [0, -1, -0.5, float("nan")])
def test_a_deadline_is_positive(recorder, ask_or_await, deadline):
    with pytest.raises(
        ValueError, match="deadline is in seconds from now and must be positive; got"
    ):
        ask_or_await(recorder, ROWS, deadline=deadline)
    assert recorder.hooks == []


@pytest.mark.parametrize("priority", [1, -2, 0.5, None, "high"])
def test_a_priority_is_zero_or_minus_one(recorder, ask_or_await, priority):
    with pytest.raises(
        ValueError, match=f"priority is 0, or -1 for work that may wait; got {priority!r}"
    ):
        ask_or_await(recorder, ROWS, priority=priority)
    assert recorder.hooks == []


# What a function may answer.


def test_zero_rows_are_answered_without_the_function():
    def fn(feeds):
        raise AssertionError

    model = FunctionModel(fn, FLOWER)
    outputs = model.run(ROWS[:0])
    assert outputs["label"].shape == (0,)
    assert outputs["label"].dtype == object
    assert outputs["probabilities"].shape == (0, 2)
    assert outputs["probabilities"].dtype == np.float32
    assert asyncio.run(model.apredict(ROWS[:0])).shape == (0,)


def test_numpy_strings_become_objects(model):
    assert model.predict(ROWS).dtype == object


def test_outputs_that_were_not_asked_for_may_be_left_out():
    only_labels = FunctionModel(lambda feeds: {"label": np.array(LABELS)}, FLOWER)
    assert only_labels.predict(ROWS).tolist() == LABELS
    with pytest.raises(
        ModelkitError, match=r"gave \['label'\], without the outputs \['probabilities'\]"
    ):
        only_labels.run(ROWS)


@pytest.mark.parametrize("rows", [0, 3, 5])
def test_another_number_of_rows_is_refused(ask_or_await, rows):
    def fn(feeds):
        return {
            "label": np.array(LABELS[:1] * rows, object),
            "probabilities": np.ones((rows, 2), np.float32),
        }

    with pytest.raises(
        OutputCountError, match=f"gave {rows} rows of '.*' for 4 rows of input"
    ) as error:
        ask_or_await(FunctionModel(fn, FLOWER), ROWS)
    assert (error.value.expected, error.value.got) == (4, rows)


@pytest.mark.parametrize(
    ("answer", "width"),
    [
        (np.ones(4, np.float64), None),
        (np.ones(4, np.int64), None),
        (np.ones(4, bool), None),
        (np.array(["1"] * 4), None),
        ([1.0] * 4, None),
        (np.ones((4, 1), np.float32), None),
        (np.float32(1), None),
        (np.ones(4, np.float32), 1),
        (np.ones((4, 3), np.float32), 2),
    ],
    ids=[
        "float64",
        "integers",
        "booleans",
        "strings",
        "a list of floats",
        "rank 2",
        "rank 0",
        "rank 1",
        "too wide",
    ],
)
def test_an_output_of_another_dtype_or_shape_is_refused(answer, width):
    with pytest.raises(
        ModelkitError, match=r"the function gave .* for the output prediction: float32\[batch"
    ):
        regression(lambda feeds: {"prediction": answer}, width).predict(ROWS)


@pytest.mark.parametrize("answer", [None, 1.0, np.ones(4, np.float32), [np.ones(4, np.float32)]])
def test_an_answer_without_names_is_refused(answer):
    with pytest.raises(ModelkitError, match="the function gave"):
        regression(lambda feeds: answer).predict(ROWS)


def test_inputs_and_outputs_share_their_named_dimensions():
    signature = Signature(
        (TensorSpec("ids", "int64", ("batch", "seq")),),
        (TensorSpec("per_token", "float32", ("batch", "seq")),),
    )
    ids = np.ones((2, 3), np.int64)
    same = FunctionModel(lambda feeds: {"per_token": feeds["ids"].astype(np.float32)}, signature)
    assert same.predict(ids).shape == (2, 3)
    shorter = FunctionModel(
        lambda feeds: {"per_token": feeds["ids"][:, 1:].astype(np.float32)}, signature
    )
    with pytest.raises(ModelkitError, match=r"dimension 'seq' is 3 in .*, but 2 in 'per_token'"):
        shorter.predict(ids)


def test_a_model_without_a_batch_dimension_may_answer_in_any_number():
    total = Signature(
        (TensorSpec("X", "float32", ("n", 2)),), (TensorSpec("total", "float32", ()),)
    )
    model = FunctionModel(lambda feeds: {"total": feeds["X"].sum()}, total)
    assert model.predict(np.ones((3, 2), np.float32)) == 6
    assert model.predict(np.ones((0, 2), np.float32)) == 0


# Closing.


def test_a_closed_model_refuses_every_verb(model, ask_or_await):
    model.close()
    model.close()
    with pytest.raises(ClosedError, match="the model was closed"):
        ask_or_await(model, ROWS)


def test_a_closed_model_refuses_zero_rows_too(model, ask):
    model.close()
    with pytest.raises(ClosedError):
        ask(model, ROWS[:0])


def test_a_model_is_a_context_manager(model):
    with model as same:
        assert same is model
        assert model.predict(ROWS).tolist() == LABELS
    with pytest.raises(ClosedError):
        model.predict(ROWS)


def test_a_context_closes_the_model_and_lets_the_error_through(model):
    with pytest.raises(ZeroDivisionError), model:
        raise ZeroDivisionError
    with pytest.raises(ClosedError):
        model.predict(ROWS)


def test_a_wrapper_does_not_close_what_it_wraps(model):
    with Recorder(model) as wrapper:
        wrapper.predict(ROWS)
    assert model.predict(ROWS).tolist() == LABELS


# Wrappers.


def test_a_wrapper_keeps_the_contract(recorder):
    check_model(recorder, ROWS)


def test_every_verb_goes_through_the_hooks_and_asks_for_what_it_answers(recorder):
    for verb in VERBS:
        getattr(recorder, verb)(ROWS)
        asyncio.run(getattr(recorder, f"a{verb}")(ROWS))
    assert [(hook, outputs) for hook, _, outputs, _ in recorder.hooks] == [
        ("_run", ("label", "probabilities")),
        ("_arun", ("label", "probabilities")),
        ("_run", ("label",)),
        ("_arun", ("label",)),
        ("_run", ("probabilities",)),
        ("_arun", ("probabilities",)),
    ]


def test_rows_are_coerced_once_however_deep_the_wrapping(recorder, ask_or_await):
    outer = Recorder(recorder)
    stream = pa.table({"b": [1.0, 2.0], "a": [3.0, 4.0]}).to_reader()  # it can be read only once
    ask_or_await(outer, stream)
    assert outer.signature.coerce(stream)["X"].shape == (0, 2)
    ((_, feeds, _, _),) = outer.hooks
    np.testing.assert_array_equal(feeds["X"], np.array([[3, 1], [4, 2]], np.float32))
    assert recorder.hooks[0][1] is feeds
    assert len(recorder.hooks) == 1


def test_rows_that_do_not_fit_never_reach_a_wrapper(recorder, ask_or_await):
    with pytest.raises(SignatureError):
        ask_or_await(recorder, ROWS.rename(columns={"a": "A"}))
    assert recorder.hooks == []


def test_a_wrapper_passes_on_what_the_wrapped_model_says(model):
    outer = Recorder(Recorder(model))
    assert outer.inner.inner is outer.base is model
    assert model.base is model
    assert model.inner is None
    for each in (model, outer):
        assert each.placement is None
        assert each.manifest is None
        assert dict(each.attachments) == {}
        assert each.signature is FLOWER
    with pytest.raises(TypeError):
        outer.attachments["profile"] = b""


def test_a_wrapper_passes_on_placement_manifest_and_attachments(model):
    class Stored(Recorder):
        placement, manifest, attachments = "cpu", "a manifest", {"profile": b""}

    outer = Recorder(Stored(model))
    assert (outer.placement, outer.manifest, outer.attachments) == (
        "cpu",
        "a manifest",
        {"profile": b""},
    )


def test_without_golden_rows_there_is_nothing_to_warm_up_or_verify(recorder):
    for verb in (recorder.warmup, recorder.verify):
        with pytest.raises(PackageError, match="FunctionModel holds no golden rows"):
            verb()


def test_a_model_is_shown_with_its_signature(model):
    assert repr(model) == f"<FunctionModel: {FLOWER}>"
    page = model._repr_html_()
    for part in ("FunctionModel", "probabilities", "iris, rose", "a, b (float32)"):
        assert part in page


# What scikit-learn asks of an estimator.


def test_a_classifier_has_classes_and_others_do_not(model):
    assert model.classes_.tolist() == ["iris", "rose"]
    assert not hasattr(regression(), "classes_")


@pytest.mark.parametrize("shape", [("batch",), ("batch", "seq")])
def test_features_are_counted_where_their_number_is_fixed(model, shape):
    assert model.n_features_in_ == 2
    texts = FunctionModel(flower, Signature((TensorSpec("text", "string", shape),), FLOWER.outputs))
    assert not hasattr(texts, "n_features_in_")


def test_fit_is_refused_with_the_way_out(model):
    with pytest.raises(
        TypeError,
        match=r"FunctionModel is already trained and cannot be fitted.*FrozenEstimator\(model\)",
    ):
        model.fit(ROWS, LABELS)


def test_scikit_learn_knows_classifiers_and_regressors(model):
    from sklearn.base import is_classifier, is_regressor
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(model)
    assert (is_classifier(model), is_regressor(model)) == (True, False)
    assert (is_classifier(regression()), is_regressor(regression())) == (False, True)
    assert (is_classifier(Recorder(model)), is_regressor(Recorder(model))) == (True, False)


def test_scikit_learn_is_told_of_strings_and_missing_values():
    from sklearn.utils import get_tags

    def tags(column):
        signature = Signature(
            (TensorSpec("c", column.dtype, ("batch", 1), (column,)),), FLOWER.outputs
        )
        given = get_tags(FunctionModel(flower, signature)).input_tags
        return given.string, given.allow_nan

    assert tags(Column("c", "float64")) == (False, False)
    assert tags(Column("c", "float64", nullable=True)) == (False, True)
    assert tags(Column("c", "string")) == (True, False)


@pytest.mark.parametrize(
    "scoring", ["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "neg_log_loss"]
)
def test_a_scorer_scores_a_model_as_it_scores_an_estimator(model, recorder, scoring):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import get_scorer

    # The same decision function as `flower`: a logistic regression with both coefficients 1.
    estimator = LogisticRegression().fit(ROWS[["a", "b"]], LABELS)
    estimator.coef_, estimator.intercept_ = np.ones((1, 2)), np.zeros(1)
    truth = ["rose", "iris", "rose", "rose"]
    expected = get_scorer(scoring)(estimator, ROWS[["a", "b"]], truth)
    for each in (model, recorder):
        assert get_scorer(scoring)(each, ROWS, truth) == pytest.approx(expected, abs=1e-6)


def test_a_scorer_scores_a_regression():
    from sklearn.metrics import get_scorer

    assert get_scorer("r2")(regression(), ROWS, [4.0, -2.0, -0.5, 2.0]) == 1


def test_a_frozen_model_is_cross_validated_and_calibrated(model):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import cross_val_score

    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["b", "a"])
    y = model.predict(X)
    assert cross_val_score(FrozenEstimator(model), X, y, scoring="accuracy", cv=3).tolist() == [
        1,
        1,
        1,
    ]
    calibrated = CalibratedClassifierCV(FrozenEstimator(model)).fit(X, y)
    assert calibrated.predict_proba(X).shape == (60, 2)
    assert (calibrated.predict(X) == y).mean() > 0.9


def test_permutation_importance_asks_the_model(model):
    from sklearn.inspection import permutation_importance

    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    flat = permutation_importance(
        model, X, model.predict(X), scoring="accuracy", n_repeats=2, random_state=0
    )
    assert (flat.importances_mean > 0).all()


def test_a_function_cannot_change_the_rows_of_its_caller():
    def double(feeds):
        feeds["X"] *= 2
        return {"y": feeds["X"]}

    spec = TensorSpec("X", "float64", ("batch", 2))
    signature = Signature((spec,), (TensorSpec("y", "float64", ("batch", 2)),))
    rows = np.ones((3, 2))
    with pytest.raises(ValueError, match="read-only"):
        FunctionModel(double, signature).predict(rows)
    assert rows.tolist() == np.ones((3, 2)).tolist()
    assert rows.flags.writeable
    texts = Signature(
        (TensorSpec("t", "string", ("batch", 1)),), (TensorSpec("y", "float64", ("batch",)),)
    )
    words = np.array([["a"], ["b"]], object)

    def upper(feeds):
        feeds["t"][:] = "A"
        return {"y": np.ones(2)}

    with pytest.raises(ValueError, match="read-only"):
        FunctionModel(upper, texts).predict(words)
    assert words.tolist() == [["a"], ["b"]]
    scalar = Signature((TensorSpec("r", "int64", ()),), (TensorSpec("y", "int64", ()),))
    assert (
        FunctionModel(lambda feeds: {"y": feeds["r"] + 1}, scalar).run({"r": np.array(3)})["y"] == 4
    )
