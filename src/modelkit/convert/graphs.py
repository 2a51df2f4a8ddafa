"""ONNX models that come as they are: the signature a graph states, and the one it keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import onnx

from modelkit._internal.arrays import Array
from modelkit.convert.classes import LABEL_OUTPUT, PROBABILITIES, as_classes, listed_classes
from modelkit.convert.notes import Notes, with_columns_of
from modelkit.convert.roles import rename_outputs, with_classes, with_images
from modelkit.convert.source import Source
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


def without_maps(proto: onnx.ModelProto) -> list[Any] | None:
    """Let a graph give the probabilities that ZipMap would make dicts of; gives their classes.

    The output is then called probabilities, and the only other one label. None where the graph has
    no such output, or several, which are left as they are.
    """
    graph = proto.graph
    names = [value.name for value in graph.output]
    found = [node for node in graph.node if node.op_type == "ZipMap" and node.output[0] in names]
    if len(found) != 1 or found[0].input[0] in names:
        return None
    (zipmap,) = found
    classes = listed_classes(zipmap)
    shares = zipmap.input[0]
    at = names.index(zipmap.output[0])
    graph.node.remove(zipmap)
    matrix = onnx.helper.make_tensor_value_info(
        shares, onnx.TensorProto.FLOAT, [None, len(classes)]
    )
    graph.output[at].CopyFrom(matrix)
    roles = {PROBABILITIES: shares}
    if len(names) == 2:
        roles[LABEL_OUTPUT] = names[1 - at]
    rename_outputs(graph, roles)
    return classes


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
    outputs = list(signature.outputs)
    for feeds, answers in runs:
        sizes = check_dims(signature.inputs, feeds)
        for at, spec in enumerate(outputs):
            given = answers[spec.name].shape
            stated = spec.shape if len(given) == len(spec.shape) else (-1,) * len(given)
            shape = tuple(
                dim
                if size == (sizes.get(dim, size) if isinstance(dim, str) else dim)
                else f"{spec.name}.{axis}"
                for axis, (size, dim) in enumerate(zip(given, stated, strict=True))
            )
            outputs[at] = replace(spec, shape=shape)
    return replace(signature, outputs=tuple(outputs))
