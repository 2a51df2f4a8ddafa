"""Convert torch modules with torch's own exporter. The only module that imports torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array, is_a
from modelkit.convert.source import Converter, Source
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.proto import tensor_spec
from modelkit.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

OPSET = 18  # the oldest that the exporter writes without converting


def is_module(source: object) -> bool:
    """Whether `source` is a torch module, without importing torch."""
    return is_a(source, "torch.nn", "Module")


def from_torch(module: Any, example: Any) -> Source:
    """Export a module in evaluation mode, with the leading dimension of all tensors left open.

    Args:
        module: a torch.nn.Module whose forward takes tensors and gives a tensor, or a tuple or dict
            of them.
        example: rows as forward takes them: one array or tensor, or a dict of them by the names of
            its arguments.

    Raises:
        ConversionError: if it cannot be exported, or not for every batch size.
        MissingExtraError: if onnxscript, which the exporter needs, is not installed.
    """
    if is_a(module, "torch._dynamo", "OptimizedModule"):
        module = module._orig_mod  # noqa: SLF001 - where torch.compile keeps what it wraps
    rows = _rows(module, example)
    names = list(rows)
    truth = _truth(module, names)
    outputs = list(truth(rows))
    proto = _export(module, rows, outputs)
    inputs = tuple(tensor_spec(value) for value in proto.graph.input)
    given = tuple(tensor_spec(value) for value in proto.graph.output)
    fixed = [spec.name for spec in inputs + given if spec.shape[:1] != ("batch",)]
    if fixed:
        raise ConversionError(
            f"the exporter fixed the batch dimension of {fixed}: forward uses a size of the "
            "example as a constant; "
            f"take sizes from the tensors, as in x.reshape(x.shape[0], -1)",
            step=type(module).__name__,
        )
    return Source(
        proto,
        Signature(inputs, given),
        rows=rows,
        against=f"torch {type(module).__name__}",
        truth=truth,
    )


CONVERTER = Converter(
    owns=is_module,
    ways=lambda module, example: [partial(from_torch, module, example)],
    trained_with=("torch", "onnxscript"),
)


def _rows(module: Any, example: Any) -> dict[str, Array]:
    """Example rows by argument of forward, as arrays."""
    import inspect

    if example is None:
        raise ConversionError(
            "a module is exported and proven with rows: pass example=X[:64], as forward takes them"
        )
    arguments = list(inspect.signature(module.forward).parameters)
    by_name = dict(example) if isinstance(example, Mapping) else {arguments[0]: example}
    strange = sorted(set(by_name) - set(arguments))
    if strange:
        raise ConversionError(
            f"example has {strange}, which are no arguments of forward; pass some of {arguments}"
        )
    rows = {name: np.asarray(by_name[name]) for name in arguments if name in by_name}
    _check_sizes(rows)
    return rows


def _check_sizes(rows: Mapping[str, Array]) -> None:
    """Raise ConversionError unless all inputs have the same number of rows, at least two."""
    sizes = {len(array) if array.ndim else -1 for array in rows.values()}
    if len(sizes) != 1 or min(sizes) < 2:
        shapes = {name: array.shape for name, array in rows.items()}
        raise ConversionError(
            f"example needs at least two rows in every input, as many in each; got {shapes}: pass more"
        )


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Dropout and batch statistics off, and each submodule's mode restored afterwards."""
    import torch

    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _truth(module: Any, names: list[str]) -> Any:
    """A function from rows by argument to the answers of a module by output name."""

    def truth(rows: Mapping[str, Array]) -> dict[str, Array]:
        given = _tensors(
            module,
            {name: rows[name] for name in names},
        )
        with _evaluating(module):
            answers = _by_name(_answer(module, given))
        return {name: tensor.cpu().numpy() for name, tensor in answers.items()}

    return truth


def _tensors(module: Any, rows: Mapping[str, Array]) -> dict[str, Any]:
    """Arrays as tensors on the device of a module."""
    import torch

    device = next(
        (tensor.device for tensor in module.parameters()),
        torch.device("cpu"),
    )
    found = {}
    for name, array in rows.items():
        found[name] = torch.from_numpy(np.ascontiguousarray(array)).to(device)
    return found


def _by_name(answer: Any) -> dict[str, Any]:
    """What forward answered, by output name. Raises ConversionError for anything but tensors."""
    import torch

    if isinstance(answer, Mapping):
        answers = {str(name): tensor for name, tensor in answer.items()}
    elif isinstance(answer, tuple | list):
        answers = {f"output_{i}": tensor for i, tensor in enumerate(answer)}
    else:
        answers = {"output": answer}
    if not all(isinstance(tensor, torch.Tensor) for tensor in answers.values()):
        kinds = {name: type(value).__name__ for name, value in answers.items()}
        raise ConversionError(
            f"forward must give a tensor, or a tuple or dict of tensors; got {kinds}"
        )
    return answers


def _answer(module: Any, given: dict[str, Any]) -> Any:
    """What forward answers in evaluation mode. Raises ConversionError for rows that it refuses."""
    try:
        return module(**given)
    except Exception as error:
        kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in given.items()}
        said = ", ".join(
            f"{name} {kinds[name]} {tuple(tensor.shape)}" for name, tensor in given.items()
        )
        count = len(next(iter(given.values())))
        hint = ""
        if count == 1:
            hint = (
                ". A package answers any number of rows, each as it is alone: a normalisation over "
                "the batch needs "
                "running statistics"
            )
        raise ConversionError(
            f"forward refuses {count} row{'' if count == 1 else 's'} ({said}): pass rows as forward takes them"
            f"{hint}",
            step=type(module).__name__,
        ) from error


def _export(
    module: Any,
    rows: Mapping[str, Array],
    outputs: list[str],
) -> onnx.ModelProto:
    """The graph of a module. Raises ConversionError, or MissingExtraError without onnxscript."""
    import torch

    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtraError("saving a torch module", "onnxscript", "torch") from None
    batch = torch.export.Dim("batch")
    few = _tensors(
        module,
        {name: array[:2] for name, array in rows.items()},
    )
    try:
        with _evaluating(module), _quiet(logging.getLogger("torch.onnx")):
            program = torch.onnx.export(
                module,
                kwargs=few,
                dynamo=True,
                input_names=list(rows),
                output_names=outputs,
                opset_version=OPSET,
                dynamic_shapes={name: {0: batch} for name in rows},
                verbose=False,
            )
    except Exception as error:
        raise ConversionError(
            f"torch cannot export {type(module).__name__} with an open batch dimension: forward may branch on the "
            "values of a tensor, or use a size as a constant; use torch.where and sizes of tensors, or "
            "save the ONNX file that you export yourself",
            step=type(module).__name__,
        ) from error
    proto: onnx.ModelProto = program.model_proto  # type: ignore[union-attr]  # None only where it writes a file
    return proto


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Errors alone are logged, and the level is restored afterwards."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
