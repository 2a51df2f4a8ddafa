"""Losses whose labels come late: false decisions at the margin, and rows until the true ones."""

from __future__ import annotations

import numpy as np
from benchmarks.common.measure import judge, table
from benchmarks.rollout.errors import LIMIT, figure
from benchmarks.rollout.ours import Array, judged, paired
from benchmarks.rollout.traffic import generator

MARGIN = 0.01
ROWS, LABELS, KEYS, SHARE = 20_000, 60_000, 2_000, 0.25
SHIFTS = (-0.01, 0.0, MARGIN, 0.02, 0.03)


def losses(args) -> str:
    """Losses from 0 to 1 against a margin of .01 at 1 %: in shadow, and in two arms of share .25"""
    lines = []
    for how, draw in (
        ("shadow, same rows", in_shadow),
        ("two arms", in_arms),
        ("two arms, season", in_season),
    ):
        for shift in SHIFTS:
            rng = generator(f"losses {how} {shift}")
            runs = args.runs if shift == MARGIN else max(20, args.runs // 10)
            found = np.array([judged(draw(rng, shift), MARGIN) for _ in range(runs)])
            worse, within = np.isfinite(found).mean(axis=0)
            wrong = max(worse, within) if shift == MARGIN else within if shift > MARGIN else worse
            cells = [f"{shift:+.3f}", decided(found[:, 0]), decided(found[:, 1])]
            lines.append([how, *cells, *judge(float(wrong), "at most", LIMIT)])
    header = "labels | candidate's mean less the champion's | worse, after | within, after | target | reached"
    return table(header, lines)


def losses_of_keys(args) -> str:
    """Losses of 2,000 Pareto keys that stay in their arm, 60,000 labels, share .25, margin .01: decisions at 1 %"""
    lines = []
    for name, first in (("every loss", False), ("the first loss of each key", True)):
        for shift in (0.0, MARGIN):
            rng = generator(f"losses of keys {first} {shift}")
            runs = max(20, args.runs // 2)
            found = np.array(
                [judged(of_keys(rng, shift, first=first), MARGIN) for _ in range(runs)]
            )
            worse, within = np.isfinite(found).mean(axis=0)
            wrong = float(max(worse, within) if shift else worse)
            what = "at the margin" if shift else "equal"
            judgement = judge(wrong, "at most", LIMIT if first else None)
            lines.append([name, what, figure(worse), figure(within), *judgement])
    return table("counted | candidate | worse | within | target of the wrong ones | reached", lines)


def of_keys(rng: np.random.Generator, shift: float, *, first: bool) -> Array:
    """Each key has a difficulty of its own, and errs as often."""
    traffic = rng.pareto(1.2, KEYS) + 0.05
    difficulty = rng.beta(0.4, 2.0, KEYS) * 0.9
    arms = rng.random(KEYS) < SHARE
    keys = rng.choice(KEYS, LABELS, p=traffic / traffic.sum())
    if first:
        keys = keys[np.sort(np.unique(keys, return_index=True)[1])]
    candidate = arms[keys]
    loss = rng.random(len(keys)) < difficulty[keys] + shift * candidate
    return paired(loss.astype(float), candidate)


def decided(after: Array) -> str:
    """The share of runs that came to it, and the median of the candidate's rows until then."""
    done = after[np.isfinite(after)]
    return figure(len(done) / len(after)) + (f", {np.median(done):,.0f}" if len(done) else "")


def in_shadow(rng: np.random.Generator, shift: float) -> Array:
    """Both models answer each row: losses that agree but for noise of .11."""
    champion = rng.beta(0.4, 2.0, ROWS)
    noise = rng.normal(0, 0.15, ROWS) * (champion > 0.02)
    candidate = np.clip(champion + noise, 0, 1)
    # Clipping lifts the candidate's mean; both losses are clipped, and the mean is taken back.
    return np.clip(candidate - champion - lifted() + shift, -1, 1)


def lifted() -> float:
    global _LIFTED  # it is computed once
    if _LIFTED is None:
        rng = np.random.default_rng(0)
        champion = rng.beta(0.4, 2.0, 4_000_000)
        noise = rng.normal(0, 0.15, len(champion)) * (champion > 0.02)
        _LIFTED = float((np.clip(champion + noise, 0, 1) - champion).mean())
    return _LIFTED


_LIFTED: float | None = None


def in_arms(rng: np.random.Generator, shift: float, level: Array | float = 0.0) -> Array:
    """Each row is answered by one arm, and its label comes in the order of the rows."""
    candidate = rng.random(LABELS) < SHARE
    found = rng.beta(0.4, 2.0, LABELS) * 0.8 + 0.03 + level
    return paired(np.clip(found + shift * candidate, 0, 1), candidate)


def in_season(rng: np.random.Generator, shift: float) -> Array:
    """The same, as both arms' losses move up and down by .05 in ten waves."""
    turn = np.linspace(0, 20 * np.pi, LABELS)
    return in_arms(rng, shift, 0.05 + 0.05 * np.sin(turn))
