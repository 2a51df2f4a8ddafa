"""A Model from a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import BatchError, ClosedError, ModelkitError, OutputCountError
from modelkit.model.model import Call, Model, Outputs
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import TensorSpec, check_dims, numpy_dtype


@final
class FunctionModel(Model):
    """A Model from `fn(feeds) -> outputs`: for tests, and for a runtime of your own.

        takes = mk.TensorSpec("X", "float32", ("batch", 3))
        gives = mk.TensorSpec("prediction", "float32", ("batch",))
        model = mk.FunctionModel(
            lambda feeds: {"prediction": feeds["X"].sum(axis=1)}, mk.Signature((takes,), (gives,))
        )

    It cannot be saved.

    Args:
        fn: takes coerced tensors by name and returns every output by name. The tensors may be the
            caller's own arrays, so they are read-only, and writing into one raises ValueError: copy
            what you change, with `feed.copy()`, or `torch.tensor(feed)` in place of
            `torch.from_numpy(feed)`.
        signature: what `fn` takes and gives.
        batchable: whether each row's answer stays the same in any batch.

    Raises:
        TypeError: if `fn` cannot be called, and for another `signature`.
    """

    __slots__ = ("_fn", "batchable", "closed", "signature")

    batchable: bool
    closed: bool
    signature: Signature

    def __init__(
        self,
        fn: Callable[[Feeds], Mapping[str, Any]],
        signature: Signature,
        batchable: bool = False,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"a FunctionModel is made of a function of feeds, not of {fn!r:.80}")
        if not isinstance(signature, Signature):
            raise TypeError(f"signature is a mk.Signature, not {signature!r:.80}")
        self._fn: Callable[[Feeds], Mapping[str, Any]] | None = fn
        self.signature = signature
        self.batchable = batchable
        self.closed = False

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        fn = self._fn
        if fn is None:
            raise ClosedError("the model was closed")
        sizes = check_dims(self.signature.inputs, feeds)
        batch = self.signature.batch
        if batch is not None and sizes[batch] == 0:
            return self.signature.empty(outputs)
        rows = None if batch is None else sizes[batch]
        specs = [spec for spec in self.signature.outputs if spec.name in outputs]
        answer = _checked_names(fn(_read_only(feeds)), specs)
        arrays = {}
        for spec in specs:
            arrays[spec.name] = check_output(answer[spec.name], spec, rows, "function")
        check_dims(specs, arrays, sizes)
        return arrays

    def __reduce__(self) -> tuple[Any, ...]:
        if self._fn is None:
            raise ClosedError("the model was closed and cannot be pickled")
        return FunctionModel, (self._fn, self.signature, self.batchable)

    def close(self) -> None:
        """Drop the function; later calls raise ClosedError."""
        self.closed = True
        self._fn = None


def _checked_names(answer: Any, specs: list[TensorSpec]) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):
        raise ModelkitError(
            f"the function gave {type(answer).__name__}; it must give a dict of outputs by name"
        )
    absent = [spec.name for spec in specs if spec.name not in answer]
    if absent:
        raise ModelkitError(
            f"the function gave {list(answer)}, without the outputs {absent} of its signature"
        )
    return answer


def _read_only(feeds: Feeds) -> Feeds:
    """Views that cannot be written to: a quarter of a microsecond a tensor, whatever its size."""
    views: Feeds = {}
    for name, feed in feeds.items():
        view = feed[...]
        view.setflags(write=False)
        views[name] = view
    return views


def check_output(value: Any, spec: TensorSpec, rows: int | None, source: str) -> Array:
    """The answer of a function or estimator as an array; `source` is what it is called in errors.

    Raises BatchError for another dtype or shape than the signature declares.
    """
    array = np.asarray(value)
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype != numpy_dtype(spec.dtype) or not spec.fits(array.shape):
        raise BatchError(f"the {source} gave {array.dtype} {array.shape} for the output {spec}")
    if rows is not None and len(array) != rows:
        raise OutputCountError(
            f"the {source} gave {len(array)} rows of {spec.name!r} for {rows} rows of input",
            expected=rows,
            got=len(array),
        )
    return array
