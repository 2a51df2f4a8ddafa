"""What routing, evidence, a swap and a look for news add to a call."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle, repeat
from pathlib import Path

import numpy as np
from benchmarks.common.cases import save
from benchmarks.common.measure import judge, table
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

import modelkit as mk
from modelkit.lifecycle.rollout.answering import Arm
from modelkit.lifecycle.rollout.counting import WITHOUT_KEY, CountedCall
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.lineup import Lineup
from modelkit.model.activation import Active
from modelkit.model.model import PLAIN, Call
from modelkit.model.wrapper import Wrapper

CALLS = 100  # of a turn, which takes less than a millisecond and is seldom interrupted
MOST_ROUNDS = 400
TICKS, IN_A_TICK = 9, 10_000  # ten seconds of 1,000 calls a second
KEYS = 1_000  # of a tick, each with ten calls
NEVER = 1e8  # seconds
Times = dict[str, np.ndarray]
BARE = "bare"


def routing(args) -> str:
    """What a Rollout adds to the `_call` of its Models, in microseconds"""
    rounds = max(10, min(MOST_ROUNDS, args.runs))
    columns = [measured(case, rounds) for case in (function(), package())]
    polled = poll(rounds)
    lines = [line(what, [each[what] for each in columns]) for what in columns[0]]
    lines.append(["a look for news in a folder", "", f"{polled:.2f}", *judge(polled, "at most", 5)])
    return table("what | over a function | over a linear model | target | reached", lines)


LIMITS = {
    "routed without a key": 1.0,
    "routed by a key": 2.0,
    "evidence of calls without keys": 1.0,
    "evidence of keys that are known": 1.0,
    "a bare Activation over none": 0.06,
    "a Rollout at rest over a bare Activation": 0.06,
}


def line(what: str, figures: list[float]) -> list[str]:
    limit = LIMITS.get(what)
    worst = max(map(abs, figures)) if what.startswith("a ") else max(figures)
    return [what, *(f"{figure:+.3f}" for figure in figures), *judge(worst, "at most", limit)]


class Case:
    """Two equal Models, and rows."""

    def __init__(self, champion: mk.Model, candidate: mk.Model, rows: object) -> None:
        self.champion = champion
        self.candidate = candidate
        self.rows = rows
        self.names = champion.signature.output_names


def function() -> Case:
    """A Model that costs next to nothing: it gives its rows back."""
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("batch", 3)),),
        (mk.TensorSpec("y", "float32", ("batch", 3)),),
    )
    models = [mk.FunctionModel(lambda feeds: {"y": feeds["x"]}, signature) for _ in range(2)]
    return Case(*models, np.zeros((1, 3), np.float32))


@cache
def saved() -> Path:
    X, y = load_breast_cancer(return_X_y=True)
    return save(LogisticRegression().fit(scale(X), y), "routed", scale(X))[0]


def package() -> Case:
    """A real one of some microseconds."""
    models = [mk.load(saved(), device="cpu", threads=1) for _ in range(2)]
    return Case(*models, scale(load_breast_cancer().data)[:1])


class Failing(Wrapper):
    """Fails at each hundredth call."""

    __slots__ = ("_fails",)

    _call, _acall, _arun = mk.Model._call, mk.Model._acall, mk.Model._arun

    def __init__(self, model: mk.Model) -> None:
        super().__init__(model)
        self._fails = cycle([False] * (CALLS - 1) + [True])

    def _run(self, feeds, outputs, call):
        if next(self._fails):
            raise RuntimeError("the hundredth")
        return self._inner._run(feeds, outputs, call)


class Uncounted:
    """In place of `Counters`: nothing is counted."""

    def begin(self, key, candidate) -> CountedCall:
        return WITHOUT_KEY[candidate]

    def answered(self, call, answers, took) -> None:
        pass

    def failed(self, call, error) -> None:
        pass


class Fixed:
    """What cannot be swapped: a wrapper around a lineup."""

    def __init__(self, model: mk.Model) -> None:
        self._lineup = Lineup(Arm(model))

    def _call(self, X, outputs, call):
        return self._lineup.answer(X, outputs, call)


class Swappable:
    """The same behind a bare Activation."""

    def __init__(self, model: mk.Model) -> None:
        self._active = Active(Lineup(Arm(model)))

    def _call(self, X, outputs, call):
        activation = self._active.now
        try:
            return activation.value.answer(X, outputs, call)
        finally:
            del activation


def under_way(case: Case, *, counted: bool, failing: bool = True) -> mk.Rollout:
    """A rollout that decides nothing, of Models of which each hundredth call fails."""
    models = [case.champion, case.candidate]
    if failing:
        models = [Failing(model) for model in models]
    rollout = mk.Rollout(
        *models, policy=mk.RolloutPolicy((mk.RolloutStage(0.05),), alpha=1e-9, tick=NEVER), seed=0
    )
    if not counted:
        rollout._active.now.value.counters = Uncounted()  # the rest is what it costs
    return rollout


def at_rest(case: Case) -> mk.Rollout:
    """One whose rollout is over."""
    rollout = mk.Rollout(case.champion, case.candidate, share=0.05, seed=0)
    rollout.rollback()
    return rollout


def calls_of(keys: int) -> list[Call]:
    return [Call(None, 0, f"customer-{number}") for number in range(keys)]


def measured(case: Case, rounds: int) -> dict[str, float]:
    """What each part adds, in the median of the rounds."""
    known, fresh = cycle(calls_of(CALLS)), iter(calls_of((rounds + 1) * CALLS))
    plain, inner = repeat(PLAIN), case.champion
    quiet = under_way(case, counted=False, failing=False)
    off, on, keyed = [under_way(case, counted=counted) for counted in (False, True, True)]
    times = in_turns(
        {
            BARE: work(case, inner, plain),
            "fixed": work(case, Fixed(inner), plain),
            "swappable": work(case, Swappable(inner), plain),
            "at rest": work(case, at_rest(case), plain),
            "off": work(case, quiet, plain),
            "off by key": work(case, quiet, known),
            "failing": work(case, off, plain),
            "failing by key": work(case, off, known),
            "on": work(case, on, plain),
            "on by key": work(case, keyed, known),
            "on by new key": work(case, keyed, fresh),
        },
        rounds,
    )
    ticks = [tick(case, repeat(PLAIN)), tick(case, cycle(calls_of(KEYS)))]
    return {
        "routed without a key": added(times, "off", BARE),
        "routed by a key": added(times, "off by key", BARE),
        "evidence of calls without keys": added(times, "on", "failing") + ticks[0],
        "evidence of keys that are known": added(times, "on by key", "failing by key") + ticks[1],
        "evidence of keys that are new": added(times, "on by new key", "failing by key") + ticks[1],
        "of these, the tick: without keys": ticks[0],
        "of these, the tick: by keys": ticks[1],
        "a bare Activation over none": added(times, "swappable", "fixed"),
        "a Rollout at rest over a bare Activation": added(times, "at rest", "swappable"),
        "a Rollout at rest": added(times, "at rest", BARE),
    }


def work(case: Case, model, calls: Iterator[Call]) -> Callable[[], None]:
    """A turn: `CALLS` calls."""
    rows, names = case.rows, case.names

    def turn() -> None:
        answer = model._call
        for call, _ in zip(calls, repeat(None, CALLS), strict=False):
            try:  # noqa: SIM105 - suppress takes longer than some of what is measured
                answer(rows, names, call)
            except RuntimeError:
                pass

    return turn


def in_turns(works: dict[str, Callable[[], None]], rounds: int) -> Times:
    """Microseconds of a call in each round, in which each has its turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in works.values():
        turn()
    for _ in range(rounds):
        for name, turn in works.items():
            start = time.perf_counter()
            turn()
            times[name].append((time.perf_counter() - start) / CALLS * 1e6)
    return {name: np.array(values) for name, values in times.items()}


def added(times: Times, name: str, base: str) -> float:
    """What a call takes longer, in the median of the differences within a round."""
    return float(np.median(times[name] - times[base]))


def tick(case: Case, calls: Iterator[Call]) -> float:
    """Microseconds of a call that weighing takes, once a tick."""
    rollout = under_way(case, counted=True)
    session = rollout._switch.session  # a tick is timed apart from calls
    turn = work(case, rollout, calls)
    took = []
    for number in range(TICKS):
        for _ in range(IN_A_TICK // CALLS):
            turn()
        start = time.perf_counter()
        session.trial.tick(session.collect(), start + 10 * number)
        took.append(time.perf_counter() - start)
    return float(np.median(took)) / IN_A_TICK * 1e6


def poll(rounds: int) -> float:
    """Microseconds that a call takes longer that looks for news in a folder."""
    with tempfile.TemporaryDirectory(prefix="modelkit-routing-") as folder:
        registry = mk.Registry(folder)
        registry.register(saved())
        registry.set_alias("routed", "champion", "1", expected=None, reason="first")
        polls = {"never": NEVER, "always": 1 / A_SECOND}
        rollouts = {
            name: mk.Rollout(registry, "routed", poll=seconds, device="cpu", threads=1)
            for name, seconds in polls.items()
        }
        case = package()
        works = {name: work(case, each, repeat(PLAIN)) for name, each in rollouts.items()}
        times = in_turns(works, rounds)
        for each in rollouts.values():
            each.close()
    return added(times, "always", "never")
