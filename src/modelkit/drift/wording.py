"""What a report says to readers who are no statisticians: what changed, since when, by how much.

Pure functions of the values of a report. Nothing here is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import floor, isfinite, log10
from typing import NamedTuple

from modelkit.drift.charts import percent
from modelkit.drift.row_times import second_text
from modelkit.drift.values import Alarm, FeatureDrift

MOST_NAMED = 4  # features in a sentence
USUAL = 0.5  # above it the odds say nothing
CERTAIN = 1e-6  # below it the odds are not counted any more
SERIOUS = ("performance", "material", "changed")  # the most serious first
SAYS_AGAIN = {
    "changed": "is no longer like its rows since the alarm before was acknowledged",
    "material": "differs from the reference by more than the alarm before showed",
    "performance": "shows that the model has become worse than the alarm before showed",
}
SAYS = {
    "changed": "is no longer like the reference",
    "material": "differs from the reference by more than the tolerance",
    "performance": "shows that the model has become worse, by more than the tolerance",
}
FIND_OUT = (
    "find out where these values come from: a new source, another unit or default, or other "
    "customers. If it is a fault, repair it. If the world has changed, measure the model on recent "
    "labels, and retrain it or take a new reference."
)
ADVICE = {
    "changed": (
        "Look at it when there is time: this kind of alarm also finds changes that are too small "
        "to matter."
    ),
    "material": f"{FIND_OUT[0].upper()}{FIND_OUT[1:]}",
    "performance": (
        "Measure the model on recent labels; go back to the version before, or retrain it."
    ),
}
MISSING_VALUES = "missing values"
CELL_WORDS = {
    "(missing)": MISSING_VALUES,
    "(new)": "categories that training did not know",
    "(other)": "all rarer categories",
}
NOUNS = {"time": "times", "text": "lengths"}


class Move(NamedTuple):
    """The rows that moved most: which, and their shares in the reference and in some rows."""

    which: str
    old: float
    new: float

    @property
    def size(self) -> float:
        """The difference of the shares, but for rounding."""
        return round(abs(self.new - self.old), 6)

    def text(self, rows: str) -> str:
        """The move in words, of rows in words; the shares have as many digits as they need."""
        old, new = percent(self.old), percent(self.new)
        if old == new:
            old, new = f"{100 * self.old:.3g} %", f"{100 * self.new:.3g} %"
        if old == new:
            return f"no share of {rows} differs by more than 0.1 %"
        return f"{self.which} went from {old} to {new} of {rows}"


def name_of(feature: str, stratum: str | None) -> str:
    """A feature and its stratum, as text."""
    return feature if stratum is None else f"{feature} (stratum {stratum})"


def count_of(n: int, noun: str) -> str:
    """A number with its noun, such as "3 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence, the first four at most."""
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED:,} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def odds(p: float) -> str:
    """A p-value as one in so many, rounded so that it promises no more than p does."""
    if not isfinite(p) or p > USUAL:
        return "nothing unusual"
    if p < CERTAIN:
        return "fewer than 1 in 1,000,000"
    times = 1 / p
    unit = 10 ** max(floor(log10(times)) - 1, 0)
    return f"1 in {floor(times / unit) * unit:,}"


# The sentence.


def headline(
    alarms: Sequence[Alarm], features: Sequence[FeatureDrift], kind: str, rows: int
) -> str:
    """What changed, since when and by how much; or that there is no alarm.

    `features` are in the order of their rank.
    """
    if not alarms and not rows:
        return "No alarm. No rows have come yet."
    if not alarms:
        return f"No alarm. Nothing in {count_of(rows, 'row')} shows that they differ from before."
    first = _most_serious(alarms, features)
    name = name_of(first.feature, first.stratum)
    since = "" if kind == "batch" else f", since {since_text(first)}"
    what = f"{name} {says(first)}"
    if first.kind == "performance":
        than = "than the alarm before showed" if first.again else "by more than the tolerance"
        what = f"The model has become worse, {than}"
    said = [f"{what}{since}: {_how_much(first, features, kind)}."]
    if kind == "stream" and any(_is_of(drift, first) and _is_over(drift) for drift in features):
        said.append("Its latest rows show no difference any more.")
    others = _others(alarms, first)
    if others:
        verb = "has" if len(others) == 1 else "have"
        said.append(f"{listed(others)} {verb} an alarm too.")
    most = most_moved(features) if kind == "span" else None
    if most is not None and most.feature != first.feature:
        named = name_of(most.feature, most.stratum)
        said.append(f"Of all features, {named} moved most: {move_text(most, kind)}.")
    return " ".join(said)


def says(alarm: Alarm) -> str:
    """What an alarm says of its feature."""
    return (SAYS_AGAIN if alarm.again else SAYS).get(alarm.kind, alarm.kind)


def _most_serious(alarms: Sequence[Alarm], features: Sequence[FeatureDrift]) -> Alarm:
    """The alarm of the most serious kind, of the feature that ranks first, the latest.

    Alarms of features whose rows are like the reference by now come after all others.
    """
    ranks = {(drift.feature, drift.stratum): rank for rank, drift in enumerate(features)}

    def order(alarm: Alarm) -> tuple[bool, int, int]:
        rank = ranks.get((alarm.feature, alarm.stratum), len(ranks))
        over = rank < len(ranks) and _is_over(features[rank])
        return over, SERIOUS.index(alarm.kind), rank

    return min(reversed(alarms), key=order)


def _is_of(drift: FeatureDrift, alarm: Alarm) -> bool:
    return (drift.feature, drift.stratum) == (alarm.feature, alarm.stratum)


def _is_over(drift: FeatureDrift) -> bool:
    """Whether the latest rows of a feature show no difference."""
    return bool(drift.rows and drift.effects and drift.effects[0].low <= 0)


def _others(alarms: Sequence[Alarm], first: Alarm) -> list[str]:
    names = [name_of(alarm.feature, alarm.stratum) for alarm in alarms]
    own = name_of(first.feature, first.stratum)
    return [name for name in dict.fromkeys(names) if name != own]


def since_text(alarm: Alarm) -> str:
    """Since when the rows differ, as the alarm estimates it."""
    if alarm.began_time is not None:
        return f"about {second_text(alarm.began_time)} UTC"
    if alarm.began is None:
        return "an unknown row"
    if alarm.began <= 0:
        return "the first row"
    return f"about row {alarm.began:,}"


def _how_much(alarm: Alarm, features: Sequence[FeatureDrift], kind: str) -> str:
    """How far the feature of an alarm is from the reference now, in shares of rows if known."""
    if alarm.effect is not None and alarm.kind == "performance":
        return f"the mean loss is {alarm.effect.value:.3g}{_of_labels(alarm)}"
    for drift in features:
        if _is_of(drift, alarm):
            move = move_text(drift, kind)
            if move is not None:
                return move
    return "by how much is not known" if alarm.effect is None else f"{alarm.effect} at the alarm"


def _of_labels(alarm: Alarm) -> str:
    return (
        "" if alarm.rows is None else f" of the {count_of(alarm.rows, 'labelled row')} until then"
    )


def move_text(drift: FeatureDrift, kind: str) -> str | None:
    """The rows whose share moved most, in words, and of which rows; None where it is not known."""
    move = largest_move(drift)
    if move is None:
        return None
    if not drift.rows:
        return move.text("the rows of the alarm")
    latest = "latest " if kind == "stream" else ""
    return move.text(f"the {latest}{count_of(drift.rows, 'row')}")


def most_moved(features: Sequence[FeatureDrift]) -> FeatureDrift | None:
    """The feature whose rows moved most; None where none did."""
    moves = [(largest_move(drift), drift) for drift in features if drift.rows]
    known = [(move.size, drift) for move, drift in moves if move is not None and move.size]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def largest_move(drift: FeatureDrift) -> Move | None:
    """The rows whose share moved most, of the recent ones; of the alarm's where there are none.

    For ordered values these are all rows up to some value, for others one category; or the missing
    ones. None where a share is not known.
    """
    now = tuple(new for _, _, new in drift.cells)
    if not drift.rows:
        now = drift.at_alarm
    before = [old for _, old, _ in drift.cells]
    if not before or len(now) != len(before) or not all(map(isfinite, (*before, *now))):
        return None
    labels = [label for label, _, _ in drift.cells]
    moves = _of_cells(labels, before, now)
    if drift.kind not in ("category", "flag"):
        gone = [move for move in moves if move.which == MISSING_VALUES]
        moves = [*gone, *_of_values(drift.kind, labels, before, now)]
    return max(moves, key=lambda move: move.size, default=None)


def _of_cells(labels: Sequence[str], before: Sequence[float], now: Sequence[float]) -> list[Move]:
    moves = []
    for label, old, new in zip(labels, before, now, strict=True):
        which = CELL_WORDS.get(label, f'those with "{label[:40]}"')
        moves.append(Move(which, old, new))
    return moves


def _of_values(
    kind: str, labels: Sequence[str], before: Sequence[float], now: Sequence[float]
) -> list[Move]:
    """The rows up to the upper end of each cell."""
    noun = NOUNS.get(kind, "values")
    moves = []
    for label, old, new in zip(labels, accumulate(before), accumulate(now), strict=True):
        _, _, end = label.rpartition("to ")
        if end and end != label:
            moves.append(Move(f"{noun} up to {end.replace('T', ' ')}", old, new))
    return moves


def began_text(drift: FeatureDrift, alarm: Alarm | None) -> str | None:
    """Since when a feature differs: as its alarm says, or else as its evidence suggests."""
    if alarm is not None:
        known = alarm.began is not None or alarm.began_time is not None
        return since_text(alarm) if known else None
    if drift.began is None:
        return None
    return f"about row {drift.began:,}" if drift.began > 0 else "the first row"


def advice(alarms: Sequence[Alarm], checks: int) -> str:
    """What to do."""
    if not alarms:
        if not checks:
            return "Nothing needs to be done. That does not prove that nothing changed."
        return (
            f"Read {count_of(checks, 'data check')} below: they raise no alarm, and may matter. "
            "No alarm does not prove that nothing changed."
        )
    first = _most_serious(alarms, ())
    steps = ADVICE[first.kind]
    if first.unit is not None and first.kind == "changed":
        steps = f"Look at its size, for small changes are found too. If it matters: {FIND_OUT}"
    said = f"What to do: {steps}"
    if checks:
        said += f" Begin with {count_of(checks, 'data check')} below."
    return said


# Alarms and tests.


def evidence_text(alarm: Alarm, kind: str) -> str:
    """How sure an alarm is."""
    sets = "batches" if kind == "batch" else "streams"
    return (
        f"Of {sets} without such a change, {odds(alarm.p)} would look like this; an alarm takes "
        f"{odds(alarm.level)} ({alarm.statistic}, p {alarm.p:.2g}, level {alarm.level:.2g})."
    )


def raised_text(alarm: Alarm, kind: str) -> str:
    """When an alarm was raised, and since when the rows differ."""
    if kind == "batch":
        return ""
    came = f"at row {alarm.row:,}"
    if alarm.unit is not None:
        came = f"with {alarm.unit}"
    elif alarm.time is not None:
        came = f"at {second_text(alarm.time)} UTC, row {alarm.row:,}"
    if alarm.began is None and alarm.began_time is None:
        return f"The alarm came {came}."
    return f"The change began at {since_text(alarm)}; the alarm came {came}."


def alarm_text(alarm: Alarm, reason: str | None) -> str:
    """An alarm of a stream in a line, and why it needs no more attention, if somebody said so."""
    name = name_of(alarm.feature, alarm.stratum)
    said = f"{name} {says(alarm)}. {raised_text(alarm, 'stream')}"
    return said if reason is None else f"{said} Acknowledged: {reason}"


def tests_of(drift: FeatureDrift) -> list[tuple[str, str]]:
    """The p-values of a feature as name and odds; those that were not computed are left out."""
    named = {"any change": drift.p_changed, "beyond the tolerance": drift.p_material}
    return [(name, f"{odds(p)} (p {p:.2g})") for name, p in named.items() if p is not None]
