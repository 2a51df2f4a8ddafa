"""InputChecks flag what is odd and change no answer; what they refuse says what, which value and why."""

import asyncio
import pickle

import numpy as np
import pandas as pd
import pytest
from helpers.apps import PREDICT, summed
from helpers.client import Client
from helpers.records import hearing
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit.errors import AccessDenied, SignatureError, UsageError
from modelkit.lifecycle.input_checks import MOST_HASHES, rows_of


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def related(n, seed):
    """Rows of two columns of which the second is about the first."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.column_stack([a, a + rng.normal(size=n) / 10])


USUAL = related(2000, 0)
FRESH = related(4000, 1)


def check(**how):
    return mk.InputChecks(summed(), USUAL, **how)


def test_what_flags_changes_no_answer_and_is_counted_and_heard():
    checked = check()
    odd = np.array([[0.0, 0.0], [99.0, 99.0], [2.0, -2.0]])
    with hearing(events.Flagged) as heard:
        np.testing.assert_array_equal(checked.predict(odd), summed().predict(odd))
    assert checked.counts == {"rows": 3, "probing": 0, "range": 1, "novelty": 1, "failures": 0} | {
        "novelty": checked.counts["novelty"]
    }
    of_range, of_novelty = heard
    assert (of_range.check, of_range.rows, of_range.columns) == ("range", 1, ("a", "b"))
    assert (of_novelty.check, of_novelty.refused, of_novelty.principal) == ("novelty", False, None)
    assert str(of_range) == "FunctionModel : 1 row flagged by the check of range in 'a', 'b'"


@pytest.mark.parametrize(
    ("rows", "message", "places"),
    [
        ([[0, 0], [0, 99]], "column 'b': 99 in row 1 is outside of the range from .* to ", (1,)),
        ([[np.inf, 0]], "column 'a': inf in row 0 is outside of the range", (0,)),
        ([[0, 0], [2, -2], [3, 3]], "column '[ab]': -?2 in row 1 does not fit the other", (1,)),
    ],
)
def test_what_is_refused_says_which_column_value_and_row(rows, message, places):
    columns = tuple(mk.Column(name, nullable=True) for name in "ab")
    signature = mk.Signature(
        (mk.TensorSpec("x", "float64", ("batch", 2), columns),),
        (mk.TensorSpec("prediction", "float64", ("batch",)),),
    )
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["x"].sum(axis=1)}, signature)
    checked = mk.InputChecks(model, USUAL, refuse={"range", "novelty"})
    with hearing(events.Flagged) as heard, pytest.raises(SignatureError, match=message) as caught:
        checked.predict(np.array(rows, float))
    assert caught.value.rows == places
    assert heard[-1].refused
    with pytest.raises(SignatureError, match=message):
        asyncio.run(checked.apredict(np.array(rows, float)))


def test_of_rows_like_the_reference_no_more_are_novel_than_was_stated():
    """Split conformal: over references, the share that is flagged is `rate` on average at most."""
    for rate in (0.01, 0.1):
        shares = []
        for seed in range(20):
            checked = mk.InputChecks(summed(), related(1000, 100 + seed), rate=rate)
            checked.predict(FRESH)
            shares.append(checked.counts["novelty"] / len(FRESH))
        error = np.std(shares) / np.sqrt(len(shares))
        assert rate / 2 < np.mean(shares) <= rate + 3 * error


def test_ranges_of_the_caller_hold_to_the_number_and_others_are_widened():
    checked = check(ranges={"a": (-3, 3)}, refuse={"range"})
    width = 2 * np.ptp(USUAL[:, 1])
    checked.predict([[3.0, 0.0], [-3.0, USUAL[:, 1].max() + width * 0.99]])
    for odd in ([3.001, 0.0], [0.0, USUAL[:, 1].max() + width * 1.01]):
        with pytest.raises(SignatureError):
            checked.predict([odd])


VALUES = st.lists(
    st.sampled_from([-1e6, -10.0, 0.0, 1.0, 2.0, 8.0, 9.0, 20.0, 1e3]), min_size=2, max_size=5
)


@given(VALUES, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_profile_has_few_of_its_own_rows_outside_of_its_ranges(values, seed):
    """Also where there are few values, between which its edges may be anywhere."""
    rng = np.random.default_rng(seed)
    rows = {"a": rng.choice(values, 2000), "b": rng.normal(size=2000)}
    profile = mk.Profile.fit(pd.DataFrame(rows), seed=seed)
    checked = mk.InputChecks(summed(), profile)
    checked.predict(np.column_stack([rows["a"], rows["b"]]))
    assert checked.counts["range"] <= 0.06 * 2000
    assert checked.counts["novelty"] == 0


def test_a_profile_knows_the_range_of_a_column_of_many_values(boosting_mk, breast_cancer):
    X, _ = breast_cancer
    profile = mk.Profile.fit(pd.concat([X] * 3))
    rows = rows_of(profile, [*X.columns, "another"])
    assert rows[:, 0].min() < X.iloc[:, 0].median() < rows[:, 0].max() < X.iloc[:, 0].max()
    assert abs(rows[:, -1]).max() > 1e300
    with mk.load(boosting_mk, threads=1) as model:
        checked = mk.InputChecks(model, profile, refuse={"range"})
        checked.predict(X[:100])
        row = X[:1].copy()
        row.iloc[0, 0] *= 1000
        with pytest.raises(SignatureError, match=X.columns[0]):
            checked.predict(row)
        with pytest.raises(UsageError, match="lacks a profile"):
            mk.InputChecks(model)


def test_a_profile_with_a_category_that_hardly_any_row_has_gives_ranges():
    """A column of texts has no edges, and few rows in its second cell."""
    rng = np.random.default_rng(0)
    rows = {"a": rng.normal(size=6000), "b": np.full(6000, 7.0)}
    texts = {"text": ["rare", *["often"] * 5999]}
    checked = mk.InputChecks(summed(), mk.Profile.fit(pd.DataFrame(rows | texts)))
    checked.predict([[0.0, 7.0], [99.0, 7.0]])
    assert (checked.counts["range"], checked.counts["failures"]) == (1, 0)


# Probing.


def near(n, seed=3, width=1e-3):
    """Rows that differ by little, as an attack sends them."""
    return np.array([0.2, 0.3]) + np.random.default_rng(seed).normal(size=(n, 2)) * width


def test_rows_that_differ_by_little_are_flagged_and_rows_by_chance_are_not():
    checked = check(probing=50)
    for row in near(40):
        checked.predict(row[None])
    assert checked.counts["probing"] == 0
    checked.predict(near(20, seed=4))
    assert checked.counts["probing"] > 0
    others = check(probing=50)
    others.predict(FRESH)
    for row in FRESH[:300]:
        others.predict(row[None])
    assert others.counts["probing"] == 0


def test_one_column_after_another_is_probing_too():
    rows = np.array([[0.2, b] for b in np.linspace(-2, 2, 70)])
    checked = check(probing=50)
    for row in rows:
        checked.predict(row[None])
    assert checked.counts["probing"] == 20


def test_of_a_call_with_too_many_near_rows_all_of_them_are_flagged():
    checked = check(probing=50)
    odd = FRESH[np.abs(FRESH[:, 0]) > 2][:40]
    checked.predict(np.vstack([near(50), odd]))
    assert checked.counts["probing"] == 0
    checked.predict(np.vstack([near(20, seed=4), odd]))
    assert checked.counts["probing"] == 20


def test_a_row_that_is_sent_again_counts_once():
    checked = check(probing=5)
    for _ in range(100):
        checked.predict(near(1))
    checked.predict(np.repeat(near(1), 100, axis=0))
    assert checked.counts["probing"] == 0


def test_clients_are_counted_apart_by_principal_and_by_key_and_windows_end():
    clock = Clock()
    checked = check(probing=20, clock=clock, window=60, refuse={"probing"})
    for at, row in enumerate(near(15)):
        checked.predict(row[None], key=f"customer {at % 2}")
        with mk.acting_as(f"principal {at % 2}"):
            checked.predict(row[None], key="one key")
    clock.now = 59.9
    checked.predict(near(10, seed=5), key="another")
    with (
        hearing(events.Flagged) as heard,
        mk.acting_as("principal 0"),
        pytest.raises(AccessDenied, match="more than 20 rows"),
    ):
        checked.predict(near(30, seed=6), key="a fresh key")
    assert heard[0].principal == "principal 0"
    clock.now = 60.0
    with mk.acting_as("principal 0"):
        checked.predict(near(10, seed=6))


def test_no_row_is_kept_and_the_memory_does_not_grow():
    marker = 0.123456789012345
    checked = mk.InputChecks(summed(), np.vstack([USUAL, [[marker, marker]]]), window=1e9)
    checked.predict(np.array([[marker, marker]]))
    checked.predict(FRESH)
    data = pickle.dumps([*vars(checked).values()])
    for value in (marker, FRESH[0, 0], checked._scaled(FRESH)[0, 0]):
        assert np.float64(value).tobytes() not in data
    checked.predict(related(70_000, 7))
    assert len(checked._hashes) <= MOST_HASHES + 4


# Beside other layers.


def test_an_error_of_a_check_reaches_a_caller_only_where_a_check_refuses():
    def fails():
        raise LookupError("no time")

    checked, refusing = check(), check(refuse={"range"})
    checked._clock = refusing._clock = fails
    assert checked.predict(USUAL[:1]).shape == (1,)
    assert checked.counts["failures"] == 1
    with pytest.raises(LookupError):
        refusing.predict(USUAL[:1])


def test_rows_that_do_not_fit_are_left_to_the_model_which_counts_them():
    checked = mk.InputChecks(mk.Meter(summed()), USUAL)
    before = checked.inner.totals().calls["signature"]
    with pytest.raises(SignatureError, match="must have shape"):
        checked.predict(np.ones((1, 9)))
    assert checked.inner.totals().calls["signature"] == before + 1
    assert checked.counts["rows"] == 0


def test_it_stands_where_the_order_of_layers_has_it(tmp_path):
    policy = lambda principal, action, about: True  # noqa: E731
    with mk.layered(summed(), checks={"reference": USUAL}) as served:
        kinds = []
        layer = served
        while layer is not None:
            kinds.append(type(layer).__name__)
            layer = layer.inner
        assert kinds == ["InputChecks", "Meter", "Batcher", "FunctionModel"]
        assert served.predict(USUAL[:3]).shape == (3,)
        assert mk.Guarded(served, policy).predict(USUAL[:3]).shape == (3,)
        for outer in (mk.Meter, mk.layered, lambda model: mk.Rollout(model, model, share=0.5)):
            with pytest.raises(UsageError, match="InputChecks is a layer outside of"):
                outer(served)
        with pytest.raises(UsageError, match="outside"):
            mk.Batcher(served)
        with pytest.raises(UsageError, match="Guarded is a layer outside of InputChecks"):
            mk.InputChecks(mk.Guarded(summed(), policy), USUAL)
        with pytest.raises(UsageError):
            mk.InputChecks(served, USUAL)


def test_around_a_rollout_all_versions_share_what_was_counted():
    with mk.Rollout(summed(), summed(), share=0.5, seed=0) as rollout:
        checked = mk.InputChecks(rollout, USUAL, probing=20)
        for at, row in enumerate(near(15)):
            checked.predict(row[None], key=f"{at}")
        pinned = checked._for_key("7")
        assert pinned is not checked
        pinned.predict(near(30, seed=9), key="k")
        assert checked.counts["probing"] == pinned.counts["probing"] > 0
        assert checked.unobserved is rollout


def test_over_http_a_refusal_is_422_and_probing_is_403():
    checked = check(refuse={"range", "probing"}, probing=3)
    rows = [{"a": a, "b": b} for a, b in near(9).tolist()]
    with Client(mk.App({"sum": checked})) as client:
        outside = client.post(PREDICT, json={"rows": [{"a": 1.0, "b": 99.0}]})
        probing = client.post(PREDICT, json={"rows": rows})
    assert outside.status == 422
    assert "column 'b': 99 in row 0 is outside of the range" in outside.json()["error"]
    assert probing.status == 403
    assert "differ by little" in probing.json()["error"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"refuse": "range"}, "refuse is some of"),
        ({"refuse": {"ranges"}}, "refuse is some of"),
        ({"probing": -1}, "probing 0 or more"),
        ({"probing": "a"}, "probing 0 or more"),
        ({"window": 0}, "window above 0"),
        ({"window": None}, "window above 0"),
        ({"rate": "a"}, "rate is a share"),
        ({"rate": 0.0001}, "of a reference of 2,000 rows"),
        ({"rate": 0}, "rate is a share"),
        ({"rate": 1}, "rate is a share"),
        ({"ranges": {"c": (0, 1)}}, "ranges has"),
        ({"ranges": {"a": (1, 0)}}, "ranges maps names of columns"),
        ({"ranges": {"a": (0, 1, 2)}}, "ranges maps names of columns"),
        ({"ranges": {"a": ("0", "1")}}, "ranges maps names of columns"),
        ({"rate": np.nan}, "rate is a share"),
        ({"reference": USUAL[:9]}, "of a reference of 9 rows"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(how, message):
    with pytest.raises(UsageError, match=message):
        mk.InputChecks(summed(), **{"reference": USUAL} | how)


def test_a_model_without_columns_of_numbers_is_refused(encoder):
    with pytest.raises(UsageError, match="named columns of numbers"):
        mk.InputChecks(encoder, ["a text"])


def test_a_pickled_one_checks_what_it_did(boosting_mk, breast_cancer):
    X, _ = breast_cancer
    with mk.load(boosting_mk, threads=1) as model:
        checked = mk.InputChecks(model, X, refuse={"range"})
        again = pickle.loads(pickle.dumps(checked))
        row = X[:1].copy()
        row.iloc[0, 0] = 1e9
        for each in (checked, again):
            with pytest.raises(SignatureError, match="1e\\+09 in row 0"):
                each.predict(row)


def test_missing_numbers_constant_columns_and_numbers_of_any_size_are_taken():
    columns = tuple(mk.Column(name, nullable=True) for name in "abcd")
    signature = mk.Signature(
        (mk.TensorSpec("x", "float64", ("batch", 4), columns),),
        (mk.TensorSpec("prediction", "float64", ("batch",)),),
    )
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["x"][:, 0]}, signature)
    rng = np.random.default_rng(0)
    usual = np.column_stack(
        [
            rng.normal(size=400),
            np.full(400, 7.0),
            np.full(400, np.nan),
            rng.choice([-1e308, 1e308], 400),
        ]
    )
    usual[::5, 0] = np.nan
    checked = mk.InputChecks(model, usual)
    checked.predict(usual)
    assert checked.counts["range"] == checked.counts["failures"] == 0
    checked.predict(np.array([[0, 7.5, 0, 0], [0, 7, np.inf, 0], [0, 7, 5, 0], usual[1]]))
    assert checked.counts["range"] == 3  # there never was a number in the third column
    assert checked.predict(np.empty((0, 4))).shape == (0,)
