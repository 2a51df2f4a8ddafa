"""Slow answers as events: which calls take longer than the champion's quantiles of the hour before."""

from __future__ import annotations

import numpy as np
from benchmarks.common.measure import judge, table
from benchmarks.rollout.errors import LIMIT, figure
from benchmarks.rollout.ours import ALPHA, Array, first_at, values
from benchmarks.rollout.traffic import MINUTES, generator, level
from scipy import stats

SHARE, VOLUME = 0.05, 50_000
HOUR, WINDOW = 60, 5
QUANTILES = (0.5, 0.9, 0.99)
CANDIDATES = {  # how many times as long; and how many of its answers take ten times as long, besides
    "equal": (1.0, 0.0),
    "1.1 times": (1.1, 0.0),
    "1.3 times": (1.3, 0.0),
    "2 % more take ten times": (1.0, 0.02),
}


def latency(args) -> str:
    """Slow candidates: share .05, 50,000 calls a day, season and bursts; rolled back, after minutes"""
    lines = []
    for name, (times, tail) in CANDIDATES.items():
        rng = generator(f"latency {name}")
        runs = max(10, args.runs // (1 if name == "equal" else 10))
        levels = 0.25 * level(rng, runs, 0.97)
        stops: dict[str, list[float]] = {}
        for run in range(runs):
            minute, logs, candidate = calls_of(rng, levels[run], times, tail)
            for rule, when in judged_by(minute, logs, candidate).items():
                stops.setdefault(rule, []).append(when)
        shown = {rule: np.array(found) for rule, found in stops.items()}
        ours = float((shown["modelkit"] < MINUTES).mean())
        limit = LIMIT if name == "equal" else None
        lines.append([name, *map(stopped, shown.values()), *judge(ours, "at most", limit)])
    rules = [
        "Argo: p99 > 1.5 x usual, limit 3",
        "alarm: 2 of 2 windows",
        "t test 1 %, hourly",
        "Mann-Whitney 1 %, hourly",
        "modelkit 1 %",
    ]
    return table(" | ".join(["candidate", *rules, "target", "reached"]), lines)


def stopped(when: Array) -> str:
    caught = when[when < MINUTES]
    share = figure(len(caught) / len(when))
    return f"{share}, {np.median(caught) + 1:.0f}" if len(caught) else share


def calls_of(
    rng: np.random.Generator, levels: Array, times: float, tail: float
) -> tuple[Array, Array, Array]:
    """The minute, the logarithm of the seconds, and the arm of each call of a day."""
    turn = np.sin(2 * np.pi * np.arange(MINUTES) / MINUTES)
    minute = np.repeat(np.arange(MINUTES), rng.poisson(VOLUME / MINUTES * (1 + 0.6 * turn)))
    count = len(minute)
    logs = (levels + 0.2 * turn)[minute] + 0.5 * rng.normal(size=count)
    logs += np.log(10) * (rng.random(count) < 0.01)
    candidate = rng.random(count) < SHARE
    logs += candidate * np.log(times) + np.log(10) * (candidate & (rng.random(count) < tail))
    return minute, logs, candidate


def judged_by(minute: Array, logs: Array, candidate: Array) -> dict[str, float]:
    """The minute at which each rule rolls back; MINUTES if never."""
    high = tails(minute, logs, candidate)
    return {
        "Argo": at(np.cumsum(high) > 3, WINDOW),
        "alarm": at(high & np.concatenate([[False], high[:-1]]), WINDOW),
        "t": at(hourly(minute, logs, candidate, t_test), HOUR),
        "MW": at(hourly(minute, logs, candidate, ranks), HOUR),
        "modelkit": float(slow_events(minute, logs, candidate)),
    }


def at(reached: Array, every: int) -> float:
    return float(reached.argmax() * every + every - 1) if reached.any() else MINUTES


def tails(minute: Array, logs: Array, candidate: Array) -> Array:
    """Whether the candidate's 99 % quantile of a window is above 1.5 times the champion's of the day."""
    usual = np.quantile(logs[~candidate], 0.99)
    own, at_minute = logs[candidate], minute[candidate]
    parts = np.split(own, np.searchsorted(at_minute, np.arange(WINDOW, MINUTES, WINDOW)))
    return np.array(
        [len(part) > 0 and np.quantile(part, 0.99) > usual + np.log(1.5) for part in parts]
    )


def hourly(minute: Array, logs: Array, candidate: Array, test) -> Array:
    """Whether a test of all calls since the start rejects at the end of each hour."""
    found = np.zeros(MINUTES // HOUR, bool)
    for hour in range(len(found)):
        so_far = minute < (hour + 1) * HOUR
        found[hour] = test(logs[so_far & candidate], logs[so_far & ~candidate])
        if found[hour]:
            break
    return found


def t_test(own: Array, others: Array) -> bool:
    error = np.sqrt(own.var() / len(own) + others.var() / len(others))
    return bool(own.mean() - others.mean() > stats.norm.isf(ALPHA) * error)


def ranks(own: Array, others: Array) -> bool:
    found = stats.mannwhitneyu(
        own, others[:: max(1, len(others) // 5000)], alternative="greater", method="asymptotic"
    )
    return bool(found.pvalue < ALPHA)


def slow_events(minute: Array, logs: Array, candidate: Array) -> int:
    """The mean of the evidence of three thresholds, each the champion's of the hour before."""
    counts = np.zeros((len(QUANTILES), 2, MINUTES))
    cuts = np.searchsorted(minute, np.arange(0, MINUTES + 1, HOUR))
    for hour in range(1, MINUTES // HOUR):
        before, now = slice(cuts[hour - 1], cuts[hour]), slice(cuts[hour], cuts[hour + 1])
        limits = np.quantile(logs[before][~candidate[before]], QUANTILES)
        for place, limit in enumerate(limits):
            slow = logs[now] > limit
            for arm, chosen in enumerate((candidate[now], ~candidate[now])):
                counts[place, arm] += np.bincount(minute[now][slow & chosen], minlength=MINUTES)
    evidence = values(counts[:, 0], counts[:, 1], SHARE).mean(axis=0)
    return int(first_at(evidence[None] >= 1 / ALPHA)[0])
