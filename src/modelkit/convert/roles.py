"""What is written into a graph that came as it is: names of its outputs, images in front, a label behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.compose import add_prefix_graph
from onnx.defs import get_schema

from modelkit.convert.classes import LABEL_OUTPUT, PROBABILITIES
from modelkit.errors import ConversionError
from modelkit.signature.refusing import REFUSED
from modelkit.signature.spec import TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.preprocess import Preprocess

INSIDE = "given/"  # before the names of the tensors that a graph came with
OLDEST = 11  # the operator set that Range and the inputs of Clip came with
WRITTEN = 19  # the one that a traced array writes
FX_NODE = "pkg.torch.onnx.fx_node"  # what the exporter notes of each node: the call it comes from
LOOKED_UP = re.compile(r"aten\.(embedding|embedding_bag|index_select|gather)\.")
Shapes = dict[str, list[Any]]  # of tensors: sizes, and names of open dimensions


def rename_outputs(graph: onnx.GraphProto, roles: Mapping[str, str]) -> None:
    """Give outputs of a graph other names, from new to old, and a prefix to all tensors inside.

    So nothing that is added later has the name of one. Raises ConversionError.
    """
    given = [value.name for value in graph.output]
    strange = sorted(set(roles.values()) - set(given))
    if strange:
        raise ConversionError(f"outputs= names {strange}, and the outputs are {given}")
    renamed = {old: new for new, old in roles.items()}
    after = [renamed.get(name, name) for name in given]
    if len(renamed) < len(roles) or len(set(after)) < len(after):
        raise ConversionError(
            f"outputs= is from a new name to an output, each once; it would make {after} of {given}"
        )
    inputs = {value.name for value in graph.input}
    for old, new in renamed.items():
        if old != new and inputs & {old, new}:
            raise ConversionError(
                f"outputs= makes {new!r} of {old!r}, and one of them is an input of the graph: "
                "an input keeps its name; choose another"
            )
    _rename(graph, renamed, INSIDE)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str], prefix: str) -> None:
    """Rename inputs and outputs, here and in the graphs inside, and put a prefix before all other names."""
    settings = {"rename_inputs": False, "rename_outputs": False, "rename_value_infos": False}
    add_prefix_graph(graph, prefix, inplace=True, name_map=dict(names), **settings)


def written(what: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> onnx.GraphProto:
    """What was computed with traced arrays, as nodes that any set of operators from 11 on has.

    What a later set added to an operator is a setting, whose default changes nothing. `what` is
    before the names of the tensors in between.
    """
    from modelkit.convert.estimators.tensors import model_of

    proto, _ = model_of(inputs, outputs)
    made = proto.graph
    _rename(made, {}, f"{what}/")
    for node in made.node:
        known = get_schema(node.op_type, WRITTEN).attributes
        kept = [each for each in node.attribute if each != known[each.name].default_value]
        del node.attribute[:]
        node.attribute.extend(kept)
    return made


def with_images(
    proto: onnx.ModelProto, specs: list[TensorSpec], steps: Preprocess
) -> list[TensorSpec]:
    """Let a graph take images of bytes in place of one of its inputs; gives the inputs that it has then.

    Raises ConversionError.
    """
    from modelkit.convert.estimators.tensors import argument
    from modelkit.convert.images import image_spec, prepared

    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if min(versions, default=OLDEST) < OLDEST:
        raise ConversionError(
            f"preprocess= is written in operators of set {OLDEST}, and the graph has set "
            f"{min(versions)}; export it again with a newer one"
        )
    graph = proto.graph
    at, taken = image_spec(specs, steps)
    images = argument(taken)
    inner = INSIDE + taken.name
    _rename(graph, {taken.name: inner}, "")
    found = prepared(images, steps).astype(specs[at].dtype)
    made = written("images", {taken.name: images}, {inner: found})
    made.node.extend(graph.node)
    del graph.node[:]
    graph.node.extend(made.node)
    graph.initializer.extend(made.initializer)
    next(value for value in graph.input if value.name == inner).CopyFrom(made.input[0])
    return [*specs[:at], taken, *specs[at + 1 :]]


def classify(answers: dict[str, Any], classes: tuple[Any, ...]) -> None:
    """Give answers, arrays or traced, the probabilities of both of two classes, and a label.

    It is the class whose probability is the largest, of equal ones the first.
    """
    from modelkit.convert.estimators.tensors import complement, largest
    from modelkit.convert.estimators.traced import gathered

    shares = answers[PROBABILITIES]
    if len(classes) == 2 and shares.shape[1:] in ((), (1,)):
        shares = answers[PROBABILITIES] = complement(np.reshape(shares, (-1, 1)))
    if LABEL_OUTPUT not in answers:
        answers[LABEL_OUTPUT] = gathered(classes, largest(shares))


def with_classes(
    graph: onnx.GraphProto, specs: list[TensorSpec], classes: tuple[Any, ...]
) -> list[TensorSpec]:
    """Let a graph give a label and the probability of each class; gives the outputs that it has then.

    Raises ConversionError.
    """
    from modelkit.convert.estimators.tensors import argument

    at = _place_of_probabilities(graph, specs, len(classes))
    spec = specs[at]
    given = argument(spec)
    answers = {each.name: given for each in specs if each.name in (PROBABILITIES, LABEL_OUTPUT)}
    classify(answers, classes)
    found = {name: each for name, each in answers.items() if each is not given}
    if not found:
        return specs
    one = PROBABILITIES in found  # of the second class alone
    inner = INSIDE + PROBABILITIES if one else PROBABILITIES
    _rename(graph, {PROBABILITIES: inner}, "")
    made = written("classes", {inner: given}, found)
    graph.node.extend(made.node)
    graph.initializer.extend(made.initializer)
    stated = {value.name: value for value in made.output}
    if one:
        specs[at] = replace(spec, shape=(spec.shape[0], 2))
        graph.output[at].CopyFrom(stated[PROBABILITIES])
    if LABEL_OUTPUT in found:
        kind = np.asarray(classes).dtype
        dtype = "string" if kind.kind == "U" else str(kind)
        specs.insert(0, TensorSpec(LABEL_OUTPUT, dtype, spec.shape[:1]))
        graph.output.insert(0, stated[LABEL_OUTPUT])
    return specs


def _place_of_probabilities(graph: onnx.GraphProto, specs: list[TensorSpec], classes: int) -> int:
    """Where the probabilities are among outputs. Raises ConversionError where they fit no such classes."""
    names = [spec.name for spec in specs]
    if PROBABILITIES not in names:
        raise ConversionError(
            f"classes= needs an output of probabilities, and the outputs are {names}: name it, "
            f"outputs={{{PROBABILITIES!r}: {names[0]!r}}}"
        )
    at = names.index(PROBABILITIES)
    _, *widths = specs[at].shape
    one = classes == 2 and widths in ([], [1])
    open_ = len(widths) == 1 and isinstance(widths[0], str)
    if not (one or open_ or widths == [classes]):
        raise ConversionError(
            f"there are {classes} classes, and the probabilities are {specs[at]}: they have one "
            "column for each class"
        )
    if LABEL_OUTPUT not in names and any(value.name == LABEL_OUTPUT for value in graph.input):
        raise ConversionError(f"the graph has an input {LABEL_OUTPUT!r}: rename it there")
    return at


def refuse_beyond(graph: onnx.GraphProto, batch: str) -> tuple[str, ...]:
    """Let a graph say in which rows it looks up an index that a table lacks; gives the reasons.

    torch takes no index below 0 for an Embedding, and ONNX counts such from the end. The graph looks
    up the nearest one there is. `batch` is the dimension of the rows: indices that belong to no row
    are left as they are.
    """
    shapes = _shapes_of(graph)
    inputs = {value.name for value in graph.input}
    reasons: list[str] = []
    apart: list[str] = []
    for node in list(graph.node):
        call = next((each.value for each in node.metadata_props if each.key == FX_NODE), "")
        found = LOOKED_UP.search(call)
        if found is None or node.op_type not in ("Gather", "GatherElements"):
            continue
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        size = shapes.get(node.input[0], [""])[axis]
        rows = _of_rows(graph, node.input[1], shapes, batch)
        if not isinstance(size, int) or rows is None:
            continue
        apart.append(_limited(graph, node, size, rows, f"{REFUSED}.{len(apart)}"))
        of = f" of input {rows!r}" if rows in inputs else ""
        reasons.append(f"torch's {found[1]}{of} takes indices from 0 to {size - 1}")
    if reasons:
        graph.node.append(helper.make_node("Concat", apart, [REFUSED], axis=1))
        shape: list[str | int | None] = [batch, len(apart)]
        graph.output.append(helper.make_tensor_value_info(REFUSED, TensorProto.DOUBLE, shape))
    return tuple(reasons)


def _shapes_of(graph: onnx.GraphProto) -> Shapes:
    """What is known of the shapes of tensors."""
    shapes: Shapes = {tensor.name: [*tensor.dims] for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info]:
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = [dim.dim_param or dim.dim_value for dim in dims]
    return shapes


def _of_rows(graph: onnx.GraphProto, name: str, shapes: Shapes, batch: str) -> str | None:
    """The tensor with an axis of rows that a tensor has the numbers of, in other dimensions."""
    makers = {output: node for node in graph.node for output in node.output}
    while shapes.get(name, [])[:1] != [batch]:
        if name not in makers or makers[name].op_type not in ("Cast", "Reshape", "Unsqueeze"):
            return None
        name = makers[name].input[0]
    return name


def _limited(graph: onnx.GraphProto, node: onnx.NodeProto, size: int, rows: str, name: str) -> str:
    """Limit the indices that a node looks up to those that a table has.

    Gives (rows, 1) of float64: how far the indices of each row lie beyond, in sum.
    """
    from modelkit.convert.estimators.tensors import constant, op
    from modelkit.convert.estimators.traced import norms, variable

    # Nodes alone are kept of these: the indices may be of int32, and have more dimensions.
    given = {each: variable(np.int64, (None,)) for each in (rows, node.input[1])}
    whole = op.cast(given[node.input[1]], to=np.int64)
    within = np.clip(whole, 0, size - 1)
    shape = np.concatenate([op.shape(given[rows], start=0, end=1), constant([-1])])
    apart = op.reshape((whole - within).astype(np.float64), shape)
    found = {f"{name}.within": within, f"{name}.sum": norms(apart, "l1")}
    made = written(name, given, found)
    graph.initializer.extend(made.initializer)
    at = list(graph.node).index(node)
    for each in reversed(made.node):
        graph.node.insert(at, each)
    graph.node[at + len(made.node)].input[1] = f"{name}.within"
    return f"{name}.sum"
