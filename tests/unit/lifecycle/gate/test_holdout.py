"""Gates on the same rows are counted, and each further one has less of alpha."""

from __future__ import annotations

from functools import partial
from math import fsum

import numpy as np
import pytest
from helpers.examples import examples
from helpers.judged import drawn_rows, judged
from helpers.stores import Troubled
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import NotFound, UsageError
from modelkit.lifecycle.gate.holdout import counted_use, share_of_alpha
from modelkit.store import sequence


def test_each_further_gate_on_the_same_rows_has_less_of_alpha(judged_place, judged_rows):
    registry, candidate, _ = judged_place
    X, y = judged_rows
    first = judged(registry, candidate, judged_rows)
    assert (first.uses, first.spent) == (1, 0.025)
    assert judged(registry, candidate, judged_rows) == first  # the same gate again is the same use
    order = np.random.default_rng(0).permutation(len(y))
    shuffled = judged(registry, candidate, (X.iloc[order], y[order]), margin=0.02)
    assert (shuffled.uses, shuffled.data_digest) == (2, first.data_digest)
    assert shuffled.spent == pytest.approx(0.05 / 6)
    assert shuffled["accuracy"].alpha == shuffled.spent
    assert "alpha / (2 * 3)" in shuffled.notes[0]
    fresh = judged(registry, candidate, (X[:2000], y[:2000]))
    assert fresh.uses == 1
    alone = mk.gate(candidate, registry.fetch("churn", "1.0.0"), X, y, margin=0.03)
    assert (alone.uses, alone.spent) == (0, 0.05)


def test_harm_is_tested_at_all_of_alpha_however_often(judged_place, judged_rows):
    registry, candidate, _ = judged_place
    _, y = judged_rows
    for margin in (0.031, 0.032, 0.033):
        found = judged(
            registry, candidate, judged_rows, margin=margin, slices={"all": np.zeros(len(y))}
        )
    assert found["accuracy where all is 0.0"].alpha == 0.05
    assert found["accuracy"].alpha == pytest.approx(0.05 / 12)


@given(st.floats(1e-6, 0.49), st.integers(1, 400))
def test_the_parts_of_all_uses_never_exceed_alpha(alpha, uses):
    parts = [share_of_alpha(alpha, number) for number in range(1, uses + 1)]
    assert fsum(parts) <= alpha * (uses / (uses + 1)) * (1 + 1e-12)
    assert parts == sorted(parts, reverse=True)


@given(
    gates=st.lists(st.sampled_from("abcd"), max_size=12),
    troubles=st.lists(st.sampled_from(["none", "lost", "rival", "hidden"]), max_size=12),
)
@settings(max_examples=examples(200), deadline=None)
def test_whatever_a_store_does_a_gate_is_one_use_and_no_two_are_the_same(gates, troubles):
    """Answers that are lost, others that are faster, and files that cannot be seen yet."""
    store = Troubled(troubles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "PAUSE", 0.0)
        first = {}
        for gate in gates:
            use = counted_use(store, gate)
            assert first.setdefault(gate, use) == use
    assert len({*first.values()}) == len(first)
    assert max(first.values(), default=0) <= len(first) + len(store.rivals)


def test_versions_and_what_is_not_there(judged_place, judged_rows):
    registry, candidate, _ = judged_place
    by_version = mk.gate(
        candidate, "registry:churn@1.0.0", *judged_rows, margin=0.03, registry=registry
    )
    assert (by_version.alias, by_version.generation) == ("", None)
    for wrong in ("registry:churn", "registry:@champion"):
        with pytest.raises(UsageError, match="NAME@ALIAS"):
            mk.gate(candidate, wrong, *judged_rows, margin=0.03, registry=registry)
    with pytest.raises(NotFound):
        mk.gate(candidate, "registry:churn@latest", *judged_rows, margin=0.03, registry=registry)


def test_other_clusters_are_another_use_of_the_rows(judged_pair, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    rows, y = drawn_rows(np.random.default_rng(0), 300)
    ask = partial(mk.gate, *judged_pair, margin=0.02, registry=registry)
    customers, others = np.random.default_rng(1).integers(0, 90, (2, 300))
    order = np.random.default_rng(2).permutation(300)
    uses = [
        ask(rows, y).uses,
        ask(rows, y, clusters=customers).uses,
        ask(rows, y, clusters=others).uses,
        ask(rows.iloc[order], y[order], clusters=customers[order]).uses,
        ask(rows, y, clusters=[f"customer {at}" for at in customers]).uses,
    ]
    assert uses == [1, 2, 3, 2, 2]


def test_how_rows_are_held_does_not_make_another_hold_out(judged_pair):
    rows, y = drawn_rows(np.random.default_rng(0), 300)
    told = mk.gate(*judged_pair, rows, y, margin=0.02)
    for other, truth in [
        (rows[["b", "a"]], y),
        (rows.to_numpy(), y.astype(float)),
        (rows[::-1], y[::-1].astype(bool)),
    ]:
        assert mk.gate(*judged_pair, other, truth, margin=0.02).to_json() == told.to_json()


def test_an_evaluation_and_a_verdict_of_the_same_rows_have_one_digest(judged_pair):
    rows, y = drawn_rows(np.random.default_rng(0), 300)
    verdict = mk.gate(*judged_pair, rows, y, margin=0.02)
    champion = judged_pair[1]
    assert mk.evaluate(champion, rows, y).data_digest == verdict.data_digest
    assert mk.evaluate(champion, rows[::-1], y[::-1]).data_digest == verdict.data_digest
    for other in ((rows[:299], y[:299]), (rows, 1 - y), (rows + 1e-9, y)):
        assert mk.evaluate(champion, *other).data_digest != verdict.data_digest
