"""The benchmark of rollouts: many runs at once are those of the library, and a short one says what a long one does."""

from __future__ import annotations

import math
from itertools import repeat
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks.rollout import broken, errors, keys, ours, rivals, routing, stress
from benchmarks.rollout.traffic import MINUTES, World, day_of, keys_of, quarters_of

from modelkit.lifecycle.rollout.arms import Events, Worse, log_better
from modelkit.lifecycle.rollout.keyed import Pairing
from modelkit.model.identity import Identity
from modelkit.model.model import PLAIN

RUNS = SimpleNamespace(runs=20, changes=50)


@pytest.fixture(scope="module")
def day():
    return day_of(np.random.default_rng(0), 5, World(100_000, 0.01, 0.05, risk=2, bursty=True))


def test_many_runs_at_once_are_those_of_the_library(day):
    shares = np.repeat([0.05, 0.25], MINUTES // 2)
    values = ours.values(day.candidate_events, day.champion_events, shares, 1.2)
    better = ours.mixture(day.candidate_events, day.champion_events, 0.05, 1.5)
    for run in (0, 4):
        worse = Worse(np.array([1.2]))
        counts = zip(
            shares.tolist(),
            day.candidate_events[run].tolist(),
            day.champion_events[run].tolist(),
            strict=True,
        )
        for minute, tick in enumerate(counts):
            worse.tick(Events(*tick))
            assert values[run, minute] == pytest.approx(worse.value[0], rel=1e-9)
        whole = Events(
            np.array([0.05]),
            day.candidate_events[run].sum(keepdims=True),
            day.champion_events[run].sum(keepdims=True),
        )
        assert better[run, -1] == pytest.approx(log_better(whole, 1.5), rel=1e-9)


def test_pairs_at_once_are_those_of_the_library():
    rng = np.random.default_rng(0)
    losses, candidate = rng.random(500), rng.random(500) < 0.4
    pairing = Pairing()
    expected = []
    for loss, arm in zip(losses.tolist(), candidate.tolist(), strict=True):
        before = pairing.take(loss, candidate=arm)
        if before is not None:
            expected.append(loss - before)
    assert ours.paired(losses, candidate) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_keys_count_once_where_first_events_are_counted():
    keys_drawn = keys_of(np.random.default_rng(0), 3, 200, 0.25)
    calls, firsts = quarters_of(np.random.default_rng(1), keys_drawn, 10_000)
    assert (firsts.candidate_events.sum(axis=1) <= keys_drawn.candidate.sum(axis=1)).all()
    assert (firsts.candidate_events <= calls.candidate_events).all()
    assert (firsts.champion_events <= calls.champion_events).all()
    assert calls.candidate.sum() + calls.champion.sum() == pytest.approx(30_000, rel=0.05)


def test_the_rules_of_others_stop_where_they_should():
    quiet = day_of(np.random.default_rng(0), 3, World(100_000, 0.0, 0.05))
    loud = day_of(np.random.default_rng(0), 3, World(1_000_000, 0.01, 0.05, risk=20))
    for name, rule in (rivals.RULES | {"kayenta": rivals.kayenta}).items():
        if rule is not rivals.flagger:  # a minute without calls fails its check
            assert (rule(quiet, 0.01) == MINUTES).all(), name
        assert (rule(loud, 0.01) < MINUTES / 12).all(), name


def rows_of(printed):
    lines = [line.strip("| ").split(" | ") for line in printed.splitlines()]
    return {line[0]: line[1:] for line in lines[2:]}


def test_the_tables_of_a_short_run_say_what_the_long_ones_do():
    rows = rows_of(errors.false_rollbacks(RUNS))
    assert len(rows) == 12
    assert float(rows["modelkit 1 %"][12]) <= 0.1
    assert float(rows["Flagger: > 2p in 5 min of all"][12]) == 1
    assert "1,000" in errors.late(RUNS) or "ratio" in errors.late(RUNS)
    rows = rows_of(keys.sticky(RUNS))
    assert float(rows[keys.FIRST][0]) <= 0.1
    rows = rows_of(broken.broken(RUNS))
    assert float(rows["as assumed"][0]) <= 0.1
    assert float(rows["a client retries, and the retry goes to the other arm"][0]) > 0.9
    rows = rows_of(broken.ramp(RUNS))
    assert [float(row[0]) for row in rows.values()] == [1, 1, 0]


def test_routing_is_measured_with_what_answers_as_the_model_does():
    case = routing.function()
    expected = case.champion._call(case.rows, case.names, PLAIN)
    for model in (
        routing.Fixed(case.champion),
        routing.at_rest(case),
        routing.Swappable(case.champion),
    ):
        assert np.array_equal(model._call(case.rows, case.names, PLAIN)["y"], expected["y"])
    rollout = routing.under_way(case, counted=True)
    routing.work(case, rollout, repeat(PLAIN))()
    counts = rollout._switch.session.collect()
    assert sum((counts.calls.candidate, counts.calls.champion)) == routing.CALLS
    figures = routing.measured(case, 2)
    assert set(routing.LIMITS) <= set(figures)


def test_swaps_lose_and_mix_nothing_and_what_is_mixed_is_seen():
    rows = rows_of(stress.stress(SimpleNamespace(runs=1)))
    del rows["MiB more than at a third of the swaps"]  # which other tests use as well
    assert [row[-1] for row in rows.values() if len(row) == 3] == ["yes"] * 7
    load = stress.Load(None)
    signed = type(routing.at_rest(routing.function()).run(np.zeros((1, 3), np.float32)))
    asked = np.full((2, 1), 5, np.float32)
    for version, added, served, mixed in [(3, 3, 3, 0), (3, 3, 4, 1), (3, 4, 3, 1), (3, 4, 4, 1)]:
        answers = signed(version=np.full((2, 1), version), y=asked + added * stress.APART)
        answers.served_by = Identity("versions", str(served), "")
        before = load.mixed
        load._check(answers, asked, 0)
        assert load.mixed - before == mixed


def test_losses_that_never_decide_are_no_decision():
    assert ours.judged(np.zeros(0), 0.01) == (math.inf, math.inf)
