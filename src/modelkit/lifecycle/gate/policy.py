"""What a gate was asked: metrics with margins, floors, vetoes, slices and budgets; pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite
from numbers import Real
from typing import Any, TypeGuard, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.fields import freeze
from modelkit._internal.names import did_you_mean
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import TaskKind
from modelkit.lifecycle.evaluation.metrics import METRICS, TaskMetric
from modelkit.stats.intervals import Domain

FLOOR = re.compile(r"\s*(\S+)\s*(>=|<=)\s*([-+.\deE]+)\s*")
BUDGETS = ("p50_ratio", "p50_seconds", "size_ratio", "size_bytes")


@final
@dataclass(frozen=True)
class GateMetric:
    """A metric of your own, which a gate judges by a paired bootstrap.

        def cost(truth, outputs):
            return float(((outputs["label"] != truth) * 5).mean())

        mk.GateMetric("cost", cost, higher_is_better=False, bounds=(0, 5))

    Attributes:
        name: what it is called; no name of a metric of the task.
        of: takes the truth (m,) or (m, L) and the outputs by name, of the rows that were drawn, some
            of them more than once, and gives the figure, a number; NaN where these rows have none.
        higher_is_better: whether a high figure is a good one.
        bounds: the least and the most that one row counts, where the figure is a mean over rows, such
            as (0, 1) of a share of them. Without it, the rows at hand say how bad one can be.

    Raises:
        UsageError: where the bounds are not two numbers, the lesser first.
    """

    name: str
    of: Callable[[Array, Mapping[str, Array]], float]
    higher_is_better: bool = True
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        freeze(self, "bounds")
        ends = self.bounds
        if ends is None:
            return
        if (
            len(ends) != 2
            or not all(map(_is_number, ends))
            or not isfinite(ends[1] - ends[0])
            or ends[0] >= ends[1]
        ):
            raise UsageError(
                f"the bounds of the metric {self.name!r} are the least and the most that one row "
                f"counts, such as (0, 1), not {ends!r:.80}",
                metric=self.name,
            )

    def figure(self, truth: Array, outputs: Mapping[str, Array]) -> float:
        """The figure of some rows. Raises UsageError where the function raises, or gives anything but a number."""
        try:
            found = self.of(truth, outputs)
        except Exception as error:
            raise UsageError(
                f"the metric {self.name!r} raised {type(error).__name__}: {error}. Its function takes "
                f"the truth and the outputs {', '.join(outputs)} of {len(truth):,} rows that were "
                "drawn; where a figure cannot be computed, such as for rows of one class, let it return NaN",
                metric=self.name,
            ) from error
        number = np.asarray(found)
        if number.shape != () or number.dtype.kind not in "fiu":
            raise UsageError(
                f"the metric {self.name!r} gave {found!r:.80}: its function returns one number, or "
                "NaN where it cannot be computed",
                metric=self.name,
            )
        return float(number)


AnyMetric = TaskMetric | GateMetric
SPANS: dict[Domain, int] = {"share": 1, "correlation": 2}  # what two figures differ by at most


@final
@dataclass(frozen=True)
class MetricFloor:
    """What a figure of the candidate alone must reach.

    Attributes:
        metric: its name.
        at_least: whether the figure must be at least `bound`, or at most.
        bound: that number.
    """

    metric: str
    at_least: bool
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.at_least else '<='} {self.bound:g}"


@final
@dataclass(frozen=True)
class GatePolicy:
    """What a gate was asked.

    Attributes:
        metrics: all that are compared, by name.
        metric: the name of the primary one.
        margins: by metric, how much worse the candidate may be.
        required: the names of the metrics that must be shown to be no worse, the primary one first.
        floors: of the candidate alone.
        vetoes: the names of the metrics of which harm may not be shown.
        budgets: what the candidate may cost, by name.
        alpha: of the whole gate.
        about: what else the answers depend on, by name, as values of JSON.
    """

    metrics: Mapping[str, AnyMetric]
    metric: str
    margins: dict[str, float]
    required: tuple[str, ...]
    floors: tuple[MetricFloor, ...]
    vetoes: tuple[str, ...]
    budgets: dict[str, float]
    alpha: float
    about: dict[str, Any]

    @property
    def sliced(self) -> tuple[str, ...]:
        """The names of the metrics that slices are judged by."""
        return tuple(dict.fromkeys([self.metric, *self.vetoes]))

    @property
    def digest(self) -> str:
        """The SHA-256 of everything that was asked; of a metric of your own, of its name."""
        plain = asdict(replace(self, metrics={}))
        del plain["metrics"]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_policy(
    kind: TaskKind,
    *,
    metric: str | GateMetric | None,
    margin: float | Mapping[str, float],
    alpha: float,
    require: Sequence[str | GateMetric],
    veto: Sequence[str | GateMetric],
    budgets: Mapping[str, float] | None,
    about: dict[str, Any],
) -> GatePolicy:
    """What a gate was asked, checked. Raises UsageError and TypeError."""
    if not isinstance(alpha, Real) or not 0 < alpha < 0.5:
        raise UsageError(f"alpha is above 0 and below .5, such as .05, not {alpha!r}")
    known: dict[str, AnyMetric] = dict(METRICS[kind])
    primary = _named(next(iter(known)) if metric is None else metric, known, kind)
    names, floors = _read_required(require, known, kind)
    vetoes = [_named(asked, known, kind) for asked in _listed("veto", veto)]
    compared = tuple(dict.fromkeys([primary, *names, *vetoes]))
    return GatePolicy(
        metrics=known,
        metric=primary,
        margins=read_margins(margin, primary, compared, known),
        required=tuple(dict.fromkeys([primary, *names])),
        floors=floors,
        vetoes=tuple(dict.fromkeys(vetoes)),
        budgets=read_budgets(budgets),
        alpha=float(alpha),
        about=about,
    )


def _read_required(
    require: Sequence[str | GateMetric], known: dict[str, AnyMetric], kind: TaskKind
) -> tuple[list[str], tuple[MetricFloor, ...]]:
    """The names of metrics that must be no worse, and the floors."""
    names = []
    floors = []
    for asked in _listed("require", require):
        floor = read_floor(asked) if isinstance(asked, str) else None
        name = _named(asked if floor is None else floor.metric, known, kind)
        if floor is None:
            names.append(name)
        else:
            floors.append(floor)
    return names, tuple(floors)


def read_floor(text: str) -> MetricFloor | None:
    """The floor that a text such as "recall >= 0.6" means; None for a bare name."""
    found = FLOOR.fullmatch(text)
    if found is None:
        return None
    name, sign, bound = found.groups()
    try:
        return MetricFloor(name, sign == ">=", float(bound))
    except ValueError:
        raise UsageError(f"{text!r} is not a floor, such as 'recall >= 0.6'") from None


def read_margins(
    margin: float | Mapping[str, float],
    primary: str,
    compared: Sequence[str],
    known: Mapping[str, AnyMetric],
) -> dict[str, float]:
    """The margin of each metric that is compared. Raises UsageError where one is missing."""
    for name in compared:
        if known[name].higher_is_better is None:
            raise UsageError(
                f"{name} is best in between, so neither more nor less of it is better; set a floor "
                f"for it, such as '{name} >= 0.8'",
                metric=name,
            )
    margins = dict(margin) if isinstance(margin, Mapping) else {primary: margin}
    absent = [name for name in compared if name not in margins]
    if absent:
        example = ", ".join(f"{name!r}: ..." for name in compared)
        raise UsageError(
            f"no margin says how much worse {', '.join(absent)} may be; metrics have units of their "
            f"own, so give each: margin={{{example}}}",
            metric=absent[0],
        )
    spare = [name for name in margins if name not in compared]
    if spare:
        raise UsageError(
            f"margin names {', '.join(map(str, spare))}, which is not compared; name it as "
            "metric=, in require= or in veto=",
            metric=str(spare[0]),
        )
    return {name: _margin(known[name], margins[name]) for name in compared}


def _margin(metric: AnyMetric, value: object) -> float:
    if not _is_number(value) or not 0 <= value < inf:
        raise UsageError(f"the margin of {metric.name} is a number of at least 0, not {value!r}")
    if isinstance(metric, TaskMetric) and value >= SPANS.get(metric.domain, inf):
        raise UsageError(
            f"with a margin of {value} any candidate passes, for no two models differ by more in "
            f"{metric.name}; one percentage point is .01"
        )
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is one; True is none, which would be a margin of 1."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _listed(what: str, asked: Sequence[str | GateMetric]) -> Sequence[str | GateMetric]:
    if isinstance(asked, str | GateMetric):
        raise TypeError(f"{what} is a list, such as {what}=[{asked!r}]")
    return asked


def _named(asked: str | GateMetric, known: dict[str, AnyMetric], kind: TaskKind) -> str:
    """The name of a metric, which is then known. Raises UsageError for an unknown one."""
    if isinstance(asked, GateMetric):
        if known.setdefault(asked.name, asked) is not asked:
            raise UsageError(f"there is another metric {asked.name!r} for the task {kind!r}")
        return asked.name
    if asked not in known:
        raise UsageError(
            f"unknown metric {asked!r} for the task {kind!r}{did_you_mean(str(asked), known)}; it has "
            f"{', '.join(known)}. One of your own is a GateMetric, and a floor is written as 'recall >= 0.6'",
            metric=str(asked),
        )
    return asked


def read_budgets(budgets: Mapping[str, float] | None) -> dict[str, float]:
    """What a candidate may cost, by the name of each budget. Raises UsageError and TypeError."""
    if budgets is not None and not isinstance(budgets, Mapping):
        raise TypeError(f"budgets is a dict, such as {{'size_ratio': 1.1}}, not {budgets!r:.80}")
    found = {}
    for name, limit in (budgets or {}).items():
        if name not in BUDGETS:
            raise UsageError(
                f"unknown budget {name!r}{did_you_mean(str(name), BUDGETS)}; there are {', '.join(BUDGETS)}"
            )
        if not _is_number(limit) or not isfinite(limit) or limit <= 0:
            raise UsageError(f"the budget {name} is a number above 0, not {limit!r}")
        found[name] = float(limit)
    return found
