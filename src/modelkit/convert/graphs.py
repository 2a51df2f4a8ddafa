"""ONNX models that come as they are: the signature a graph states, and the one it keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import onnx

from modelkit.cast import Array
from modelkit.convert.source import Converter, Source
from modelkit.proto import read_proto, signature_of
from modelkit.signature import Feeds, Signature
from modelkit.spec import check_dims

FORMS = (onnx.ModelProto, bytes, bytearray, memoryview, str, os.PathLike)


def from_onnx(model: object, rows: Any) -> Source:
    """A source from an ONNX model: its signature is the graph's own. Raises ConversionError."""
    proto = read_proto(model)
    assert proto is not None  # noqa: S101 - each of FORMS is read, or raises
    return Source(proto, signature_of(proto), rows)


CONVERTER = Converter(
    owns=lambda model: isinstance(model, FORMS),
    ways=lambda model, example: [partial(from_onnx, model, example)],
)


def settled(signature: Signature, runs: Iterable[tuple[Feeds, Mapping[str, Array]]]) -> Signature:
    """The signature without what runs contradict: an output's other size gets a name.

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
