"""Keys that stay in their arm: what is counted of them, for a rollback and for a promotion."""

from __future__ import annotations

import numpy as np
from benchmarks.common.measure import judge, table
from benchmarks.rollout.errors import LIMIT, MARGIN, figure
from benchmarks.rollout.ours import ALPHA, judged, paired, promoted, rolled_back, values
from benchmarks.rollout.rivals import growthbook, z_test
from benchmarks.rollout.traffic import (
    MINUTES,
    QUARTERS,
    Array,
    Day,
    Keys,
    first_events,
    generator,
    keys_of,
    quarters_of,
)

SHARE = 0.1
COUNT, VOLUME = 2_000, 100_000
OFTEN = 6.0  # events of a key in a day, where all are alike
CALLS_OF_A_KEY = 20
FIRST = "modelkit 1 %: first event of each key"
CASES = {
    "equal": (1.0, 0),
    "0.4 times as many": (0.4, 0),
    "twice as many": (2.0, 0),
    "twice, after 12 h": (2.0, QUARTERS // 2),
}


def sticky(args) -> str:
    """Keys that stay in their arm: rollbacks in a day, share .1, by what is counted"""
    cells: dict[str, list[float]] = {}
    populations = {"Pareto, 5 % frail": pareto, "6 events each": alike}
    for name, population in populations.items():
        for case, (risk, since) in CASES.items():
            rng = generator(f"sticky {name} {case}")
            runs = args.runs if case == "equal" else max(20, args.runs // 4)
            keys = population(rng, runs)
            days = quarters_of(rng, keys, VOLUME, risk, since)
            for rule, share in rollbacks(keys, *days).items():
                cells.setdefault(rule, []).append(share)
    names = [f"{name}: {case}" for name in populations for case in CASES]
    lines = []
    for rule, shares in cells.items():
        limit = LIMIT if rule == FIRST else None
        wrong = max(shares[0], shares[len(CASES)])
        lines.append([rule, *map(figure, shares), *judge(wrong, "at most", limit)])
    return table(" | ".join(["counted", *names, "target of equal ones", "reached"]), lines)


def pareto(rng: np.random.Generator, runs: int) -> Keys:
    return keys_of(rng, runs, COUNT, SHARE)


def alike(rng: np.random.Generator, runs: int) -> Keys:
    shape = (runs, COUNT)
    rates = np.full(shape, OFTEN / VOLUME * COUNT)
    return Keys(np.full(shape, 1 / COUNT), rates, rng.random(shape) < SHARE)


def rollbacks(keys: Keys, calls: Day, firsts: Day) -> dict[str, float]:
    """The share of the runs that each rule rolls back."""
    traffic = (keys.calls * keys.candidate).sum(axis=1)
    of_traffic = [
        rolled_back(calls.candidate_events[[run]], calls.champion_events[[run]], share)[0]
        for run, share in enumerate(traffic)
    ]
    of_calls = values(calls.candidate_events, calls.champion_events, SHARE)
    of_firsts = values(firsts.candidate_events, firsts.champion_events, SHARE)
    reached = {
        "z test 1 %: calls": z_test(calls, 0, alpha=ALPHA, every=1) < MINUTES,
        "GrowthBook 5 %: calls": growthbook(calls, 0, every=1) < MINUTES,
        "modelkit 1 %: calls": ever(of_calls),
        "modelkit 1 %: calls, share of the traffic": np.array(of_traffic) < MINUTES,
        FIRST: ever(of_firsts),
        "modelkit 1 %: first events, and calls too": ever(np.minimum(of_firsts, of_calls)),
    }
    return {rule: float(found.mean()) for rule, found in reached.items()}


def ever(evidence: Array) -> Array:
    return evidence.max(axis=1) >= 1 / ALPHA


def promotions_of_keys(args) -> str:
    """Promotions by keys against a margin of 1.5, share .25: means of keys, and first events, which are never used"""
    lines = []
    for count in (2_000, 50_000):
        for risk in (MARGIN, 1.0):
            rng = generator(f"promotions of keys {count} {risk}")
            by_means = [one_rollout(rng, count, risk) for _ in range(args.runs)]
            worse, within = np.array(by_means).T
            first = np.concatenate(
                [
                    first_promoted(rng, min(25, args.runs), count, risk)
                    for _ in range(max(1, args.runs // (25 if count < 10_000 else 100)))
                ]
            )
            done = within[np.isfinite(within)]
            when = f"{np.median(done):,.0f}" if len(done) else "-"
            rate = float(np.isfinite(within).mean())
            limit = LIMIT if risk == MARGIN else None
            cells = [
                figure(rate),
                when,
                figure(float(np.isfinite(worse).mean())),
                *judge(rate, "at most", limit),
            ]
            what = "at the margin" if risk == MARGIN else "equal"
            lines.append([f"{count:,} keys, {what}", *cells, figure(float(first.mean()))])
    header = (
        "keys | promoted by means | after so many of the candidate | shown to be beyond the margin "
        "| target | reached | promoted by first events"
    )
    return table(header, lines)


def one_rollout(rng: np.random.Generator, count: int, risk: float) -> tuple[float, float]:
    """One value for each key: the share of its first 20 calls that failed; a tenth of the keys are frail."""
    share = 0.25
    candidate = rng.random(count) < share
    usual = np.where(rng.random(count) < 0.1, 0.3, 0.002)
    failed = rng.binomial(CALLS_OF_A_KEY, usual * np.where(candidate, risk, 1.0))
    # In units of the margin, the candidate's mean is at most the champion's.
    losses = failed / CALLS_OF_A_KEY / np.where(candidate, MARGIN, 1.0)
    return judged(paired(losses, candidate), 0.0)


def first_promoted(rng: np.random.Generator, runs: int, count: int, risk: float) -> Array:
    """Whether first events promote: what the means of keys are there to avoid."""
    keys = keys_of(rng, runs, count, 0.25, frail=0.1)
    rates = keys.rates * np.where(keys.candidate, risk, 1.0)
    inside, outside = first_events(rng, keys, 100_000, rates)
    return promoted(inside, outside, 0.25, MARGIN) < MINUTES
