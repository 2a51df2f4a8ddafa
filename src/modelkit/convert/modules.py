"""A torch module that is asked with arrays: its example, its answers, and the sizes that it takes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array, is_a
from modelkit.convert.notes import is_table
from modelkit.convert.preprocess import Preprocess
from modelkit.errors import ConversionError, SignatureError
from modelkit.signature.frames import as_column, read_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

NARROW = ("float16", "bfloat16")
TorchTensors = dict[str, Any]  # of torch, by argument of forward


def is_module(source: object) -> bool:
    """Whether `source` is a torch module, without importing torch."""
    return is_a(source, "torch.nn", "Module")


@dataclass(frozen=True, eq=False)
class AskedModule:
    """A torch module, and how it is asked with arrays.

    Its parameters have `dtype`, `rows` are the example by argument of forward, and `images` is the
    argument that `steps` make of images.
    """

    module: Any
    dtype: Any
    rows: dict[str, Array]
    steps: Preprocess | None = None
    images: str | None = None

    @property
    def name(self) -> str:
        """The class of the module."""
        return type(self.module).__name__

    @property
    def half(self) -> str | None:
        """The dtype that it computes in, where that is one of 16 bits."""
        name = str(self.dtype).removeprefix("torch.")
        return name if name in NARROW else None

    def answers(self, rows: Mapping[str, Array]) -> dict[str, Array]:
        """What the module gives for rows by argument, by output name. Raises ConversionError."""
        given = self.tensors({name: rows[name] for name in self.rows})
        with without_gradients():
            try:
                answer = self.module(**given)
            except Exception as error:
                raise _refused_rows(self.name, given, error) from error
            return {name: array_of(tensor) for name, tensor in _by_name(answer).items()}

    def tensors(self, rows: Mapping[str, Array]) -> TorchTensors:
        """Rows as forward takes them, on the device of the module."""
        import torch

        places = (tensor.device for tensor in self.module.parameters())
        device = next(places, torch.device("cpu"))
        found = {}
        for name, given in rows.items():
            array = given
            if name == self.images and self.steps is not None:
                from modelkit.convert.images import prepared  # it imports spox

                array = prepared(given, self.steps)
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            if name == self.images or (self.dtype == torch.bfloat16 and tensor.is_floating_point()):
                tensor = tensor.to(self.dtype)
            found[name] = tensor.to(device)
        return found

    def takes(self, given: TorchTensors) -> bool:
        """Whether forward answers these tensors."""
        with without_gradients():
            try:
                self.module(**given)
            except Exception:  # whatever it says, these are no sizes of its own
                return False
        return True


def asked(module: Any, example: Any, steps: Preprocess | None) -> AskedModule:
    """A module and its example. Raises ConversionError for an example that does not fit."""
    import torch

    if is_a(module, "torch.jit", "ScriptModule"):
        raise ConversionError(
            "a scripted module cannot be exported: pass the module that it was made of"
        )
    kinds = [tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()]
    dtype = kinds[0] if kinds else torch.float32
    rows = _rows(module, example, dtype)
    images = None if steps is None else _images(rows)
    return AskedModule(_evaluating(module), dtype, rows, steps, images)


def unwrapped(module: Any) -> Any:
    """The module inside what `torch.compile` and `DataParallel` make of one."""
    if is_a(module, "torch._dynamo", "OptimizedModule"):
        return unwrapped(module._orig_mod)  # where torch.compile keeps what it wraps
    if is_a(module, "torch.nn", "DataParallel"):
        return unwrapped(module.module)
    return module


def _rows(module: Any, example: Any, dtype: Any) -> dict[str, Array]:
    """Example rows by argument of forward, as arrays."""
    import inspect

    if example is None:
        raise ConversionError(
            "save needs rows to export a module and compare it: pass example=X[:64], as forward "
            "takes them"
        )
    arguments = list(inspect.signature(module.forward).parameters)
    if isinstance(example, Mapping):
        given: dict[str, Any] = dict(example)
    elif is_table(example):
        given = {arguments[0]: _matrix(example, dtype)}
    else:  # one that is too many has its place for a name
        parts = example if isinstance(example, tuple) else (example,)
        beyond = [f"argument {at}" for at in range(len(arguments), len(parts))]
        given = dict(zip([*arguments, *beyond], parts, strict=False))
    if strange := sorted(set(given) - set(arguments)):
        raise ConversionError(
            f"example has {strange}, which are not arguments of forward; pass some of {arguments}"
        )
    rows = {name: array_of(given[name]) for name in arguments if name in given}
    sizes = {len(array) if array.ndim else -1 for array in rows.values()}
    if len(sizes) != 1 or min(sizes) < 2:
        shapes = {name: array.shape for name, array in rows.items()}
        raise ConversionError(
            "example needs at least two rows in every input, and the same number in each; got "
            f"{shapes}: pass more"
        )
    return rows


def _matrix(example: Any, dtype: Any) -> Array:
    """The columns of a table as a matrix of the numbers that a module computes in."""
    import torch

    kind = array_of(torch.zeros(1, dtype=dtype)).dtype
    found = []
    for name, values in zip(*read_frame(example)[:2], strict=True):
        try:
            found.append(np.ma.filled(as_column(values).astype(kind), np.nan))
        except (SignatureError, TypeError, ValueError) as error:
            raise ConversionError(
                f"column {name!r} of the example does not hold numbers; convert it"
            ) from error
    return np.stack(found, axis=1)


def array_of(value: Any) -> Array:
    """A tensor, or what numpy reads, as an array; bfloat16, which numpy lacks, becomes float32."""
    if not is_a(value, "torch", "Tensor"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    found: Array = tensor.numpy()
    return found


def _images(rows: Mapping[str, Array]) -> str:
    """The argument that is images. Raises ConversionError."""
    found = [name for name, array in rows.items() if array.dtype == np.uint8 and array.ndim == 4]
    if len(found) != 1:
        shapes = {name: f"{array.dtype}{array.shape}" for name, array in rows.items()}
        raise ConversionError(
            "the example of a model with preprocess= is images as they come: uint8, of four "
            f"dimensions; got {shapes}"
        )
    return found[0]


def _refused_rows(name: str, given: TorchTensors, error: Exception) -> ConversionError:
    """The error for rows that forward refuses."""
    said = ", ".join(
        f"{argument} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
        for argument, tensor in given.items()
    )
    count = len(next(iter(given.values())))
    fix = "pass rows as forward takes them"
    if "float64" in said and "dtype" in str(error):
        fix = "pass rows in the dtype of the module: example=X.astype(np.float32)"
    if count == 1:
        fix = (
            "a package answers any number of rows, each as it is alone; give a normalisation over the batch "
            "running statistics"
        )
    return ConversionError(
        f"forward refuses {count} row{'' if count == 1 else 's'} ({said}): {fix}", step=name
    )


def _evaluating(module: Any) -> Any:
    """A copy of a module with dropout and batch statistics off, which holds the same weights.

    The module itself may be in use meanwhile, and the exporter replaces what it exports. One that
    cannot be copied is taken as it is where it is in this mode. Raises ConversionError.
    """
    shared = list(module.parameters())
    for part in module.modules():  # tensors that were computed cannot be copied
        shared += [value for value in vars(part).values() if getattr(value, "grad_fn", None)]
    try:
        return copy.deepcopy(module, {id(tensor): tensor for tensor in shared}).eval()
    except Exception as error:
        if not any(part.training for part in module.modules()):
            return module
        name = type(module).__name__
        raise ConversionError(
            f"{name} is in training mode, and cannot be copied into evaluation mode: call its eval() "
            "before you save it",
            step=name,
        ) from error


@contextmanager
def without_gradients() -> Iterator[None]:
    """Neither gradients nor warnings."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
