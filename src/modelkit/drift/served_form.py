"""The rows that a Monitor buffered, made into cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import ABSENT
from modelkit.drift.outputs import ServedCall, call_places, joined_calls, output_columns
from modelkit.drift.profile import Profile
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import PERIODS, UnitRows
from modelkit.drift.vectors import expand
from modelkit.model.model import Outputs
from modelkit.signature.cast import F4, F8
from modelkit.signature.signature import Signature

STEP_ROWS = 256  # rows that are ranked at once: a step that takes no longer than to count them


@dataclass(frozen=True, eq=False)
class BufferedCells:
    """Rows of several calls as cells.

    `cells` is uint8 (n, d), 255 where a row has no value for a feature; `strata` the number of each
    row's stratum, or None; `places` what `call_places` says of each; `parts` the rows of each unit;
    `answers` the model's answers by output, of the calls that asked for the same ones.
    """

    cells: Array
    strata: Array | None
    places: Array
    parts: list[UnitRows]
    answers: list[Outputs]

    def steps(self, tracker: Tracker, sizes: Sequence[int]) -> list[Callable[[], object]]:
        """What is to do for a tracker to look at the rows, in order; `sizes` are those of the calls."""
        cells, order = tracker.arrange(self.cells, self.strata, sizes)
        places = self.places
        strata = self.strata
        if order is not None:
            cells = cells[order]
            places[:, 1] = places[order, 1]
            strata = None if strata is None else strata[order]
        steps: list[Callable[[], object]] = []
        for start in range(0, len(cells), STEP_ROWS):
            part = slice(start, start + STEP_ROWS)
            own = None if strata is None else strata[part]
            steps.append(partial(tracker.rank, cells[part], own, places[part]))
            steps.append(tracker.settle)
        return steps


@final
class ServedForm:
    """The form in which a model takes rows, and what is looked at of them.

    Args:
        signature: of the model.
        wanted: the columns and outputs that are looked at.
    """

    def __init__(self, signature: Signature, wanted: frozenset[str]) -> None:
        self._signature = signature
        self._tensors = [spec.name for spec in signature.inputs]
        self._wanted = wanted

    def made_into_cells(
        self, profile: Profile, buffer: list[ServedCall], before: int
    ) -> BufferedCells:
        """The buffered calls as cells; `before` rows were served before them."""
        places = call_places(buffer, before)
        n = len(places)
        cells = np.full((n, len(profile.features)), ABSENT, np.uint8)
        strata = None if profile.stratum is None else np.empty(n, np.int64)
        timed = profile.timed_stratum or profile.unit in PERIODS
        shown = []
        parts: list[UnitRows] = []
        for names, (at, whole) in joined_calls(buffer).items():
            columns, answers = self._columns(profile, names, whole)
            rows = profile.layout.encode_columns(columns, places[at, 1] if timed else None)
            cells[at] = rows.cells
            if strata is not None and rows.strata is not None:
                strata[at] = rows.strata
            shown.append(answers)
            parts += [UnitRows(part.key, at[part.rows]) for part in rows.units or ()]
        return BufferedCells(cells, strata, places, parts, shown)

    def _columns(
        self, profile: Profile, names: tuple[str, ...], whole: Sequence[Array]
    ) -> tuple[Outputs, Outputs]:
        """The columns of buffered rows by feature name, and the model's answers by name."""
        inputs = [_laid_out(block, profile) for block in whole[: len(self._tensors)]]
        feeds = dict(zip(self._tensors, inputs, strict=True))
        answers = dict(zip(names, whole[len(self._tensors) :], strict=True))
        columns = self._signature.columns(feeds)
        if answers:
            columns |= output_columns(answers)
            columns = {name: column for name, column in columns.items() if name in self._wanted}
        return expand(columns, profile.bases) if profile.bases else columns, answers


def _laid_out(block: Array, profile: Profile) -> Array:
    """Columns side by side in memory, doubles as the float32 they are compared as.

    With strata they stay doubles, for a stratum keeps its digits.
    """
    if block.dtype is F8 and profile.stratum is None:
        with np.errstate(over="ignore"):
            block = block.astype(F4)
    return np.asfortranarray(block)
