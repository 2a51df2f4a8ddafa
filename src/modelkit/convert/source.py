"""What is on its way into a package: a graph, and what it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array, is_a
from modelkit.proto import signature_of
from modelkit.signature import Feeds, Signature
from modelkit.spec import check_dims
from modelkit.texts.terms import Terms
from modelkit.texts.vectorizer import Texts

if TYPE_CHECKING:
    import onnx

DECISION = (
    "decision"  # what a source decides its labels by, where that is not an output: see Source.truth
)


@dataclass(frozen=True)
class Source:
    """A graph on its way into a package.

    `truth` answers for rows in the form the source was trained on, by output name, and for
    classifiers with the scores they decide by, under `DECISION`; it and `against`, the name of the
    source, are None for a graph that came without one. `rows` are example rows in that form, None
    if there are none. `categories` are the values that encoders refuse to go beyond, by column.
    `rounds` is whether the graph computes in float32 what its source computes in float64; where
    that is None, it does if an input or output is float32. `scales` are the sizes of outputs of
    numbers that are below 1, by which differences are judged. `texts` says what is done to texts
    before the graph, and `terms` what each of its vectorizers counts; None and () for a graph that
    reads no texts. `proto` is empty for an estimator that is packaged as it is.
    """

    proto: onnx.ModelProto
    signature: Signature
    rows: Any = None
    against: str | None = None
    truth: Callable[[Any], dict[str, Array]] | None = None
    categories: dict[str, tuple[str, ...]] | None = None
    rounds: bool | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    texts: Texts | None = None
    terms: tuple[Terms, ...] = ()


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


def settled(signature: Signature, runs: Iterable[tuple[Feeds, Mapping[str, Array]]]) -> Signature:
    """The signature without what these runs contradict: an output's size that is another gets a name of its own.

    A graph may state sizes that it does not give, and an unnamed leading dimension need not be that
    of the rows.
    """
    shapes = {spec.name: list(spec.shape) for spec in signature.outputs}
    for feeds, answers in runs:
        sizes = check_dims(signature.inputs, feeds)
        for name, shape in shapes.items():
            if answers[name].ndim != len(shape):
                shape[:] = [f"{name}.{axis}" for axis in range(answers[name].ndim)]
            for axis, size in enumerate(answers[name].shape):
                dim = shape[axis]
                if size != (sizes.get(dim, size) if isinstance(dim, str) else dim):
                    shape[axis] = f"{name}.{axis}"
    outputs = tuple(replace(spec, shape=tuple(shapes[spec.name])) for spec in signature.outputs)
    return replace(signature, outputs=outputs)
