"""What a rollout watches: each guard is one kind of bad event, or a loss, with what is allowed of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import final

from modelkit.errors import UsageError
from modelkit.model.model import Outputs
from modelkit.stats.betting import SUREST

ERROR_EVENTS = "errors"
SLOW_EVENTS = "slow"
NONFINITE_EVENTS = "nonfinite"
REFUSED_EVENTS = "refused"
DISAGREEMENTS = "disagreement"
LATE_LOSSES = "loss"
UNANSWERED = "unanswered"  # calls that ended without an answer or an error of the model
KINDS = (ERROR_EVENTS, SLOW_EVENTS, NONFINITE_EVENTS, REFUSED_EVENTS, DISAGREEMENTS, LATE_LOSSES)
FLOOR = 0.001  # one call in a thousand
# Seconds of one call: more than what the arm with fewer calls loses by colder caches and smaller batches.
MATERIAL = 0.01
ONLY_OF = {"above": SLOW_EVENTS, "margin": LATE_LOSSES, "tolerance": DISAGREEMENTS}
NUMBERS = ("worse", "better", "floor", "above", "margin", "tolerance", "material")  # of a guard

Mark = Callable[[Outputs], object]


def check_numbers(what: str, held: object, names: Sequence[str]) -> None:
    """Raise UsageError where one of these attributes is not a number; None is one where it is the default."""
    for name in names:
        value = getattr(held, name)
        if value is None and getattr(type(held), name, 0) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Real):
            raise UsageError(f"{what}: {name} is a number, not {value!r:.80}")


@final
@dataclass(frozen=True)
class Guard:
    """One thing that a rollout watches, and how much worse a candidate may be in it.

        mk.Guard("errors", worse=1.5, better=2.0)
        mk.Guard("loss", margin=0.02)

    Known names are "errors" (exceptions that are not the caller's or the queue's), "slow" (calls
    that take long), "nonfinite" (NaN or infinite outputs), "refused" (rows that do not fit the
    signature), "disagreement" (in shadow: the candidate answers something else), and "loss" (from
    `Rollout.outcome`). Any other name is your own, with a function `mark` that says whether the
    outputs of a call are bad.

    Attributes:
        name: what is watched.
        worse: the candidate is rolled back when it is shown to have more than `worse` times the
            champion's rate of events.
        better: the candidate is promoted when it is shown to have less than `better` times that
            rate.
        floor: a rate of events, for each call, that does not matter: a candidate below it is never
            rolled back, and is promoted. In a stage with a share of 1, only the floor decides. By
            default .001; 0 for "slow" (every rate counts, and with a share of 1 the last quantiles
            of the champion decide); required for "disagreement".
        above: for "slow": the seconds from which a call is slow. By default, the
            champion's median, 90 % and 99 % quantile in the tick before.
        material: for "slow" without `above`: how many seconds longer a call of the candidate may
            take without counting. It is rolled back only if its calls would still be slow when
            shortened by so much, and promoted if they would not. By default .01, more than the arm
            with fewer calls loses by colder caches; with 0 every microsecond counts.
        margin: required for "loss": by how much the mean loss may be above the champion's.
        tolerance: for "disagreement": by how much numbers may differ.
        mark: for your own name: a function of all outputs of a call, which says whether they are
            bad. A rollout with a mark computes all outputs, in both arms, for every call. If it
            raises an error, the rollout holds.

    Raises:
        UsageError: for a number out of range, and for one that this guard does not take.
    """

    name: str
    worse: float = 1.2
    better: float = 1.5
    floor: float | None = None
    above: float | None = None
    margin: float | None = None
    tolerance: float = 0.0
    mark: Mark | None = None
    material: float | None = None

    def __post_init__(self) -> None:
        check_numbers(f"guard {self.name!r}", self, NUMBERS)
        self._check_name()
        for name, taker in ONLY_OF.items():
            if getattr(self, name) and self.name != taker:
                raise UsageError(f"guard {self.name!r}: {name}= is for the guard {taker!r} alone")
        self._check_material()
        for name in ("worse", "better"):
            risk = getattr(self, name)
            if not (isfinite(risk) and risk >= 1):
                raise UsageError(
                    f"guard {self.name!r}: {name} is how many times the champion's rate is "
                    f"allowed, 1 or more; got {risk!r}"
                )
        if self.better == 1 and self.name != LATE_LOSSES:
            raise UsageError(
                f"guard {self.name!r}: an equal candidate is never shown to have less than 1 times "
                "the champion's rate; allow more than that, such as better=1.5"
            )
        if self.floor is not None and not 0 <= self.floor < 1:
            raise UsageError(f"guard {self.name!r}: floor is a rate below 1, not {self.floor!r}")
        if self.above is not None and not (isfinite(self.above) and self.above > 0):
            raise UsageError(f"guard {self.name!r}: above is in seconds, not {self.above!r}")
        if not self.tolerance >= 0:
            raise UsageError(f"guard {self.name!r}: tolerance is 0 or more, not {self.tolerance!r}")
        if self.margin is not None and not 0 < self.margin < 1:
            raise UsageError(f"guard {self.name!r}: margin is between 0 and 1, not {self.margin!r}")

    def _check_name(self) -> None:
        if not self.name or not self.name.isprintable() or ":" in self.name:
            raise UsageError(f"a guard has a name without ':', not {self.name!r}")
        if (self.name in KINDS) == (self.mark is not None):
            raise UsageError(
                f"guard {self.name!r}: names of your own need mark=, a function of the outputs, "
                f"and the known ones take none: {', '.join(KINDS)}"
            )
        if self.name == LATE_LOSSES and self.margin is None:
            raise UsageError("a guard of losses needs margin=, such as .01: no default is right")
        if self.name == DISAGREEMENTS and not self.floor:
            raise UsageError(
                "a guard of disagreement needs floor=, the share of calls that may differ: take "
                "what was found before the rollout, and some more"
            )

    def _check_material(self) -> None:
        if self.material is None:
            return
        if not self.by_quantiles:
            raise UsageError(
                f"guard {self.name!r}: material= is for 'slow' without above=, which compares with "
                "the champion's times"
            )
        if not (isfinite(self.material) and self.material >= 0):
            raise UsageError(
                f"guard 'slow': material is in seconds, 0 or more, not {self.material!r}"
            )

    @property
    def longer(self) -> float:
        """The seconds by which a call of the candidate may be longer."""
        if self.material is not None:
            return self.material
        return MATERIAL if self.by_quantiles else 0.0

    @property
    def least(self) -> float:
        """The floor in force."""
        if self.floor is not None:
            return self.floor
        return 0.0 if self.name == SLOW_EVENTS else FLOOR

    @property
    def by_quantiles(self) -> bool:
        """Whether calls are compared with quantiles of the champion's times."""
        return self.name == SLOW_EVENTS and self.above is None

    @property
    def streams(self) -> tuple[str, ...]:
        """The kinds of events that are counted for it, by name."""
        if not self.by_quantiles:
            return (self.name,)
        return (*SLOW_KINDS, *LONGER_KINDS, *BLAMED_KINDS) if self.longer else SLOW_KINDS


QUANTILES = (50, 90, 99)  # of the champion's times, in percent
SLOW_KINDS = tuple(f"{SLOW_EVENTS}:{quantile}" for quantile in QUANTILES)
# Calls of the candidate that are slow by more than what does not matter.
LONGER_KINDS = tuple(f"longer:{quantile}" for quantile in QUANTILES)
# Of these, those that count against it, and the champion's beside which they do; see `Latency`.
BLAMED_KINDS = tuple(f"blamed:{quantile}" for quantile in QUANTILES)
USUAL_GUARDS = (
    Guard(ERROR_EVENTS),
    Guard(SLOW_EVENTS),
    Guard(NONFINITE_EVENTS),
    Guard(REFUSED_EVENTS),
)


@final
@dataclass(frozen=True)
class Stream:
    """Events of the two arms that are compared.

    Attributes:
        guard: what is allowed of them.
        candidate: their kind in the candidate.
        champion: their kind in the champion.
        alone: their kind in the candidate while all calls go to it.
        recorded: the champion's rate, where it is known by what the kind is: of calls above its
            90 % quantile, .1. It stands for a floor while all calls go to the candidate.
    """

    guard: Guard
    candidate: str
    champion: str
    alone: str
    recorded: float = 0.0

    def floor_alone(self, margin: float) -> float:
        """The rate that decides while all calls go to the candidate; 0 where none does."""
        return self.guard.least or min(self.recorded * margin, SUREST)


def rollback_streams(guard: Guard) -> tuple[Stream, ...]:
    """What speaks for a rollback, by this guard.

    A guard that compares quantiles needs it twice: as the calls were, and with the candidate's calls
    quicker by what does not matter. Of the latter, only calls count that its longer runs do not
    explain; see `Latency`. Where all calls go to the candidate, it is not the colder one, and all
    count.
    """
    if guard.name == LATE_LOSSES:
        return ()
    if not guard.by_quantiles:
        return (Stream(guard, guard.name, guard.name, guard.name),)
    as_they_were = _streams(guard, SLOW_KINDS, SLOW_KINDS, SLOW_KINDS)
    if not guard.longer:
        return as_they_were
    return as_they_were + _streams(guard, BLAMED_KINDS, BLAMED_KINDS, LONGER_KINDS)


def promotion_streams(guard: Guard) -> tuple[Stream, ...]:
    """What speaks for a promotion, by this guard.

    One that compares quantiles goes by all calls of the candidate that are still slow when they are
    quicker by what does not matter.
    """
    if guard.name == DISAGREEMENTS:
        return ()
    if not guard.by_quantiles:
        return rollback_streams(guard)
    kinds = LONGER_KINDS if guard.longer else SLOW_KINDS
    return _streams(guard, kinds, SLOW_KINDS, kinds)


def _streams(
    guard: Guard, candidate: tuple[str, ...], champion: tuple[str, ...], alone: tuple[str, ...]
) -> tuple[Stream, ...]:
    rates = [1 - quantile / 100 for quantile in QUANTILES]
    kinds = zip(candidate, champion, alone, rates, strict=True)
    return tuple(Stream(guard, *each) for each in kinds)


# Calls that ended without an answer hold a rollout as errors would.
UNANSWERED_CALLS = Stream(Guard(ERROR_EVENTS), UNANSWERED, UNANSWERED, UNANSWERED)
