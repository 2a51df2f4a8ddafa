"""Run an ONNX graph with onnxruntime. The only module that imports onnxruntime."""

from __future__ import annotations

import _thread
import os
from collections.abc import Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, final

import numpy as np

from modelkit.device import (
    CPU,
    NAMES,
    Device,
    DeviceName,
    Placement,
    Target,
    choose_threads,
    chunk_bounds,
    device_chain,
    dishonest,
    missing_libraries,
    not_compiled,
    parse_device,
    reason_for,
    refusal,
    refuse_version,
    split_runs,
    worker_count,
)
from modelkit.errors import (
    BatchError,
    ClosedError,
    DeviceError,
    ForkedModelError,
    GraphError,
    ModelkitError,
    SignatureError,
    importing,
)
from modelkit.forks import watch
from modelkit.manifest import WEIGHTS_REF, Manifest
from modelkit.model import Call, Model, Outputs, reopening
from modelkit.runtimes.bulk import run_all
from modelkit.runtimes.deadline import run_until
from modelkit.runtimes.ends import check_ends
from modelkit.runtimes.machine import nvidia_obstacle, release, usable_cpus
from modelkit.signature import Feeds, Signature

# onnxruntime's wheels report usage unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

with importing("onnxruntime", "running an ONNX model", "cpu", {"gpu": "onnxruntime-gpu"}):
    import onnxruntime as ort
refuse_version(ort.__version__)

UNBOUNDED = 1 << 62
LIMITED = tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 27)
FOLDED_BYTES = (
    1 << 28
)  # of one result of constants, for graphs that nobody has looked at: those made here
# A graph of one node, y = Relu(x), in opset 13: what a device must be able to run to be called
# usable.
ONE_NODE = (
    b'\x08\x08:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04B\x04\n\x00\x10\r"
)
# What onnxruntime prints on standard error, in red. On the CPU every error comes as an exception
# too; that another device was not started is only printed.
ERRORS, SILENT = 3, 4
BAD_GRAPH = (
    "InvalidGraph",
    "InvalidProtobuf",
    "NoSuchFile",
)  # onnxruntime's exceptions that no other device mends


def providers() -> list[str]:
    """The execution providers compiled into this onnxruntime; the remote Azure one is never used."""
    return [name for name in ort.get_available_providers() if name != "AzureExecutionProvider"]


def devices() -> tuple[Device, ...]:
    """Every device by name, whether it is usable here, and why or why not. A usable one has run a graph of one node.

    This starts each device that is there; call it where nothing is forked later.
    """
    return tuple(_examine(parse_device(name), providers()) for name in NAMES)


def _examine(target: Target, compiled: list[str]) -> Device:
    if target.provider == CPU:
        return Device(target.name, CPU, usable=True, reason=f"{usable_cpus()} usable CPUs")
    try:
        session, _ = _start(ONE_NODE, None, target, compiled)
        session.run(None, {"x": np.zeros(4, np.float32)})
    except DeviceError as error:
        return Device(target.name, target.provider, usable=False, reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, a device that fails on one node is not usable
        return Device(
            target.name,
            target.provider,
            usable=False,
            reason=f"it fails on a graph of one node: {error}",
        )
    return Device(target.name, target.provider, usable=True, reason="it ran a graph of one node")


def _place(
    graph: bytes | memoryview,
    weights: memoryview | None,
    device: DeviceName,
    threads: int | str,
    *,
    side_by_side: bool,
    folded: int,
) -> tuple[Any, Placement]:
    """A session on the first device of the chain that can be had.

    Raises DeviceError, and GraphError.
    """
    compiled, obstacles = providers(), dict[str, str]()
    size = 0 if weights is None else weights.nbytes
    workers = worker_count(os.environ.get("WEB_CONCURRENCY"))
    for target in device_chain(device, compiled):
        on_cpu = target.provider == CPU
        count, why = choose_threads(threads, usable_cpus(), workers, on_cpu=on_cpu)
        # Another device takes one run at a time, and the threads help with the nodes it leaves to
        # the CPU.
        split = not side_by_side and split_runs(count, size) if on_cpu else count > 1
        try:
            session, nodes = _start(graph, weights, target, compiled, count if split else 1, folded)
        except DeviceError as error:
            obstacles[target.name] = str(error)
            continue
        reason = reason_for(target, device, obstacles)
        if device == "auto" and on_cpu and obstacles:
            import logging

            logging.getLogger("modelkit").warning("%s", reason)
        return session, Placement(
            target.provider, target.name, count, split, tuple(nodes.items()), reason, why
        )
    raise DeviceError(refusal(device, obstacles), device=device, obstacles=obstacles)


def _start(
    graph: bytes | memoryview,
    weights: memoryview | None,
    target: Target,
    compiled: list[str],
    threads: int = 1,
    folded: int = FOLDED_BYTES,
) -> tuple[Any, dict[str, int]]:
    """A session on this device, and the nodes by provider where it is not the CPU.

    Raises DeviceError if the device cannot be had, GraphError if the graph is at fault.
    """
    obstacle = not_compiled(target, compiled, ort.__version__)
    missing = None
    if obstacle is None and target.nvidia:
        obstacle = nvidia_obstacle(getattr(ort, "cuda_version", ""), target.index)
        missing = missing_libraries(_preload())
    if obstacle is not None:
        raise DeviceError(
            obstacle if missing is None else f"{obstacle}; {missing}", device=target.name
        )
    options = _session_options(threads, folded, on_cpu=target.provider == CPU)
    if weights is not None:
        options.add_external_initializers_from_files_in_memory(
            [WEIGHTS_REF], [weights], [weights.nbytes]
        )
    if (
        target.provider != CPU
    ):  # on the CPU it would cost 4 % of loading a linear model, to say what is known
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    asked = [(target.provider, dict(target.options))]
    if target.short == "tensorrt":  # CUDA takes what TensorRT leaves, as onnxruntime recommends
        cuda = parse_device("cuda")
        asked.append((cuda.provider, dict(cuda.options)))
    try:
        session = ort.InferenceSession(bytes(graph), options, providers=asked, enable_fallback=0)
    except Exception as error:  # onnxruntime has a dozen exception classes and no public base
        if target.provider == CPU or type(error).__name__ in BAD_GRAPH:
            raise GraphError(f"onnxruntime refuses the graph: {error}") from error
        raise DeviceError(
            f"onnxruntime cannot run the graph there: {error}", device=target.name
        ) from error
    nodes = {} if target.provider == CPU else _assigned(session)
    obstacle = dishonest(target, session.get_providers()[0], nodes)
    if obstacle is not None:
        raise DeviceError(
            obstacle if missing is None else f"{obstacle}; {missing}", device=target.name
        )
    return session, nodes


def _assigned(session: Any) -> dict[str, int]:
    """How many nodes run on each provider; empty where this onnxruntime does not tell."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):
        return {}
    counts: dict[str, int] = {}
    for part in parts:
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    return counts


@cache
def _preload() -> str:
    """Load the CUDA libraries that pip has installed, which onnxruntime does not find by itself; what that printed."""
    import io
    from contextlib import redirect_stdout

    if not hasattr(ort, "preload_dlls"):
        return ""
    with redirect_stdout(io.StringIO()) as printed:  # it reports failures by printing them
        ort.preload_dlls()
    return printed.getvalue()


def _session_options(threads: int, folded: int, *, on_cpu: bool) -> Any:
    if os.environ.get("ORT_LOAD_CONFIG_FROM_MODEL", "0") != "0":
        # It would forget the weights it is given, and read a file of their name in the working
        # directory.
        raise DeviceError(
            "unset ORT_LOAD_CONFIG_FROM_MODEL, which makes onnxruntime take its options from the "
            "graph"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT if on_cpu else ERRORS
    # Spinning workers burn the application's CPU for a while after every run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Use the caller's weights in place instead of copying them; prepacked ones are then released.
    options.add_session_config_entry("session.use_external_initializer_file_buffers_directly", "1")
    # What the graph computes from constants alone is not computed, and kept, at load where it is
    # larger than this; nor where its size is not known before.
    options.add_session_config_entry(
        "optimization.constant_folding_max_output_size_in_bytes", str(folded)
    )
    # No limit would be one that onnxruntime takes for none, or, before 1.27, does not know.
    if not folded or (folded < FOLDED_BYTES and not LIMITED):
        options.add_session_config_entry(
            "optimization.disable_specified_optimizers", "ConstantFolding"
        )
    return options


@final
class OnnxModel(Model):
    """A Model that runs an ONNX graph.

    Args:
        graph: the serialised ModelProto.
        weights: its external data, if any; kept for as long as the session lives.
        signature: the graph's inputs and outputs.
        device, threads: as for `modelkit.load`; the CPU unless said otherwise, which is where a
            package is proven.
        chunk: the most rows of one run; larger batches are split. None for graphs whose rows depend
            on each other.
        endless: whether a run may never end, so that a deadline must stop it.
        folded: the most bytes of a result that is computed at load because it depends on constants
            only; 0 for none.
        side_by_side: whether each thread of the CPU has a run of its own, however large the model.
        manifest, attachments: of the package this model was loaded from.
        origin: opens the same package again; without it the model cannot be pickled.
    """

    __slots__ = (
        "__weakref__",
        "_attachments",
        "_chunk",
        "_endless",
        "_first",
        "_folded",
        "_graph",
        "_lock",
        "_manifest",
        "_most",
        "_origin",
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
        device: DeviceName = "cpu",
        threads: int | str = "auto",
        chunk: int | None = None,
        endless: bool = False,
        folded: int = FOLDED_BYTES,
        side_by_side: bool = False,
        manifest: Manifest | None = None,
        attachments: Mapping[str, memoryview] = MappingProxyType({}),
        origin: partial[Model] | None = None,
    ) -> None:
        session, self._placement = _place(
            graph, weights, device, threads, side_by_side=side_by_side, folded=folded
        )
        check_ends(session, signature)
        release(weights)
        self._graph, self._weights, self._folded = graph, weights, folded
        self._adopt(session)
        self._lock = _thread.allocate_lock()
        self._origin = origin
        self._signature = signature
        self._manifest = manifest
        self._attachments = attachments
        self._first = (
            signature.inputs[0].name if signature.batch is not None else None
        )  # whose length is the rows
        self._chunk = chunk if chunk and signature.batch is not None else UNBOUNDED
        self._endless = endless
        self._most = (
            0 if endless else self._chunk
        )  # so that other graphs pay nothing for the question
        watch(self)

    def _adopt(self, session: Any) -> None:
        self._session = session
        # The wrapper around this call checks input names again and re-creates the session on
        # failures of a provider; rows are coerced already, and a silent change of provider is what
        # must not happen.
        self._run_graph = getattr(session, "_sess", session).run

    @property
    def signature(self) -> Signature:
        """The graph's inputs and outputs."""
        return self._signature

    @property
    def graph(self) -> tuple[bytes | memoryview, memoryview | None]:
        """The serialised graph and its external weights, for who wants to read them."""
        return self._graph, self._weights

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
        rows = 1 if self._first is None else len(feeds[self._first])
        if 0 < rows <= self._most:
            try:
                answers = self._run_graph(outputs, feeds, None)
            except (ModelkitError, MemoryError):
                raise
            except Exception as error:
                raise _refusal(error) from error
            # For one output, which is what predict asks for, a display is a third of a microsecond
            # cheaper.
            return (
                {outputs[0]: answers[0]}
                if len(outputs) == 1
                else dict(zip(outputs, answers, strict=True))
            )
        if rows == 0:
            return self._signature.empty(outputs)
        try:
            return self._run_apart(feeds, outputs, rows, call)
        except (ModelkitError, MemoryError):
            raise
        except Exception as error:
            raise _refusal(error) from error

    def _run_apart(self, feeds: Feeds, outputs: tuple[str, ...], rows: int, call: Call) -> Outputs:
        """Run what takes more than one plain run: a graph that may never end, and a bulk."""
        if self._endless and call.deadline is not None:
            answers = run_until(
                partial(self._run_graph, outputs, feeds), ort.RunOptions(), call.deadline
            )
            return dict(zip(outputs, answers, strict=True))
        if self._first is None:
            return dict(zip(outputs, self._run_graph(outputs, feeds, None), strict=True))
        return self._run_chunks(feeds, outputs, rows)

    def _run_chunks(self, feeds: Feeds, outputs: tuple[str, ...], rows: int) -> Outputs:
        """Run a bulk in chunks that fit the cache, on all threads; the answers are written side by side."""
        answers: Outputs = {}

        def run(start: int, stop: int) -> None:
            parts = self._run_graph(
                outputs, {name: feed[start:stop] for name, feed in feeds.items()}, None
            )
            for name, part in zip(outputs, parts, strict=True):
                if name not in answers:
                    answers.setdefault(
                        name, np.empty((rows, *part.shape[1:]), part.dtype)
                    )  # one thread's wins
                answers[name][start:stop] = part

        chunks = chunk_bounds(rows, self._chunk)
        run_all(
            run,
            chunks,
            0 if self._placement.split else min(self._placement.threads, len(chunks)) - 1,
        )
        return {name: answers[name] for name in outputs}

    def close(self) -> None:
        """Release the session; later calls raise ClosedError.

        Runs under way finish, on weights that stay mapped.
        """
        with self._lock:
            self._run_graph = _closed
            self._session = None

    def after_fork(self) -> None:
        """Give up the session in the child of a fork, where the threads it would wait for do not live on."""
        self._lock = _thread.allocate_lock()
        if self._run_graph is _closed:
            return
        if self._session is not None:
            _abandon(self._session)
            self._session = None
        self._run_graph = (
            self._revive
            if self._placement.provider == CPU
            else partial(_forked, self._placement.device)
        )

    def _revive(self, *arguments: Any) -> Any:
        """The first run in the child of a fork: build the session again, and run."""
        with self._lock:
            if self._run_graph == self._revive:
                threads = self._placement.threads if self._placement.split else 1
                session, _ = _start(
                    self._graph, self._weights, parse_device("cpu"), [CPU], threads, self._folded
                )
                release(self._weights)
                self._adopt(session)
        return self._run_graph(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return reopening(self._origin, closed=self._run_graph is _closed)


def _refusal(error: Exception) -> ModelkitError:
    """What a run that failed raises; onnxruntime has a dozen exception classes and no public base."""
    if isinstance(error, UnicodeEncodeError):
        return SignatureError(f"a text is no valid Unicode: {error.reason} in {error.object!r:.60}")
    return BatchError(
        f"onnxruntime cannot run the graph on these rows: {' '.join(str(error).split())}"
    )


def _abandon(session: Any) -> None:
    """Keep a session for good: its destructor joins threads, and would wait for ever for those of another process.

    An array that holds itself is never freed: its count stays above zero, and the garbage collector
    does not look into arrays. A module's global would be freed when the interpreter ends.
    """
    kept = np.empty(2, object)
    kept[0], kept[1] = session, kept


def _forked(device: str, *_: object) -> list[Any]:
    raise ForkedModelError(
        f"the model was loaded on {device!r} before this process was forked, and a device does not "
        "survive a fork; "
        f"load the model after the fork, or start processes by spawn",
        device=device,
    )


def _closed(*_: object) -> list[Any]:
    raise ClosedError("the model was closed; load it again to use it")
