"""ONNX models that come as they are: the signature a graph states, and the one it keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import onnx

from modelkit._internal.arrays import Array
from modelkit.convert.classes import as_classes
from modelkit.convert.maps import without_maps
from modelkit.convert.notes import Notes, with_columns_of
from modelkit.convert.roles import rename_outputs, with_classes, with_images
from modelkit.convert.source import Converter, Source
from modelkit.runtimes.proto import read_proto, signature_of
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import check_dims

FORMS = (onnx.ModelProto, bytes, bytearray, memoryview, str, os.PathLike)


def from_onnx(model: object, rows: Any, notes: Notes) -> Source:
    """A source from an ONNX model: its signature is the graph's own, with what notes add.

    Raises ConversionError.
    """
    proto = read_proto(model)
    assert proto is not None  # each of FORMS is read, or raises
    told = without_maps(proto)
    signature = noted(proto, signature_of(proto), notes, rows)
    if signature.classes is None and told is not None:
        signature = replace(signature, classes=tuple(told))
    return Source(proto, signature, rows, named=notes.classes is not None)


CONVERTER = Converter(
    owns=lambda model: isinstance(model, FORMS),
    ways=lambda model, example, notes: [partial(from_onnx, model, example, notes)],
)


def noted(proto: onnx.ModelProto, signature: Signature, notes: Notes, example: Any) -> Signature:
    """The signature of a graph once notes are written into it: outputs, images, label and columns.

    Raises ConversionError.
    """
    inputs, outputs = list(signature.inputs), list(signature.outputs)
    classes = None if notes.classes is None else as_classes(notes.classes)
    if notes.outputs or notes.preprocess or classes:
        roles = notes.outputs or {}
        rename_outputs(proto.graph, roles)
        renamed = {old: new for new, old in roles.items()}
        outputs = [replace(spec, name=renamed.get(spec.name, spec.name)) for spec in outputs]
    if notes.preprocess is not None:
        inputs = with_images(proto, inputs, notes.preprocess)
    if classes is not None:
        outputs = with_classes(proto.graph, outputs, classes)
    given = Signature(tuple(inputs), tuple(outputs), classes=classes)
    return with_columns_of(given, notes, example)


def settled(signature: Signature, runs: Iterable[tuple[Feeds, Mapping[str, Array]]]) -> Signature:
    """The signature without what runs contradict: an output's other size gets a name.

    A graph may state sizes that it does not give, and an unnamed leading dimension need not be that
    of the rows.
    """
    shapes = {spec.name: list(spec.shape) for spec in signature.outputs}
    for feeds, answers in runs:
        sizes = check_dims(signature.inputs, feeds)
        for name, shape in shapes.items():
            given = answers[name].shape
            own_names = [f"{name}.{axis}" for axis in range(len(given))]
            if len(given) != len(shape):
                shape[:] = own_names
            for axis, size in enumerate(given):
                stated = shape[axis]
                if isinstance(stated, str):
                    stated = sizes.get(stated, size)
                if size != stated:
                    shape[axis] = own_names[axis]
    outputs = []
    for spec in signature.outputs:
        found = tuple(shapes[spec.name])
        outputs.append(replace(spec, shape=found))
    return replace(signature, outputs=tuple(outputs))
