"""Which of the names that rows come with are columns of a model, and where they are."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, final

from modelkit._internal.names import did_you_mean
from modelkit.errors import SignatureError

MORE_COLUMNS = "\nleave such columns out, or let them pass: mk.load(..., extra='ignore')"
MOST_PROBLEMS = 20  # that one message lists


@final
class ColumnNames:
    """The names of a model's columns, beside those that rows may have as well.

    Args:
        wanted: the columns, in order.
        ignored: columns that rows may have and that are not read.
        takes_extra: whether rows may have any other column too.

    `lenient` is whether there are any that rows may have beside the columns.
    """

    __slots__ = ("_ignored", "_known", "_last_order", "_takes_extra", "lenient", "wanted")

    def __init__(self, wanted: list[str], ignored: Iterable[str], *, takes_extra: bool) -> None:
        self.wanted = wanted
        self._known = frozenset(wanted)
        self._ignored = frozenset(ignored)
        self._takes_extra = takes_extra
        self.lenient = takes_extra or bool(self._ignored)
        # The names of the last frame, and the positions of our columns among them.
        self._last_order: tuple[object, list[int]] = (None, [])

    def order(self, names: Iterable[object]) -> list[int]:
        """For each of our columns its position among `names`; empty if they are in our order.

        Raises SignatureError for missing, unknown and double ones.
        """
        last_names, last_order = self._last_order
        if names is last_names:
            return last_order
        found = [str(name) for name in names]
        order = []
        if found != self.wanted:
            kept = [name for name in found if not self._is_spare(name)]
            _check_columns(self.wanted, kept, found)
            position = {name: i for i, name in enumerate(found)}
            order = [position[name] for name in self.wanted]
        # A pandas Index is immutable, and shared by slices of a frame.
        if not isinstance(names, list):
            self._last_order = (names, order)
        return order

    def in_array(self, width: int) -> list[int]:
        """The positions of our columns in an array that has those that are not read as well.

        Empty where the names are not positions, and for an array of another width.
        """
        if not self._ignored or self._ignored.union(self.wanted) != set(map(str, range(width))):
            return []
        return [int(name) for name in self.wanted]

    def without_spare(self, X: Any) -> Any:
        """A dict or records without the names that are not read; X itself where it has none."""
        if isinstance(X, Mapping):
            return self._read(X)
        if isinstance(X, list | tuple) and all(isinstance(row, Mapping) for row in X):
            rows = [self._read(row) for row in X]
            return X if all(map(operator.is_, rows, X)) else rows
        return X

    def _read(self, record: Mapping[Any, Any]) -> Mapping[Any, Any]:
        spare = {name for name in record if self._is_spare(str(name))}
        if not spare:
            return record
        return {name: value for name, value in record.items() if name not in spare}

    def _is_spare(self, name: str) -> bool:
        """Whether rows may have a column of this name that is not read."""
        return name in self._ignored or (self._takes_extra and name not in self._known)


def _check_columns(expected: list[str], found: list[str], given: list[str]) -> None:
    """Raise SignatureError unless the columns that count are those expected.

    `given` are all names of the rows: a missing column may be one of them in other letters.
    """
    counts = Counter(found)
    known = {*expected}
    missing = [name for name in expected if name not in counts]
    extra = [name for name in counts if name not in known]
    twice = sorted(name for name, count in counts.items() if count > 1)
    others = [name for name in given if name not in known]
    problems = missing_columns(missing, others)
    problems += [f"unexpected column {name!r}" for name in extra]
    problems += [f"column {name!r} appears twice" for name in twice]
    if problems:
        raise refused_rows(problems, MORE_COLUMNS if extra and not missing else "")


def missing_columns(missing: Iterable[str], others: list[str]) -> list[str]:
    """A problem for each missing column, with the likely one among other names."""
    return [f"missing column {name!r}{did_you_mean(name, others)}" for name in missing]


def refused_rows(problems: list[str], advice: str = "") -> SignatureError:
    """The error for rows that do not fit; its message lists the first problems, then the advice."""
    lines = problems[:MOST_PROBLEMS]
    if len(problems) > MOST_PROBLEMS:
        lines = [*lines, f"... and {len(problems) - MOST_PROBLEMS} more"]
    listed = "\n  ".join(lines)
    return SignatureError(
        f"the rows do not fit the signature:\n  {listed}{advice}", problems=tuple(problems)
    )
