"""What is on its way into a package: a graph, and what it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array, is_a
from modelkit.proto import signature_of
from modelkit.signature import Signature

if TYPE_CHECKING:
    import onnx

DECISION = "decision"  # what a source decides its labels by, where that is not an output: see Source.truth


@dataclass(frozen=True)
class Source:
    """A graph on its way into a package.

    `truth` answers for rows in the form the source was trained on, by output name, and for classifiers with the
    scores they decide by, under `DECISION`; it and `against`, the name of the source, are None for a graph that came
    without one. `rows` are example rows in that form, None if there are none. `categories` are the values that encoders
    refuse to go beyond, by column. `rounds` is whether the graph computes in float32 what its source computes in
    float64; where that is None, it does if an input or output is float32. `scales` are the sizes of outputs of numbers
    that are below 1, by which differences are judged. `proto` is empty for an estimator that is packaged as it is.
    """

    proto: onnx.ModelProto
    signature: Signature
    rows: Any = None
    against: str | None = None
    truth: Callable[[Any], dict[str, Array]] | None = None
    categories: dict[str, tuple[str, ...]] | None = None
    rounds: bool | None = None
    scales: Mapping[str, float] = field(default_factory=dict)


def count(rows: Any) -> int:
    """The number of rows of an example, also of one that is a dict of arrays."""
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def take(rows: Any, most: int) -> Any:
    """At most `most` rows, evenly spaced."""
    total = count(rows)
    if total <= most:
        return rows
    chosen = np.linspace(0, total - 1, most).astype(int)
    if isinstance(rows, dict):
        return {name: array[chosen] for name, array in rows.items()}
    return rows.iloc[chosen] if is_a(rows, "pandas", "DataFrame") else rows[chosen]


def from_onnx(proto: onnx.ModelProto, rows: object) -> Source:
    """A source from an ONNX model: its signature is the graph's own. Raises ConversionError."""
    return Source(proto, signature_of(proto), rows)
