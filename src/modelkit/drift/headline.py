"""The first sentence of a report and what to do: what changed, since when and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import isfinite
from typing import NamedTuple

from modelkit.drift.values import Alarm, FeatureDrift
from modelkit.drift.words import change_text, count_of, listed, name_of, percent, since_text

SERIOUS = ("performance", "material", "changed")  # the most serious first
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
# Rows of such a span may differ: their alarm may have come before.
NO_ALARM = "No alarm was raised in this span"
MISSING_VALUES = "missing values"
CELL_WORDS = {
    "(missing)": MISSING_VALUES,
    "(new)": "categories that training did not know",
    "(other)": "all rarer categories",
}
NOUNS = {"time": "times", "text": "lengths"}


def headline(
    alarms: Sequence[Alarm], features: Sequence[FeatureDrift], kind: str, rows: int, alpha: float
) -> str:
    """What changed, since when and by how much; or that there is no alarm.

    `features` are in the order of their rank.
    """
    if alarms:
        return _alarms_sentence(alarms, features, kind)
    if kind == "span":
        return _calm_sentence(features, count_of(rows, "row"), alpha)
    if not rows:
        return "No alarm. No rows have come yet."
    return f"No alarm. Nothing in {count_of(rows, 'row')} shows that they differ from before."


def _alarms_sentence(alarms: Sequence[Alarm], features: Sequence[FeatureDrift], kind: str) -> str:
    first = _most_serious(alarms, features)
    since = "" if kind == "batch" else f", since {since_text(first)}"
    what = f"{name_of(first)} {change_text(first)}"
    if first.kind == "performance":
        than = "than the alarm before showed" if first.again else "by more than the tolerance"
        what = f"The model has become worse, {than}"
    sentences = [f"{what}{since}: {_how_much(first, features, kind)}."]
    if kind == "stream" and any(_is_of(drift, first) and _is_over(drift) for drift in features):
        sentences.append("Its latest rows show no difference any more.")
    others = _others(alarms, first)
    if others:
        verb = "has" if len(others) == 1 else "have"
        sentences.append(f"{listed(others)} {verb} an alarm too.")
    most = most_moved(features) if kind == "span" else None
    if most is not None and most.feature != first.feature:
        name = name_of(most)
        sentences.append(f"Of all features, {name} moved most: {move_text(most, kind)}.")
    return " ".join(sentences)


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
    names = dict.fromkeys(map(name_of, alarms))
    return [name for name in names if name != name_of(first)]


def _how_much(alarm: Alarm, features: Sequence[FeatureDrift], kind: str) -> str:
    """How far the feature of an alarm is from the reference now, in shares of rows if known."""
    if alarm.effect is not None and alarm.kind == "performance":
        loss = f"the mean loss is {alarm.effect.value:.3g}"
        if alarm.rows is None:
            return loss
        return f"{loss} of the {count_of(alarm.rows, 'labelled row')} until then"
    for drift in features:
        if _is_of(drift, alarm):
            move = move_text(drift, kind)
            if move is not None:
                return move
    return "by how much is not known" if alarm.effect is None else f"{alarm.effect} at the alarm"


def _calm_sentence(features: Sequence[FeatureDrift], rows: str, alpha: float) -> str:
    """Which features differ by the tests of the span; without tests, which moved most."""
    if not _is_tested(features):
        return f"{NO_ALARM}. Its {rows} are described, not tested{_most(features)}."
    differ = _differing(features, alpha)
    if not differ:
        return f"{NO_ALARM}. Nothing in its {rows} shows that they differ from before."
    names = listed([*map(name_of, differ)])
    verb = "differs" if len(differ) == 1 else "differ"
    return f"{NO_ALARM}, but {names} {verb} from the reference in its {rows}{_most(differ)}."


def _is_tested(features: Sequence[FeatureDrift]) -> bool:
    return any(drift.p_changed is not None for drift in features)


def _differing(features: Sequence[FeatureDrift], alpha: float) -> list[FeatureDrift]:
    return [own for own in features if own.p_changed is not None and own.p_changed <= alpha]


def _most(features: Sequence[FeatureDrift]) -> str:
    """How far the rows of the feature moved that moved most."""
    drift = most_moved(features)
    if drift is None:
        return ""
    return f": of {name_of(drift)}, {move_text(drift, 'span')}"


def is_calm(features: Sequence[FeatureDrift], kind: str, alpha: float) -> bool:
    """Whether rows without an alarm are like the reference; those of a span may have had theirs."""
    return kind != "span" or (_is_tested(features) and not _differing(features, alpha))


def advice(
    alarms: Sequence[Alarm], features: Sequence[FeatureDrift], kind: str, alpha: float, checks: int
) -> str:
    """What to do."""
    if alarms:
        return _steps(alarms, checks)
    if not is_calm(features, kind, alpha):
        return (
            "What to do: read the report of the whole stream. Its alarm may have come before this "
            "span, and of one change there is one alarm of each kind."
        )
    if not checks:
        return "Nothing needs to be done. That does not prove that nothing changed."
    return (
        f"Read {count_of(checks, 'data check')} below: they raise no alarm, and may matter. No "
        "alarm does not prove that nothing changed."
    )


def _steps(alarms: Sequence[Alarm], checks: int) -> str:
    first = _most_serious(alarms, ())
    steps = ADVICE[first.kind]
    if first.unit is not None and first.kind == "changed":
        steps = f"Look at its size, for small changes are found too. If it matters: {FIND_OUT}"
    begin = f" Begin with {count_of(checks, 'data check')} below." if checks else ""
    return f"What to do: {steps}{begin}"


# How far rows moved.


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
