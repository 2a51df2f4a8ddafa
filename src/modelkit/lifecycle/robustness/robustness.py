"""Measure how often the decisions of a Model flip when its rows change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from math import inf
from numbers import Integral, Real
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.order import check_seed
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.evaluate import evaluate
from modelkit.lifecycle.evaluation.figures import figures_of, slice_masks
from modelkit.lifecycle.evaluation.robustness import Constraints, RobustnessFigure, RobustnessReport
from modelkit.lifecycle.evaluation.rows import LabelledRows, Side, answered_side
from modelkit.lifecycle.robustness.perturbations import PERTURBATIONS
from modelkit.lifecycle.robustness.trial import (
    Attack,
    Rows,
    Trial,
    greedy,
    present,
    read_cells,
    take,
)
from modelkit.model.model import Model
from modelkit.package.load import load
from modelkit.report.html import some
from modelkit.stats.intervals import LEVEL_95, clopper_pearson

KINDS = ("binary", "multiclass", "multilabel", "regression")


def robustness(
    model: Any,
    X: Any,
    y: Any,
    *,
    constraints: Constraints | None = None,
    attacks: Sequence[Attack] = (greedy,),
    slices: Any = None,
    kind: TaskKind | None = None,
    tolerance: float = 0.25,
    level: float = LEVEL_95,
    seed: int = 0,
) -> RobustnessReport:
    """How often the decisions of a model flip when its rows change, every share with an exact interval.

        report = mk.robustness("churn.mk", X_test, y_test)
        report["noise 0.1"].share, report["greedy"].high

    Rows get noise, rounding, gaps, other units and typos, and are attacked: from what the model
    answers alone, within the constraints. Each changed row is one that the signature takes: integers stay
    integers, and categories are those it knows.

    Args:
        model: a Model, or the path of a package: a classifier, also of several labels, or a regressor.
        X: n independent rows, as `Model.run` takes them, that the model was not trained on.
        y: their truth, as `mk.evaluate` takes it.
        constraints: what an attack may change; by default three columns of a row, each number by half a
            spread of its column.
        attacks: functions of a Trial, the places (m,) of the rows that the model decided rightly, and the
            seed. Each returns these m rows after the attack, as columns (m,) by name, and how many rows it
            asked the model for. Its figure has its name, and the first line of its docstring.
        slices: names of columns of X, or one name, or a dict of values (n,) by name: the shares among the
            rows of each value.
        kind: the task, where the outputs of the model do not show it.
        tolerance: how far a prediction of a regressor may move and still be the same decision, in standard
            deviations of the truth.
        level: the level of the intervals.
        seed: for all that is drawn at random.

    Returns:
        The report, which has the figures of each change by its name.

    Raises:
        UsageError: if truth, columns or constraints do not fit the rows, the model is a Rollout, or it
            decides nothing row by row, such as an encoder or a ranker; for the name of an attack, and
            for a seed below 0.
        SignatureError: if the rows do not fit the model.
        TypeError: for anything but a Model or a path, and for constraints of another type.
        MissingExtraError: if scipy is missing.
    """
    allowed = Constraints() if constraints is None else constraints
    if not isinstance(allowed, Constraints):
        raise TypeError(f"constraints is mk.Constraints(...), not {constraints!r:.80}")
    _check_asked(attacks, tolerance)
    seed = check_seed(seed)
    before = evaluate(model, X, y, slices=slices, kind=kind, level=level)
    # Numbers may be so large, or infinite, that no difference is a number.
    with ExitStack() as opened, np.errstate(over="ignore", invalid="ignore"):
        if not isinstance(model, Model):
            model = opened.enter_context(load(model))
        if before.kind not in KINDS or model.signature.batch is None:
            raise UsageError(
                f"this model decides nothing row by row: its task is {before.kind}, and robustness is of "
                f"{some(KINDS)}; its signature is {model.signature}"
            )
        side = answered_side(model, LabelledRows(X, y, slices=slices), before.kind)
        trial, notes = _trial(model, side, allowed, tolerance, level)
        figures = [*_perturbed(trial, seed)]
        for attack in attacks:
            figures += _attacked(trial, attack, seed)
    of = (before.model, before.model_digest, before.data_digest, before.rows)
    return RobustnessReport(*of, level, seed, allowed, before.figures[0], tuple(figures), notes)


def _check_asked(attacks: Sequence[Attack], tolerance: float) -> None:
    """Raise UsageError for attacks that are not functions of different names, and for a tolerance out of range."""
    names = {getattr(attack, "__name__", "") for attack in attacks if callable(attack)}
    if len(names - {""}) < len(attacks):
        raise UsageError(
            f"attacks are functions of different names, such as [greedy], not {attacks!r:.200}; a "
            "functools.partial has a name once you set its __name__"
        )
    if not isinstance(tolerance, Real) or not 0 <= tolerance < inf:
        raise UsageError(
            f"tolerance is in standard deviations of the truth, 0 or more, not {tolerance!r:.80}"
        )


def _trial(
    model: Model, side: Side, constraints: Constraints, tolerance: float, level: float
) -> tuple[Trial, tuple[str, ...]]:
    """The model and its rows, with their slices, and notes that a reader of the figures needs."""
    before = side.answered
    rows = model.signature.columns(side.feeds or {})
    cells = read_cells(model.signature, rows, constraints)
    predicts = before.kind == "regression"
    tolerances = tolerance * np.atleast_1d(before.truth.std(axis=0)) if predicts else np.zeros(1)
    sliced = slice_masks(side.slices, len(before))
    groups = {f"{name} is {value}": mask for name, value, mask in sliced}
    trial = Trial(model, rows, before, tolerances, cells, constraints, level, groups)
    attacked = f"the {len(trial.right):,} rows that the model decided rightly before the attack"
    notes = (
        f"attacks are on {'all rows' if predicts else attacked}",
        f"attacks keep to {constraints}",
        f"neither errors nor attacks change these columns: "
        f"{some([*rows.keys() - {each.name for each in cells}]) or 'none'}",
        f"a prediction flips where it moves by more than "
        f"{some([f'{each:.3g}' for each in tolerances.tolist()])}",
    )
    return trial, notes[: 3 + predicts]


def _perturbed(trial: Trial, seed: int) -> Iterator[RobustnessFigure]:
    """The figures of noise and errors, each strength by draws of its own."""
    places = np.arange(len(trial.before))
    for at, change in enumerate(PERTURBATIONS):
        hit = [cells for cells in trial.cells if change.fits(cells)]
        for strength in change.strengths if hit else ():
            rng = np.random.default_rng([seed, at, int(1000 * strength)])
            rows = take(trial.rows, places)
            drawn = rng.random((len(places), len(hit)))
            mask = drawn < (strength if change.where == "some" else 1)
            if change.where == "one":
                drawn *= np.column_stack([present(rows[cells.name]) for cells in hit])
                mask = drawn == drawn.max(axis=1, keepdims=True)
            for cells, own in zip(hit, mask.T, strict=True):
                values = rows[cells.name]
                some_rows = own & present(values)
                values[some_rows] = change.change(cells, values[some_rows], strength, rng)
            about = change.about.format(strength)
            yield from _figures(trial, f"{change.name} {strength:g}", about, rows, places)


def _attacked(trial: Trial, attack: Attack, seed: int) -> Iterator[RobustnessFigure]:
    """The figures of an attack. Raises UsageError where it does not return what an attack does."""
    found, n = attack(trial, trial.right, seed), len(trial.right)
    match found:
        case (dict() as rows, Integral() as queries) if {*rows} == {*trial.rows} and {
            *map(len, rows.values())
        } == {n}:
            about = (attack.__doc__ or "an attack of your own").strip().partition("\n")[0]
            return _figures(trial, attack.__name__, about, rows, trial.right, int(queries))
    raise UsageError(
        f"the attack {attack.__name__} is to return two things: a dict of the columns {some([*trial.rows])}, "
        f"{n:,} values each, and how many rows it asked the model for; it returned {found!r:.200}"
    )


def _figures(
    trial: Trial, name: str, about: str, rows: Rows, places: Array, queries: int | None = None
) -> Iterator[RobustnessFigure]:
    """The figure of all rows, and of each slice; of an attack, which gives `queries`, with fewer columns too."""
    columns, moved = _changes(trial, rows, places)
    answered, flipped, margin = trial.decide(rows, places)
    most = len(trial.cells) if queries is None else trial.constraints.most_columns
    flipped &= (columns > 0) & (columns <= most)
    parts = {name: flipped}
    parts |= {
        f"{name} where {group}": flipped[mask[places]] for group, mask in trial.groups.items()
    }
    for few in () if queries is None else range(1, most):
        parts[f"{name} of at most {few:,} column{'s' * (few > 1)}"] = flipped & (columns <= few)
    far = float(np.median(moved[flipped])) if flipped.any() else None
    after = figures_of(answered, trial.level)[0] if len(answered) else None
    facts = about, int(np.isposinf(margin).sum()), (queries or 0) + len(places), far, after
    for part, hit in parts.items():
        hits, n = int(hit.sum()), len(hit)
        ends = clopper_pearson(hits, n, trial.level)
        yield RobustnessFigure(part, n, hits, *ends, *(facts if part == name else ()))


def _changes(trial: Trial, rows: Rows, places: Array) -> tuple[Array, Array]:
    """How many columns of each row changed, and how many spreads the number moved that moved most; both (m,)."""
    old = take(trial.rows, places)
    pairs = [(cells, old[cells.name], rows[cells.name]) for cells in trial.cells]
    columns = np.sum([present(was) & (was != now) for _, was, now in pairs], axis=0)
    return columns, np.max([cells.moved(was, now) for cells, was, now in pairs], axis=0)
