"""The Tallier: counts batches of rows for a Profile, in whatever process it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, final

import numpy as np

from modelkit.drift.counts import Tally
from modelkit.drift.detector import Detector
from modelkit.drift.layout import differences, first_names
from modelkit.drift.outputs import OF_CLASSES
from modelkit.drift.profile import Profile, check_adds_up, check_profile
from modelkit.drift.report import DriftReport
from modelkit.drift.units import PERIODS
from modelkit.errors import UsageError
from modelkit.integrations.scorer import arrow
from modelkit.integrations.scorer.columns import repeated
from modelkit.integrations.scorer.once import OncePerProcess
from modelkit.integrations.scorer.tensors import block_of, with_text_names

TALLY = "tally"  # the one column of a table of tallies
_profiles = OncePerProcess()


@final
class Tallier:
    """Makes a Tally of each batch that an engine hands it; it is pickled as the Profile's bytes.

    Args:
        profile: the past.
        scores: the outputs of the model that are among the columns of the rows, as a Scorer adds
            them; without any, the rows alone are counted.

    Raises:
        UsageError: for outputs that the profile does not look at, and for a profile that no tallies
            are tested against.
    """

    def __init__(self, profile: Profile, scores: Sequence[str] = ()) -> None:
        self._data = check_profile(profile).to_bytes()
        self._digest = profile.digest
        if isinstance(scores, str):
            raise UsageError(f"scores is a list of names, not the text {scores!r}")
        self._scores = tuple(scores)
        check_adds_up(profile)
        looked_at = _outputs_looked_at(profile)
        odd = sorted(set(scores) - looked_at)
        if odd:
            raise UsageError(f"the profile lacks the scores {odd}; it has {sorted(looked_at)}")

    @property
    def profile(self) -> Profile:
        """The Profile of this process."""
        return _profiles.get(self._digest, "profile", partial(Profile.from_bytes, self._data))

    def columns(self, known: Sequence[str]) -> list[str]:
        """The known columns that are counted.

        Raises UsageError where one is missing, and where one is there twice.
        """
        profile = self.profile
        profile.layout.check_columns(known)
        needed = profile.layout.sources()
        for own in self._score_columns(known).values():
            needed += own
        if profile.time in known:
            needed.append(str(profile.time))
        elif profile.unit in PERIODS or profile.layout.timed:
            raise UsageError(f"the rows lack the column {profile.time!r}, which has their times")
        twice = repeated(known, needed)
        if twice:
            raise UsageError(f"the rows have several columns of the names {twice}; rename them")
        return list(dict.fromkeys(needed))

    def _score_columns(self, known: Sequence[str]) -> dict[str, list[str]]:
        """For each output its own column, or one for each of its values, as frames have them.

        Values are distinguished by the names of columns, not by their order: by classes, or
        numbers.
        Raises UsageError where one is missing, and where there is one more.
        """
        layout = self.profile.layout
        others = {*self._scores, *layout.sources(), str(self.profile.time)}
        outputs = _outputs_looked_at(self.profile)
        found = {}
        for name in self._scores:
            if name in known:
                found[name] = [name]
                continue
            start = f"{name}_"
            longer = tuple(f"{each}_" for each in outputs if each.startswith(start))
            begun = [each for each in known if each.startswith(start) and each not in others]
            begun = [each for each in begun if not each.startswith(longer)]
            classes = layout.class_names if name == OF_CLASSES else ()
            labels = classes or map(str, range(len(begun) or 1))
            found[name] = [f"{start}{label}" for label in labels]
            check_values(name, begun, found[name])
        return found

    def arrow(self, table: Any) -> Any:
        """A table of one tally, of none for no rows."""
        return _table([self._of_table(table)] if table.num_rows else [])

    def _of_table(self, table: Any) -> Tally:
        return self._counted(table.column_names, partial(_array, table))

    def _counted(self, known: Sequence[str], read: Callable[[str], Any]) -> Tally:
        columns = {name: read(name) for name in self.columns(known)}
        scores = {}
        for name, own in self._score_columns(known).items():
            values = [columns.pop(column) for column in own]
            scores[name] = values[0] if name in known else np.column_stack(values)
        return self.profile.tally(columns or None, scores or None)

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """One record batch of the tally of a stream of Arrow record batches."""
        pa = arrow.pyarrow()
        own = (self._of_table(pa.Table.from_batches([each])) for each in batches if each.num_rows)
        yield from _table(summed_tallies(own)).to_batches()

    def frame(self, frame: Any) -> list[Tally]:
        """The tally of a pandas frame, none for no rows."""
        if not len(frame):
            return []
        named = with_text_names(frame)
        return [self._counted(list(named.columns), partial(_series, named))]

    def report(self, tallies: Sequence[Tally], alpha: float, seed: int) -> DriftReport:
        """The exact test of the sum of tallies. Raises UsageError for no rows."""
        if not tallies:
            raise UsageError("the table is empty; pass rows to test")
        detector = Detector(self.profile, alpha=alpha, seed=seed)
        return detector.test(Tally.total(tallies))


def summed_tallies(tallies: Iterable[Tally]) -> list[Tally]:
    """The total of a stream of tallies, of which two are held at a time; none for none."""
    total: list[Tally] = []
    for tally in tallies:
        total = [Tally.total([*total, tally])]
    return total


def read_tallies(tables: Iterable[Any]) -> Iterator[Tally]:
    """The tallies of a stream of Arrow tables or record batches that a Tallier made."""
    for table in tables:
        for data in table.column(TALLY):
            yield Tally.from_bytes(data.as_py())


def sum_batches(batches: Iterable[Any]) -> Iterator[Any]:
    """One record batch of the total of the tallies in a stream of record batches."""
    total = summed_tallies(read_tallies(batches))
    yield from _table(total).to_batches()


def _outputs_looked_at(profile: Profile) -> set[str]:
    """The outputs of the model that a profile looks at."""
    names = {name.partition("[")[0] for name in profile.layout.outputs()}
    return names | {OF_CLASSES} if "confidence" in names else names


def check_values(name: str, begun: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise UsageError unless the columns that begin with the name of an output are its values'."""
    has = "they have {}, which begin so and are none of these"
    if said := differences(wanted, begun, "they lack {}", has):
        raise UsageError(
            f"the scores {name!r} are one column of that name, or {first_names(wanted)}. Of the "
            f"columns of the rows, {said}. Rename other columns; the names of classes are known to "
            "a profile that was fitted with model="
        )


def _array(table: Any, name: str) -> Any:
    """A column of Arrow as arrays of rows are; lists as (n, width), NaN where a value is missing."""
    column = table[name]
    return _numbers(arrow.as_block(column, name)) if arrow.is_list(column) else column


def _series(frame: Any, name: str) -> Any:
    """A column of pandas in the same form."""
    return _numbers(block_of(frame[name], name))


def _numbers(block: Any) -> Any:
    """Arrays of rows with NaN where a value is missing, and as floats where their types are mixed."""
    if isinstance(block, np.ma.MaskedArray):
        return np.ma.filled(block.astype(np.float64), np.nan)
    mixed = isinstance(block, np.ndarray) and block.dtype == object
    return block.astype(np.float64) if mixed else block


def _table(tallies: Sequence[Tally]) -> Any:
    """Tallies as a table of bytes."""
    pa = arrow.pyarrow()
    data = [tally.to_bytes() for tally in tallies]
    return pa.table({TALLY: pa.array(data, pa.binary())})
