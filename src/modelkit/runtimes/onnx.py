"""Run an ONNX graph with onnxruntime. The only module that imports onnxruntime."""

from __future__ import annotations

import _thread
import mmap
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, final

import numpy as np

from modelkit.device import Placement, choose_device, choose_threads, chunk_bounds, quota_cpus, split_runs
from modelkit.errors import ClosedError, GraphError, MissingExtraError
from modelkit.manifest import Manifest
from modelkit.model import Call, Model, Outputs
from modelkit.signature import Feeds, Signature

# onnxruntime's wheels report usage unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime as ort
except ImportError:
    raise MissingExtraError("running an ONNX model", "onnxruntime", "cpu]' or 'modelkit-sdk[gpu") from None

WEIGHTS = "model.onnx.data"  # the name by which a graph refers to its external weights
UNBOUNDED = 1 << 62


def usable_cpus() -> int:
    """The CPUs this process may use: its affinity, or less under a cgroup quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:  # noqa: PTH123 - as in load
            quota = quota_cpus(file.read())
    except OSError:
        quota = None
    return min(affinity, quota or affinity)


def providers() -> list[str]:
    """The execution providers compiled into this onnxruntime; the remote Azure one is never used."""
    return [name for name in ort.get_available_providers() if name != "AzureExecutionProvider"]


def _session_options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning workers burn the application's CPU for a while after every run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Use the caller's weights in place instead of copying them; prepacked ones are then released.
    options.add_session_config_entry("session.use_external_initializer_file_buffers_directly", "1")
    return options


@final
class OnnxModel(Model):
    """A Model that runs an ONNX graph.

    Args:
        graph: the serialised ModelProto.
        weights: its external data, if any; kept for as long as the session lives.
        signature: the graph's inputs and outputs.
        device, threads: as for `modelkit.load`.
        chunk: the most rows of one run; larger batches are split. None for graphs whose rows depend on each other.
        manifest, attachments: of the package this model was loaded from.
    """

    __slots__ = (
        "_attachments",
        "_chunk",
        "_first",
        "_manifest",
        "_placement",
        "_run_graph",
        "_session",
        "_signature",
        "_weights",
    )

    def __init__(  # noqa: PLR0913 - one call in load, all by keyword
        self,
        graph: bytes | memoryview,
        signature: Signature,
        *,
        weights: memoryview | None = None,
        device: str = "auto",
        threads: int | str = "auto",
        chunk: int | None = None,
        manifest: Manifest | None = None,
        attachments: Mapping[str, memoryview] = MappingProxyType({}),
    ) -> None:
        count = choose_threads(threads, usable_cpus())
        split = split_runs(count, 0 if weights is None else weights.nbytes)
        options = _session_options(count if split else 1)
        if weights is not None:
            options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [weights.nbytes])
        choose_device(device)
        try:
            self._session = ort.InferenceSession(
                bytes(graph), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # onnxruntime has a dozen exception classes and no public base
            raise GraphError(f"onnxruntime refuses the graph: {error}") from error
        _release(weights)
        self._weights = weights
        # The wrapper around this call checks input names again and re-creates the session on failures of a
        # provider; rows are coerced already, and a silent change of provider is what must not happen.
        self._run_graph = getattr(self._session, "_sess", self._session).run
        self._placement = Placement("CPUExecutionProvider", "cpu", count, split)
        self._signature = signature
        self._manifest = manifest
        self._attachments = attachments
        self._first = signature.inputs[0].name
        self._chunk = chunk if chunk and signature.batch is not None else UNBOUNDED

    @property
    def signature(self) -> Signature:
        """The graph's inputs and outputs."""
        return self._signature

    @property
    def placement(self) -> Placement:
        """Where this model really runs."""
        return self._placement

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the package this model was loaded from, or None."""
        return self._manifest

    @property
    def attachments(self) -> Mapping[str, memoryview]:
        """The attachments of the package, by name."""
        return self._attachments

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        rows = len(feeds[self._first])
        if 0 < rows <= self._chunk:
            answers = self._run_graph(outputs, feeds, None)
            # For one output, which is what predict asks for, a display is a third of a microsecond cheaper.
            return {outputs[0]: answers[0]} if len(outputs) == 1 else dict(zip(outputs, answers, strict=True))
        if rows == 0 and self._signature.batch is not None:
            return self._signature.empty(outputs)
        return self._run_chunks(feeds, outputs, rows)

    def _run_chunks(self, feeds: Feeds, outputs: tuple[str, ...], rows: int) -> Outputs:
        """Run a bulk in chunks that fit the cache, on all threads; the answers are written side by side."""
        todo = chunk_bounds(rows, self._chunk)[::-1]
        start, stop = todo.pop()
        first = self._run_graph(outputs, {name: feed[start:stop] for name, feed in feeds.items()}, None)
        answers = [np.empty((rows, *part.shape[1:]), part.dtype) for part in first]
        for answer, part in zip(answers, first, strict=True):
            answer[start:stop] = part

        def run(start: int, stop: int) -> None:
            parts = self._run_graph(outputs, {name: feed[start:stop] for name, feed in feeds.items()}, None)
            for answer, part in zip(answers, parts, strict=True):
                answer[start:stop] = part

        _run_all(run, todo, 0 if self._placement.split else self._placement.threads - 1)
        return dict(zip(outputs, answers, strict=True))

    def close(self) -> None:
        """Release the session; later calls raise ClosedError. Runs under way finish, on weights that stay mapped."""
        self._run_graph = _closed
        self._session = None


def _run_all(run: Callable[[int, int], None], todo: list[tuple[int, int]], helpers: int) -> None:
    """Call `run` on all that is to do, in this thread and up to `helpers` more; raises the first failure."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not failures:
                try:
                    bounds = todo.pop()
                except IndexError:
                    return
                run(*bounds)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)

    def help_out(done: _thread.LockType) -> None:
        try:
            work()
        finally:
            done.release()

    # threading.Thread.start waits for the new thread to begin, which puts it on the caller's core: on two cores both
    # then shared one for several milliseconds, a whole bulk run of a linear model.
    locks = [_thread.allocate_lock() for _ in range(min(helpers, len(todo) - 1))]
    for lock in locks:
        lock.acquire()
        _thread.start_new_thread(help_out, (lock,))
    work()
    for lock in locks:
        lock.acquire()
    if failures:
        raise failures[0]


def _closed(*_: object) -> list[Any]:
    raise ClosedError("the model was closed; load it again to use it")


def _release(weights: memoryview | None) -> None:
    """Give the pages of mapped weights back: what the session prepacked is not read again, the rest comes back."""
    if weights is not None and isinstance(weights.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        weights.obj.madvise(mmap.MADV_DONTNEED)
