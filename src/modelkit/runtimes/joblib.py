"""Run a pickled estimator with the library that trained it.

This is the only module that imports joblib and pickle. Unpickling runs whatever code its author put
there: `package.load` comes here only with the caller's consent and digest.
"""

from __future__ import annotations

import io
import pickle
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit.errors import (
    ClosedError,
    ConversionError,
    DeviceError,
    ManifestError,
    PackageError,
    UsageError,
    importing,
)
from modelkit.model.device import Placement
from modelkit.model.function import check_output
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.runtimes.devices import DeviceName, device_chain, refusal
from modelkit.runtimes.machine import usable_cpus
from modelkit.runtimes.packaged import NOT_PACKAGED, Packaged, reopening
from modelkit.runtimes.series import as_fitted, frame_of
from modelkit.signature.frames import whole_array
from modelkit.signature.signature import Feeds, Signature

with importing("joblib", "a joblib package", "joblib"):
    import joblib

# The verb of the estimator that answers with each output; probabilities_0, _1, ... are the parts of
# one answer.
VERBS = {
    "label": "predict",
    "prediction": "predict",
    "probability": "predict",
    "probabilities": "predict_proba",
    "scores": "decision_function",
    "score_samples": "score_samples",
    "transformed": "transform",
}
WHY = "a joblib package runs on the CPU, by the library that trained it"


@dataclass(frozen=True)
class Estimator:
    """A fitted estimator and the form of the rows it was fitted on.

    `like` is its pandas frame without rows, which knows the dtypes, and `nones` are those columns
    of objects whose missing values are None rather than NaN. `like` is None for arrays; one of
    strings is passed as texts.
    """

    fitted: Any
    like: Any = None
    nones: tuple[str, ...] = ()

    def dump(self) -> bytes:
        """The bytes that `load` reads back; compressing them would cost time and save little."""
        file = io.BytesIO()
        joblib.dump(
            {"estimator": self.fitted, "like": self.like, "nones": self.nones}, file, compress=0
        )
        return file.getvalue()

    @staticmethod
    def load(data: bytes | memoryview) -> Estimator:
        """Unpickle what `dump` gave: this runs code from `data`.

        Raises PackageError where it fails.
        """
        try:
            held = joblib.load(io.BytesIO(data))
            return Estimator(held["estimator"], held["like"], held["nones"])
        except Exception as error:
            raise PackageError(
                f"the estimator cannot be unpickled: {type(error).__name__}: {error}"
            ) from error

    def modules(self) -> set[str]:
        """The modules that unpickling imports.

        Raises ConversionError where it would fail in another process.
        """
        recorder = _Recorder(_Nowhere())
        try:
            recorder.dump((self.fitted, self.like))
        except Exception as error:
            raise ConversionError(
                f"the model cannot be pickled, because it holds {recorder.last!r}; define "
                "functions and classes by name in a module, and close files and connections"
            ) from error
        if "__main__" in recorder.found:
            raise ConversionError(
                f"the model uses {recorder.found['__main__']!r} of the script itself, which other "
                "processes do not have; move it into a module that the application can import",
                step=recorder.found["__main__"],
            )
        return set(recorder.found)

    def rows(self, feeds: Feeds, signature: Signature) -> Any:
        """Coerced rows in the form of the rows of `fit`; copies, since an estimator may write."""
        if self.like is not None:
            return self._frame(feeds, signature)
        spec = signature.inputs[0]
        block = feeds[spec.name].copy()
        if spec.dtype == "string":
            return block[:, 0]
        return as_fitted(block, np.dtype(spec.columns[0].dtype)) if spec.columns else block

    def _frame(self, feeds: Feeds, signature: Signature) -> Any:
        pd = sys.modules["pandas"]  # `like` is one of its frames
        names = self.like.columns
        block = feeds[signature.inputs[0].name]
        whole = len(signature.inputs) == 1 and block.shape[1] == len(names)
        if whole and all(dtype == block.dtype for dtype in self.like.dtypes):
            return pd.DataFrame(block, columns=names, copy=True)
        return frame_of(self.like, self.nones, signature.columns(feeds), len(block))

    def answer(self, verb: str, rows: Any) -> Any:
        """The answer of one verb, dense; a list where the estimator answers with one."""
        return whole_array(getattr(self.fitted, verb)(rows))


class _Nowhere:
    """A file for a pickle that is made only to see what is in it."""

    def write(self, data: Any) -> int:
        return len(data)


class _Recorder(pickle.Pickler):
    """Notes the module of every class and function that it pickles, with the name of one."""

    def __init__(self, file: _Nowhere) -> None:
        super().__init__(file)
        self.found: dict[str, str] = {}
        self.last = ""  # what it came to before it failed

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ufunc):  # which does not say where it is from
            module = pickle.whichmodule(value, value.__name__)  # type: ignore[attr-defined]
            self.found[module] = value.__name__
        named = value if hasattr(value, "__qualname__") else type(value)
        self.last = named.__qualname__
        self.found[str(getattr(named, "__module__", None) or "builtins")] = named.__qualname__
        return NotImplemented


@final
class JoblibModel(Model):
    """A Model that runs a pickled estimator. Making one runs code from `data`.

    Args:
        data: what `Estimator.dump` gave.
        signature: what the estimator takes and gives; its outputs are named as in `VERBS`.
        device: "auto" or "cpu", or a list with one of them in it.
        threads: "auto"; how many threads run is up to the estimator.
        packaged: the package this model was loaded from.
    """

    __slots__ = (
        "_estimator",
        "_origin",
        "_verbs",
        "attachments",
        "closed",
        "manifest",
        "placement",
        "signature",
    )

    attachments: Mapping[str, memoryview]
    closed: bool
    manifest: Manifest | None
    placement: Placement  # `threads` is the most threads that the estimator may use
    signature: Signature

    def __init__(
        self,
        data: bytes | memoryview,
        signature: Signature,
        *,
        device: DeviceName = "cpu",
        threads: int | str = "auto",
        packaged: Packaged = NOT_PACKAGED,
    ) -> None:
        self.placement = _place_estimator(device, threads)
        self._verbs = {name: _verb_of(name) for name in signature.output_names}
        self._estimator: Estimator | None = Estimator.load(data)
        self.signature = signature
        self.manifest, self.attachments, self._origin = packaged
        self.closed = False

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        estimator = self._estimator
        signature = self.signature
        if estimator is None:
            raise ClosedError("the model was closed; load it again to use it")
        count = len(feeds[signature.inputs[0].name])
        if count == 0:
            return signature.empty(outputs)
        rows = estimator.rows(feeds, signature)
        verbs = dict.fromkeys(self._verbs[name][0] for name in outputs)
        answers = {verb: estimator.answer(verb, rows) for verb in verbs}
        specs = {spec.name: spec for spec in signature.outputs}
        found: Outputs = {}
        for name in outputs:
            verb, part = self._verbs[name]
            array = np.asarray(answers[verb] if part is None else answers[verb][part])
            flat = array[:, 0] if array.ndim == 2 and specs[name].shape[1:] == () else array
            found[name] = check_output(flat, specs[name], count, "estimator")
        return found

    def close(self) -> None:
        """Let go of the estimator; later calls raise ClosedError."""
        self.closed = True
        self._estimator = None

    __reduce__ = reopening


def _verb_of(output: str) -> tuple[str, int | None]:
    """The verb that answers with an output, and which part of its answer. Raises ManifestError."""
    name, _, part = output.partition("_")
    if name == "probabilities" and part.isdecimal():
        return VERBS[name], int(part)
    if output not in VERBS:
        raise ManifestError(
            f"no estimator has an output {output!r}; a joblib package has some of {list(VERBS)}"
        )
    return VERBS[output], None


def _place_estimator(device: DeviceName, threads: int | str) -> Placement:
    """Where an estimator runs.

    Raises DeviceError for another device, and UsageError for a number of threads.
    """
    obstacles = {target.name: WHY for target in device_chain(device, ())}
    if "cpu" not in obstacles:
        raise DeviceError(refusal(device, obstacles), device=device, obstacles=obstacles)
    if threads != "auto":
        raise UsageError(
            f"threads={threads!r} is not possible: the estimator of a joblib package decides by "
            "itself (n_jobs, OMP_NUM_THREADS); leave threads='auto'"
        )
    why = "at most, the usable CPUs; the estimator and its libraries decide"
    return Placement(
        "joblib",
        "cpu",
        usable_cpus(),
        split=True,
        reason=WHY,
        threads_reason=why,
        since=time.time(),
    )
