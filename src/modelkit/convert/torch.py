"""Convert torch modules with torch's own exporter."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from modelkit._internal.arrays import Array
from modelkit.convert.classes import check_classes
from modelkit.convert.graphs import noted
from modelkit.convert.modules import AskedModule, TorchTensors, asked, unwrapped, without_gradients
from modelkit.convert.notes import Notes
from modelkit.convert.roles import classify, refuse_beyond
from modelkit.convert.source import Source
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.runtimes.proto import tensor_spec
from modelkit.signature.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

OPSET = 18  # the oldest that the exporter writes without converting
BATCH = "batch"
EXPORT_ROWS = 2  # the fewest that are no special case to the exporter
LACKED = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
LOGGERS = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")

Axes = dict[str, list[int]]  # of inputs, those whose size is free
Place = tuple[str, int]  # an input, and one of its axes


def from_torch(module: AskedModule, example: Any, notes: Notes, free: Axes) -> Source:
    """Export a module in evaluation mode, with free sizes of rows and of some other axes.

    Args:
        module: a module whose forward takes tensors and gives a tensor, or a tuple or dict of them.
        example: the example as it was given.
        notes: what else was said of it.
        free: the axes of its inputs whose size is left open, beside the first.

    Raises:
        ConversionError: if it cannot be exported, or not for every batch size.
        MissingExtraError: if onnxscript, which the exporter needs, is not installed.
    """
    outputs = list(module.answers(module.rows))
    proto = _export(module, outputs, free)
    _name_sizes(proto.graph)
    inputs = tuple(tensor_spec(value) for value in proto.graph.input)
    given = tuple(tensor_spec(value) for value in proto.graph.output)
    fixed = [spec.name for spec in inputs + given if spec.shape[:1] != (BATCH,)]
    if fixed:
        raise ConversionError(
            f"the exporter fixed the batch dimension of {fixed}: forward uses a size of the "
            "example as a constant; "
            f"take sizes from the tensors, as in x.reshape(x.shape[0], -1)",
            step=module.name,
        )
    signature = noted(proto, Signature(inputs, given), notes, example)
    signature = replace(signature, refusals=refuse_beyond(proto.graph, BATCH))
    truth = _truth(module, notes, signature)
    if signature.classes is not None:
        check_classes(signature.classes, truth(module.rows))
    return Source(
        proto,
        signature,
        rows=module.rows,
        against=f"torch {module.name}",
        truth=truth,
        half=module.half,
    )


def conversions(module: Any, example: Any, notes: Notes) -> Sequence[Callable[[], Source]]:
    """First with every size free that may differ, then with the number of rows alone."""
    source = asked(unwrapped(module), example, notes.preprocess)
    source.answers(source.rows)
    found = _free_axes(source, _few(source))
    tried = [found, {}] if any(found.values()) else [{}]
    return [partial(from_torch, source, example, notes, free) for free in tried]


def _truth(
    module: AskedModule, notes: Notes, signature: Signature
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function from rows by argument to the answers of a module, by the names of a signature."""
    renamed = {old: new for new, old in (notes.outputs or {}).items()}
    classes = signature.classes

    def truth(rows: Mapping[str, Array]) -> dict[str, Array]:
        found = module.answers(rows)
        answers = {renamed.get(name, name): array for name, array in found.items()}
        if classes is not None:
            classify(answers, classes)
        return {name: answers[name] for name in signature.output_names}

    return truth


def _export(module: AskedModule, outputs: list[str], free: Axes) -> onnx.ModelProto:
    """The graph of a module. Raises ConversionError, or MissingExtraError without onnxscript."""
    import torch

    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtraError("saving a torch module", "onnxscript", "torch") from None
    exported = _wide(module)
    few = exported.tensors(_few(module))
    try:
        with without_gradients(), _quiet(), _one_hot_by_table():
            program = torch.onnx.export(
                exported.module,
                kwargs=few,
                dynamo=True,
                input_names=list(few),
                output_names=outputs,
                opset_version=OPSET,
                dynamic_shapes=_dynamic(few, free),
                verbose=False,
            )
    except Exception as error:
        why = _why(error)
        raise ConversionError(
            f"torch cannot export {module.name}{why}, or save the ONNX file that you export yourself",
            step=module.name,
        ) from error
    proto: onnx.ModelProto = program.model_proto  # type: ignore[union-attr]  # None only where it writes a file
    return proto


def _why(error: BaseException | None) -> str:
    """Why torch's exporter failed, and what to do."""
    while error is not None:
        found = LACKED.search(str(error))
        if found:
            return (
                f": its exporter writes no ONNX for the operator {found[1]}, which forward "
                "calls or torch makes of a call; compute that with other operators"
            )
        error = error.__cause__
    return (
        " with an open batch dimension: forward may branch on the values of a tensor, or use a "
        "size as a constant; use torch.where and sizes of tensors"
    )


def _one_hot_by_table() -> Any:
    """While it lasts, torch's one_hot looks its rows up, so a graph refuses what it refuses."""
    import torch

    class Tables(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, called: Any, _: Any, args: Any = (), given: Any = None) -> Any:
            whole = [*args, *(given or {}).values()]
            if called is torch.nn.functional.one_hot and len(whole) == 2 and whole[1] > 0:
                table = torch.eye(whole[1], dtype=torch.int64, device=whole[0].device)
                return torch.nn.functional.embedding(whole[0], table)
            return called(*args, **(given or {}))

    return Tables()


def _few(module: AskedModule) -> dict[str, Array]:
    """The rows that a module is exported with."""
    return {name: array[:EXPORT_ROWS] for name, array in module.rows.items()}


def _dynamic(names: Iterable[str], free: Axes) -> dict[str, dict[int, Any]]:
    """The sizes that stay open, by input and axis."""
    import torch

    sizes: dict[str, dict[int, Any]] = {}
    for name in names:
        sizes[name] = {0: torch.export.Dim(BATCH)}
        for axis in free.get(name, ()):
            sizes[name][axis] = torch.export.Dim.AUTO
    return sizes


def _wide(module: AskedModule) -> AskedModule:
    """The module itself; for one of bfloat16, which numpy lacks, a copy of it in float32."""
    if module.half != "bfloat16":
        return module
    wide = copy.deepcopy(module.module).float()
    return replace(module, module=wide, dtype=next(iter(wide.parameters())).dtype)


def _name_sizes(graph: onnx.GraphProto) -> None:
    """Call free sizes after the first axis that has them; a size that is written as a name is one.

    What the exporter calls s27, or writes as a sum, means nothing to people.
    """
    known = {BATCH: BATCH}
    for value in [*graph.input, *graph.output]:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            symbol = dim.dim_param
            if symbol.isdecimal():
                dim.dim_value = int(symbol)
            elif symbol:
                dim.dim_param = known.setdefault(symbol, f"{value.name}.{axis}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Errors alone are logged, and all is restored afterwards."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _free_axes(source: AskedModule, rows: Mapping[str, Array]) -> Axes:
    """The axes whose size may change, alone or together with others of the same size.

    The first axis counts rows. The columns of a matrix of floats are fixed, for another number of
    them is a mistake, whatever the module would make of it, unless they go with another input, as a
    mask does; and so are the sizes of images that are all resized to one. An axis of size 1 may
    stand for any other.
    """
    given = source.tensors(rows)
    resized = source.steps is not None and source.steps.target is not None
    places = {
        (name, axis): size
        for name, tensor in given.items()
        for axis, size in enumerate(tensor.shape)
        if axis and size > 1 and not (resized and name == source.images)
    }
    found: Axes = {name: [] for name in given}
    for place, size in places.items():
        alike = [other for other in places if places[other] == size]
        groups = [
            group
            for group in ([place], alike)
            if not all(
                given[name].ndim == 2 and given[name].is_floating_point() for name, _ in group
            )
        ]
        if any(_takes_other(source, given, group, size) for group in groups):
            found[place[0]].append(place[1])
    return found


def _takes_other(source: AskedModule, given: TorchTensors, places: list[Place], size: int) -> bool:
    """Whether the module answers where axes of one size have another, twice it or one more."""
    import torch

    for other in (2 * size, size + 1):
        changed = dict(given)
        for name, axis in places:
            repeated = torch.arange(other, device=changed[name].device) % size
            changed[name] = changed[name].index_select(axis, repeated)
        if source.takes(changed):
            return True
    return False
