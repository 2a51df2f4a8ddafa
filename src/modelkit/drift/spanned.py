"""What a report on some hours or days says where no alarm was raised in them.

That no alarm was raised in a span does not say that its rows are like the reference: with "ever" a
change raises one alarm of each kind, which may have come before.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelkit.drift.values import FeatureDrift
from modelkit.drift.wording import count_of, listed, most_moved, move_text, name_of

NO_ALARM = "No alarm was raised in this span"


def headline(features: Sequence[FeatureDrift], rows: int, alpha: float) -> str:
    """Which features differ from the reference, by the tests of the span, and by how much.

    `features` are in the order of their rank. Where there are no tests it says what moved most.
    """
    if not _tested(features):
        return (
            f"{NO_ALARM}. Its {count_of(rows, 'row')} are described, not tested{_most(features)}."
        )
    differ = _differing(features, alpha)
    if not differ:
        return f"{NO_ALARM}. Nothing in its {count_of(rows, 'row')} shows that they differ from before."
    names = [name_of(drift.feature, drift.stratum) for drift in differ]
    verb = "differs" if len(names) == 1 else "differ"
    return (
        f"{NO_ALARM}, but {listed(names)} {verb} from the reference in its "
        f"{count_of(rows, 'row')}{_most(differ)}."
    )


def advice(features: Sequence[FeatureDrift], alpha: float) -> str:
    """What to do about a span in which no alarm was raised."""
    if at_rest(features, alpha):
        return "Nothing needs to be done. That does not prove that nothing changed."
    return (
        "What to do: read the report of the whole stream. Its alarm may have come before this span, "
        "and of one change there is one alarm of each kind."
    )


def at_rest(features: Sequence[FeatureDrift], alpha: float) -> bool:
    """Whether the rows of a span were tested, and no feature differs."""
    return _tested(features) and not _differing(features, alpha)


def _tested(features: Sequence[FeatureDrift]) -> bool:
    return any(drift.p_changed is not None for drift in features)


def _differing(features: Sequence[FeatureDrift], alpha: float) -> list[FeatureDrift]:
    return [own for own in features if own.p_changed is not None and own.p_changed <= alpha]


def _most(features: Sequence[FeatureDrift]) -> str:
    """How far the rows of the feature moved that moved most, in words."""
    drift = most_moved(features)
    if drift is None:
        return ""
    return f": of {name_of(drift.feature, drift.stratum)}, {move_text(drift, 'span')}"
