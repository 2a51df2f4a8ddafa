"""What is read of a Profile to find the cells, strata and units of rows: its counts are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.units import ReferenceUnits
from modelkit.drift.vectors import Basis


class Fitted(Protocol):
    """The part of a Profile that says where rows belong; see there."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """What is looked at, and its cells."""
        ...

    @property
    def strata(self) -> tuple[str, ...]:
        """The names of the strata."""
        ...

    @property
    def stratum(self) -> str | None:
        """The column that tells the stratum."""
        ...

    @property
    def timed_stratum(self) -> bool:
        """Whether times tell the stratum."""
        ...

    @property
    def bases(self) -> Mapping[str, Basis]:
        """What makes numbers of embeddings."""
        ...

    @property
    def unit(self) -> str | None:
        """What is compared as a whole."""
        ...

    @property
    def units(self) -> ReferenceUnits | None:
        """What is kept of the units of the reference."""
        ...

    @property
    def time(self) -> str | None:
        """The column of times."""
        ...

    @property
    def epsilon(self) -> float | None:
        """That of differential privacy."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the probabilities, in their order; none where they are not known."""
        ...

    @property
    def digest(self) -> str:
        """The sha256 of the profile."""
        ...

    def columns(self, X: Any) -> dict[str, Array]:
        """The columns of rows that are looked at."""
        ...

    def outputs(self) -> set[str]:
        """The outputs that are looked at."""
        ...
