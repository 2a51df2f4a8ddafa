"""ONNX models that come as they are: the signature a graph states, and the one it keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import onnx

from modelkit._internal.arrays import Array
from modelkit.convert.classes import LABEL_OUTPUT, PROBABILITIES, as_classes
from modelkit.convert.images import image_input, with_preprocess
from modelkit.convert.maps import without_maps
from modelkit.convert.notes import Notes, with_columns_of
from modelkit.convert.roles import add_label, rename_outputs, with_both_shares
from modelkit.convert.source import Converter, Source
from modelkit.errors import ConversionError
from modelkit.runtimes.proto import read_proto, signature_of
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import TensorSpec, check_dims

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
    roles = notes.outputs or {}
    rename_outputs(proto.graph, roles)
    renamed = {old: new for new, old in roles.items()}
    outputs = []
    for spec in signature.outputs:
        name = renamed.get(spec.name, spec.name)
        outputs.append(replace(spec, name=name))
    inputs = list(signature.inputs)
    if notes.preprocess is not None:
        images = image_input(inputs)
        at = inputs.index(images)
        inputs[at] = with_preprocess(proto, images, notes.preprocess)
    classes = None
    if notes.classes is not None:
        classes = as_classes(notes.classes)
        outputs = _classifying(proto.graph, outputs, classes)
    given = Signature(tuple(inputs), tuple(outputs), classes=classes)
    return with_columns_of(given, notes, example)


def _classifying(
    graph: onnx.GraphProto, outputs: list[TensorSpec], classes: tuple[Any, ...]
) -> list[TensorSpec]:
    """The outputs of a graph that gives a label and the probability of each class.

    Raises ConversionError.
    """
    names = [spec.name for spec in outputs]
    if PROBABILITIES not in names:
        raise ConversionError(
            f"classes= needs an output of probabilities, and the outputs are {names}: name it, "
            f"outputs={{{PROBABILITIES!r}: {names[0]!r}}}"
        )
    at = names.index(PROBABILITIES)
    if len(classes) == 2 and outputs[at].shape[1:] in ((), (1,)):
        outputs[at] = with_both_shares(graph, outputs[at])
    if LABEL_OUTPUT not in names:
        outputs.insert(0, add_label(graph, outputs[at], classes))
    return outputs


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
