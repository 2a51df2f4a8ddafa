"""Sessions of onnxruntime on a device. The only module that imports onnxruntime."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from modelkit.errors import (
    BatchError,
    DeviceError,
    GraphError,
    ModelkitError,
    SignatureError,
    importing,
)
from modelkit.model.device import Device, Placement
from modelkit.model.manifest import WEIGHTS_REF
from modelkit.runtimes.devices import (
    CPU,
    DEVICE_NAMES,
    DeviceName,
    Target,
    device_chain,
    dishonest,
    missing_libraries,
    not_compiled,
    parse_device,
    reason_for,
    refusal,
    refuse_version,
)
from modelkit.runtimes.machine import nvidia_obstacle, usable_cpus
from modelkit.runtimes.threads import choose_threads, split_runs, worker_count

NODE = re.compile(r"running (\w+) node\. Name:'([^']*)'")  # in the text of an error
# The most bytes of one folded result, for graphs that nobody has looked at: those made here.
FOLDED_BYTES = 1 << 28
# A graph of one node, y = Relu(x), in opset 13: a device that is called usable has run it.
ONE_NODE = (
    b'\x08\x08:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x'
    b"\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04B\x04\n\x00\x10\r"
)
# The least severity that onnxruntime prints on standard error, in red. On the CPU every error comes
# as an exception too; that another device was not started is only printed.
ERRORS = 3
SILENT = 4
# Those of onnxruntime's exceptions that another device does not mend.
BAD_GRAPH = ("InvalidGraph", "InvalidProtobuf", "NoSuchFile")
AZURE = "AzureExecutionProvider"


class Graph(NamedTuple):
    """A graph to run.

    `data` is the serialised ModelProto and `weights` its external data, if any. `folded` is the
    most bytes of a result that is computed at load because it depends on constants only; 0 for
    none. `side_by_side` is whether each thread of the CPU has a run of its own, however large the
    weights.
    """

    data: bytes | memoryview
    weights: memoryview | None = None
    folded: int = FOLDED_BYTES
    side_by_side: bool = False


@cache
def ort() -> Any:
    """The module onnxruntime. Raises MissingExtraError, and DeviceError for a version that is wrong."""
    # Its wheels report usage unless this is set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with importing("onnxruntime", "running an ONNX model", "cpu", {"gpu": "onnxruntime-gpu"}):
        import onnxruntime
    refuse_version(onnxruntime.__version__)
    return onnxruntime


def providers() -> list[str]:
    """The execution providers compiled into this onnxruntime, without the remote one of Azure."""
    return [name for name in ort().get_available_providers() if name != AZURE]


def devices() -> tuple[Device, ...]:
    """Every device by name, whether it is usable here, and the reason.

        [device.name for device in mk.devices() if device.usable]  # such as ["cuda:0", "cpu"]

    A usable device has run a graph of one node. This starts each device that is there; call it
    where nothing is forked later.

    Returns:
        Each `Device`, with `usable` and `reason`.

    Raises MissingExtraError if onnxruntime is not installed.
    """
    return tuple(_examine(parse_device(name), providers()) for name in DEVICE_NAMES)


def _examine(target: Target, compiled: list[str]) -> Device:
    if target.provider == CPU:
        return Device(target.name, CPU, usable=True, reason=f"{usable_cpus()} usable CPUs")
    usable = False
    try:
        session, _ = start(Graph(ONE_NODE), target, compiled)
        session.run(None, {"x": np.zeros(4, np.float32)})
    except DeviceError as error:
        reason = str(error)
    except Exception as error:  # whatever it is, such a device is not usable
        reason = f"it fails on a graph of one node: {error}"
    else:
        usable = True
        reason = "it ran a graph of one node"
    return Device(target.name, target.provider, usable=usable, reason=reason)


def place(graph: Graph, device: DeviceName, threads: int | str) -> tuple[Any, Placement]:
    """A session on the first device of the chain that can be had, and where that is.

    Raises DeviceError if none can be had, GraphError if the graph is at fault.
    """
    compiled = providers()
    obstacles: dict[str, str] = {}
    workers = worker_count(os.environ.get("WEB_CONCURRENCY"))
    chain = device_chain(device, compiled)
    for target in chain:
        on_cpu = target.provider == CPU
        count, why = choose_threads(threads, usable_cpus(), workers, on_cpu=on_cpu)
        split = _is_split(graph, count) if on_cpu else count > 1
        try:
            session, nodes = start(graph, target, compiled, count if split else 1)
        except DeviceError as error:
            obstacles[target.name] = str(error)
            continue
        reason = reason_for(target, device, obstacles)
        if device == "auto" and on_cpu and obstacles:
            import logging

            logging.getLogger("modelkit").warning("%s", reason)
        placement = Placement(
            target.provider,
            target.name,
            count,
            split,
            tuple(nodes.items()),
            reason,
            why,
            requested=chain[0].name,
            since=time.time(),
        )
        return session, placement
    raise DeviceError(refusal(device, obstacles), device=device, obstacles=obstacles)


def place_again(graph: Graph, where: Placement, threads: int) -> tuple[Any, Placement]:
    """A session on the CPU for another number of threads, and where that is.

    The session is None where the one there is does: it runs on the thread of its caller.
    """
    split = _is_split(graph, threads)
    why = "shared with the other arm of a Rollout" if threads < where.threads else "as before"
    placement = replace(where, threads=threads, split=split, threads_reason=why)
    if not (split or where.split):
        return None, placement
    session, _ = start(graph, parse_device("cpu"), [CPU], threads if split else 1)
    return session, placement


def _is_split(graph: Graph, threads: int) -> bool:
    """Whether each run on the CPU is split over the threads.

    Another device takes one run at a time; the threads help with nodes that it leaves to the CPU.
    """
    size = 0 if graph.weights is None else graph.weights.nbytes
    return not graph.side_by_side and split_runs(threads, size)


def start(
    graph: Graph, target: Target, compiled: list[str], threads: int = 1
) -> tuple[Any, dict[str, int]]:
    """A session on this device, and the number of nodes by provider where it is not the CPU.

    Raises DeviceError if the device cannot be had, GraphError if the graph is at fault.
    """
    missing = None
    obstacle = not_compiled(target, compiled, ort().__version__)
    if obstacle is None and target.short in ("cuda", "tensorrt"):
        obstacle = nvidia_obstacle(getattr(ort(), "cuda_version", ""), target.index)
        missing = missing_libraries(_preload())
    if obstacle is None:
        session = _open_session(graph, target, threads)
        nodes = {} if target.provider == CPU else _assigned(session)
        obstacle = dishonest(target, session.get_providers()[0], nodes)
        if obstacle is None:
            return session, nodes
    reason = obstacle if missing is None else f"{obstacle}; {missing}"
    raise DeviceError(reason, device=target.name)


def _open_session(graph: Graph, target: Target, threads: int) -> Any:
    on_cpu = target.provider == CPU
    options = _session_options(threads, graph.folded, on_cpu=on_cpu)
    weights = graph.weights
    if weights is not None:
        options.add_external_initializers_from_files_in_memory(
            [WEIGHTS_REF], [weights], [weights.nbytes]
        )
    if not on_cpu:  # there it would cost 4 % of loading a linear model, to say what is known
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    asked = [(target.provider, dict(target.options))]
    if target.short == "tensorrt":  # CUDA takes what TensorRT leaves, as onnxruntime recommends
        cuda = parse_device("cuda")
        asked.append((cuda.provider, dict(cuda.options)))
    try:
        return ort().InferenceSession(
            bytes(graph.data), options, providers=asked, enable_fallback=0
        )
    except Exception as error:  # onnxruntime has a dozen exception classes and no public base
        if on_cpu or type(error).__name__ in BAD_GRAPH:
            raise GraphError(f"onnxruntime refuses the graph: {error}") from error
        raise DeviceError(
            f"onnxruntime cannot run the graph there: {error}", device=target.name
        ) from error


def _assigned(session: Any) -> dict[str, int]:
    """How many nodes run on each provider; empty where this onnxruntime does not say."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):
        return {}
    return Counter(part.ep_name for part in parts for _ in part.get_nodes())


@cache
def _preload() -> str:
    """Load the CUDA libraries that pip installed, which onnxruntime does not find by itself.

    Returns what that printed.
    """
    import io
    from contextlib import redirect_stdout

    if not hasattr(ort(), "preload_dlls"):
        return ""
    with redirect_stdout(io.StringIO()) as printed:  # it reports failures by printing them
        ort().preload_dlls()
    return printed.getvalue()


def _session_options(threads: int, folded: int, *, on_cpu: bool) -> Any:
    if os.environ.get("ORT_LOAD_CONFIG_FROM_MODEL", "0") != "0":
        # It would forget the weights it is given, and read a file of their name in the working
        # directory.
        raise DeviceError(
            "unset ORT_LOAD_CONFIG_FROM_MODEL, which makes onnxruntime take its options from the "
            "graph"
        )
    options = ort().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT if on_cpu else ERRORS
    # Spinning workers burn the application's CPU for a while after every run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A graph with "ORTM" at its byte 4, as the name of its producer, would be read in another format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Use the caller's weights in place instead of copying them; prepacked ones are then released.
    options.add_session_config_entry("session.use_external_initializer_file_buffers_directly", "1")
    # A result of constants alone is computed, and kept, at load only where it is known to be no
    # larger.
    options.add_session_config_entry(
        "optimization.constant_folding_max_output_size_in_bytes", str(folded)
    )
    version = tuple(map(int, ort().__version__.split(".")[:2]))
    # Before 1.32 it rounds a number that a product of matrices of doubles is multiplied by to float32.
    without = ["MatMulScaleFusion"] if version < (1, 32) else []
    # onnxruntime takes 0 for no limit, and before 1.27 it does not know the limit.
    if not folded or (folded < FOLDED_BYTES and version < (1, 27)):
        without.append("ConstantFolding")
    options.add_session_config_entry("optimization.disable_specified_optimizers", ";".join(without))
    return options


def run_error(error: Exception) -> ModelkitError:
    """The error of ours for one that onnxruntime raised while it ran a graph."""
    if isinstance(error, UnicodeEncodeError):
        return SignatureError(
            f"a text is not valid Unicode: {error.reason} in {error.object!r:.60}"
        )
    text = " ".join(str(error).split())
    failed = "onnxruntime cannot run the graph on these rows"
    node = NODE.search(text)
    public = failed if node is None else f"{failed}: its {node[1]} node {node[2]!r} failed"
    return BatchError(f"{failed}: {text}", public=public)
