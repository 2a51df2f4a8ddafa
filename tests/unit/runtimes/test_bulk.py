"""Many rows are run in parts, and answered as one."""

import numpy as np
import pytest
from helpers.examples import examples
from helpers.packages import opened
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC

import modelkit as mk
from modelkit.errors import ClosedError, SignatureError
from modelkit.model.model import PLAIN, Model
from modelkit.runtimes.bulk import chunk_bounds


@given(rows=st.integers(0, 10_000), size=st.integers(1, 5_000), threads=st.integers(1, 9))
def test_chunks_cover_every_row_once_and_are_even(rows, size, threads):
    bounds = chunk_bounds(rows, size, threads)
    assert len(bounds) <= threads or len(bounds) % threads == 0 or len(bounds) == rows
    assert [row for start, stop in bounds for row in range(start, stop)] == list(range(rows))
    lengths = [stop - start for start, stop in bounds]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_bulk_run_gives_what_its_rows_give(boosting_mk, breast_cancer, threads):
    X = np.tile(breast_cancer[0].to_numpy(np.float32), (100, 1))
    with mk.load(boosting_mk, threads=threads) as model:
        assert len(X) > 3 * model._chunk
        bulk = model.run(X)
        small = model.run(X[: len(breast_cancer[0])])
        for name, array in bulk.items():
            np.testing.assert_array_equal(array, np.concatenate([small[name]] * 100))


def test_bulk_strings(penguins_mk, penguins):
    import pandas as pd

    X = pd.concat([penguins[0]] * 120, ignore_index=True)
    with mk.load(penguins_mk) as model:
        assert len(X) > model._chunk
        np.testing.assert_array_equal(model.predict(X), np.tile(model.predict(penguins[0]), 120))


def test_a_failure_in_a_bulk_run_reaches_the_caller(boosting_mk):
    with mk.load(boosting_mk) as model:
        real, calls = model._run_graph, []

        def fails_late(*arguments):
            calls.append(1)
            if len(calls) == 3:
                raise MemoryError("no room")
            return real(*arguments)

        model._run_graph = fails_late
        with pytest.raises(MemoryError, match="no room"):
            model.predict(np.zeros((100_000, 30), np.float32))


# Estimators, the dtype of their rows, and whether an output tells of each value that is not finite.
LINEAR = {
    "regression": (LinearRegression(), np.float64, True),
    "narrow": (make_pipeline(StandardScaler(), LinearRegression()), np.float32, True),
    "two classes": (LogisticRegression(), np.float64, True),
    "three classes": (LogisticRegression(), np.float32, True),
    "shares": (OneVsRestClassifier(LogisticRegression()), np.float64, True),
    "scores": (LinearSVC(), np.float64, True),
    "exponential": (PoissonRegressor(), np.float64, True),
    "clipped": (make_pipeline(MinMaxScaler(clip=True), LinearRegression()), np.float64, False),
}
MANY = 16_500  # rows of three columns, more than one run takes
VALUES = [np.nan, np.inf, -np.inf, 1e308, -1e308, 1e39, -1e20, 0.0]


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A model of each kind, whose second column has no weight where one was fitted on its own."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    models = {}
    for name, (estimator, dtype, _) in LINEAR.items():
        y = np.arange(60) % (3 if name in ("three classes", "shares") else 2)
        fitted = estimator.fit(X.astype(dtype), y)
        if name in ("regression", "two classes"):
            fitted.coef_[..., 1] = 0.0
        models[name] = opened(fitted, X.astype(dtype), tmp_path_factory.mktemp("linear"))
    yield models
    for model in models.values():
        model.close()


def outcome(call, model, X):
    """What a call gives or raises, to compare."""
    try:
        answers = call(model, X, model.signature.output_names, PLAIN)
    except SignatureError as error:
        return str(error), error.problems, error.rows, error.reasons
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in answers.items()}


@settings(max_examples=examples(300))
@given(
    name=st.sampled_from([*LINEAR]),
    dtype=st.sampled_from([np.float32, np.float64]),
    faults=st.lists(
        st.tuples(st.integers(0, MANY - 1), st.integers(0, 2), st.sampled_from(VALUES)), max_size=3
    ),
    order=st.sampled_from("CF"),
)
@example("regression", np.float64, [(7, 1, np.inf)], "C")
@example("two classes", np.float64, [(7, 0, -np.inf), (9, 1, np.nan)], "C")
@example("narrow", np.float64, [(7, 0, 1e39)], "C")
@example("clipped", np.float64, [(7, 0, np.inf)], "C")
def test_a_bulk_that_nobody_looked_at_is_answered_or_refused_as_one_that_was(
    linear, name, dtype, faults, order
):
    X = np.random.default_rng(1).normal(size=(MANY, 3)).astype(dtype, order=order)
    with np.errstate(over="ignore"):
        for row, column, value in faults:
            X[row, column] = value
    model = linear[name]
    assert X.size > 3 * model._chunk
    assert outcome(type(model)._call, model, X) == outcome(Model._call, model, X)


@pytest.mark.parametrize("name", LINEAR)
def test_what_tells_of_a_value_is_found_by_probes(linear, name):
    model = linear[name]
    model.run(np.ones((MANY, 3)))
    assert model._check_holds == LINEAR[name][2]


def test_a_closed_model_says_first_what_is_wrong_with_a_bulk(tmp_path):
    X = np.zeros((MANY, 3))
    model = opened(LinearRegression().fit(X[:9], np.arange(9)), X[:9], tmp_path)
    model.close()
    with pytest.raises(ClosedError):
        model.predict(X)
    X[5, 2] = np.nan
    with pytest.raises(SignatureError, match="row 5"):
        model.predict(X)
