"""Run an ONNX graph with onnxruntime."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, final

import numpy as np
from numpy import ndarray

from modelkit._internal.process import watch_forks
from modelkit.errors import (
    ClosedError,
    DeadlineExceeded,
    ForkedModelError,
    GraphError,
    ModelkitError,
)
from modelkit.model.device import Placement
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.runtimes.bulk import FiniteCheck, Gathered, chunk_bounds, finite_check, run_all
from modelkit.runtimes.devices import CPU, DeviceName, parse_device
from modelkit.runtimes.machine import release
from modelkit.runtimes.packaged import NOT_PACKAGED, Packaged, reopening
from modelkit.runtimes.sessions import (
    FOLDED_BYTES,
    Graph,
    ort,
    place,
    place_again,
    run_error,
    start,
)
from modelkit.signature.cast import MISSING
from modelkit.signature.refusing import REFUSED, check_refused
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import AS_OBJECTS, TIMES, TensorSpec

__all__ = ["FOLDED_BYTES", "OnnxModel"]

UNBOUNDED = 1 << 62
# As onnxruntime has them.
ORT_TYPES = {"float32": "float", "float64": "double"} | dict.fromkeys(TIMES, "int64")


@final
class OnnxModel(Model):
    """A Model that runs an ONNX graph.

    Args:
        graph: the serialised ModelProto.
        weights: its external data, if any; kept for as long as the session lives.
        signature: the graph's inputs and outputs.
        device, threads: as for `modelkit.load`; by default the CPU, where packages are proven.
        chunk: the most rows of one run; a larger batch is split. None for graphs whose rows depend
            on each other.
        endless: whether a run may never end, so a deadline must stop it.
        folded: the most bytes of a result that is computed at load because it depends on constants
            only; 0 for none.
        side_by_side: whether each thread of the CPU has a run of its own, however large the model.
        stored: the graph as it lies in its package, where it is written in another way there.
        packaged: the package this model was loaded from.
    """

    __slots__ = (
        "__weakref__",
        "_check_holds",
        "_chunk",
        "_finite_check",
        "_graph",
        "_lock",
        "_origin",
        "_passed_texts",
        "_plain_rows",
        "_refusals",
        "_row_input",
        "_run_graph",
        "_session",
        "attachments",
        "closed",
        "endless",
        "manifest",
        "placement",
        "signature",
        "stored",
    )

    attachments: Mapping[str, memoryview]
    closed: bool
    endless: bool
    manifest: Manifest | None
    placement: Placement
    signature: Signature
    stored: bytes | memoryview

    def __init__(
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
        stored: bytes | memoryview | None = None,
        packaged: Packaged = NOT_PACKAGED,
    ) -> None:
        self._graph = Graph(graph, weights, folded, side_by_side)
        self.stored = graph if stored is None else stored
        session, self.placement = place(self._graph, device, threads)
        check_ends(session, signature)
        release(weights)
        self.signature = signature
        self._adopt(session)
        self._lock = _thread.RLock()
        self.manifest, self.attachments, self._origin = packaged
        self.closed = False
        batched = signature.batch is not None
        # The input whose length counts the rows.
        self._row_input = signature.inputs[0].name if batched else None
        self._chunk = chunk if chunk and batched else UNBOUNDED
        self.endless = endless
        self._passed_texts = texts_passed_on(signature)
        # The most rows of a plain run, whose answers are given as they are.
        self._plain_rows = 0 if endless or self._passed_texts else self._chunk
        self._refusals = signature.refusals
        self._finite_check = finite_check(signature, self.manifest) if self._plain_rows else None
        self._check_holds: bool | None = None  # which is tried when the first bulk comes
        watch_forks(self)

    def _adopt(self, session: Any) -> None:
        self._session = session
        # The wrapper around this call checks input names again and re-creates the session on
        # failures of a provider; rows are coerced already, and a silent change of provider is what
        # must not happen.
        run = getattr(session, "_sess", session).run
        times = [spec.name for spec in self.signature.inputs if spec.dtype in TIMES]
        self._run_graph = partial(_run_on_times, run, times) if times else run

    @property
    def graph(self) -> tuple[bytes | memoryview, memoryview | None]:
        """The serialised graph, and its external weights if it has some."""
        return self._graph.data, self._graph.weights

    def _call(self, X: Any, outputs: tuple[str, ...], call: Call) -> Outputs:
        check = self._finite_check
        if (  # few rows are few values, which are looked at in less time
            check is not None
            and type(X) is ndarray
            and X.size > self._plain_rows < len(X)
            and X.dtype.kind == "f"
            and X.shape[1:] == check.block.trailing
        ):
            return self._run_unchecked(X, check, outputs, call)
        return self._run(self.signature.coerce(X), outputs, call)

    def _run_unchecked(
        self, X: Any, check: FiniteCheck, outputs: tuple[str, ...], call: Call
    ) -> Outputs:
        """Run a bulk without a look at its values, and check the output that shows them.

        Where the check does not pass, or a run fails, the rules of the columns decide.
        """
        finite = False
        try:
            if self._check_holds is None:
                self._check_holds = check.holds(self._run)
            answers = self._run({check.block.name: X}, (*{*outputs, check.name},), call)
            finite = self._check_holds and check.passes(answers[check.name])
        finally:
            if not finite:
                self.signature.coerce(X)  # raises for the rows at fault, whatever else failed
        return {name: answers[name] for name in outputs}

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        rows = 1 if self._row_input is None else len(feeds[self._row_input])
        if rows == 0:
            if self.closed:
                _raise_closed()
            return self.signature.empty(outputs)
        try:
            if rows > self._plain_rows:
                return self._run_apart(feeds, outputs, rows, call)
            if self._refusals:
                answers = self._run_graph((*outputs, REFUSED), feeds, None)
                check_refused(answers.pop(), self._refusals)
            else:
                answers = self._run_graph(outputs, feeds, None)
        except (ModelkitError, MemoryError):
            raise
        except Exception as error:
            raise run_error(error) from error
        if len(outputs) == 1:  # as predict asks; a third of a microsecond cheaper
            return {outputs[0]: answers[0]}
        return dict(zip(outputs, answers, strict=True))

    def _run_apart(self, feeds: Feeds, outputs: tuple[str, ...], rows: int, call: Call) -> Outputs:
        """Run a bulk, a graph that may never end, or one that passes missing texts on."""
        wanted = (*outputs, REFUSED) if self._refusals else outputs
        if self.endless and call.deadline is not None:
            run = partial(self._run_graph, wanted, feeds)
            answers = dict(zip(wanted, run_until(run, call.deadline), strict=True))
        elif self._row_input is None:  # rows depend on each other
            answers = dict(zip(wanted, self._run_graph(wanted, feeds, None), strict=True))
        else:
            answers = self._run_chunks(feeds, wanted, rows)
        if self._refusals:
            check_refused(answers.pop(REFUSED), self._refusals)
        for name in self._passed_texts.intersection(outputs):
            answers[name][answers[name] == MISSING] = None
        return answers

    def _run_chunks(self, feeds: Feeds, outputs: tuple[str, ...], rows: int) -> Outputs:
        """Run a bulk in chunks that fit the cache, on all threads."""
        gathered = Gathered(rows)
        # A bulk that was not coerced is cast here, while a chunk of it is in the cache.
        dtype = self._finite_check and self._finite_check.block.rule.target

        def run(start: int, stop: int) -> None:
            with np.errstate(over="ignore"):  # in a bulk that was not coerced
                part = {name: np.asarray(feed[start:stop], dtype) for name, feed in feeds.items()}
            gathered.put(
                start, stop, zip(outputs, self._run_graph(outputs, part, None), strict=True)
            )

        threads = 1 if self.placement.split else self.placement.threads
        chunks = chunk_bounds(rows, self._chunk, threads)
        run_all(run, chunks, min(threads, len(chunks)) - 1)
        return gathered.answers(outputs)

    def close(self) -> None:
        """Release the session; later calls raise ClosedError.

        Runs under way finish, on weights that stay mapped.
        """
        with self._lock:
            self.closed = True
            self._run_graph = _raise_closed
            self._session = None

    def _use_threads(self, threads: int) -> None:
        with self._lock:
            where = self.placement
            if self.closed or where.provider != CPU or where.threads == threads:
                return
            session, self.placement = place_again(self._graph, where, threads)
            if session is not None:
                release(self._graph.weights)
                self._adopt(session)

    def after_fork(self) -> None:
        """Give up the session in the child of a fork, where its threads do not live on."""
        self._lock = _thread.RLock()
        if self.closed:
            return
        if self._session is not None:
            _abandon(self._session)
            self._session = None
        if self.placement.provider == CPU:
            self._run_graph = self._revive
        else:
            self._run_graph = partial(_raise_forked, self.placement.device)

    def _revive(self, *arguments: Any) -> Any:
        """The first run in the child of a fork: build the session again, and run."""
        with self._lock:
            if self._run_graph == self._revive:
                threads = self.placement.threads if self.placement.split else 1
                session, _ = start(self._graph, parse_device("cpu"), [CPU], threads)
                release(self._graph.weights)
                self._adopt(session)
        return self._run_graph(*arguments)

    __reduce__ = reopening


def _run_on_times(
    run: Any, times: list[str], outputs: tuple[str, ...], feeds: Feeds, *options: Any
) -> Any:
    """Run a graph with times as whole numbers, of which NaT is the least."""
    numbers = {name: feeds[name].view(np.int64) for name in times}
    return run(outputs, feeds | numbers, *options)


def _abandon(session: Any) -> None:
    """Keep a session for good: its destructor would wait for ever for threads of another process.

    An array that holds itself is never freed: its count stays above zero, and the garbage collector
    does not look into arrays. A module's global would be freed when the interpreter ends.
    """
    kept = np.empty(2, object)
    kept[0] = session
    kept[1] = kept


def _raise_forked(device: str, *_: object) -> list[Any]:
    raise ForkedModelError(
        f"the model was loaded on {device!r} before this process was forked, and a device does not "
        "survive a fork; load the model after the fork, or start processes by spawn",
        device=device,
    )


def _raise_closed(*_: object) -> list[Any]:
    raise ClosedError("the model was closed; load it again to use it")


def texts_passed_on(signature: Signature) -> frozenset[str]:
    """The outputs that may hold a missing string of an input, which a graph has as U+FDD0.

    A label of a classifier is one of its classes.
    """
    if all(spec.dtype not in AS_OBJECTS for spec in signature.inputs):
        return frozenset()
    closed = "label" if signature.classes is not None else None
    texts = [spec.name for spec in signature.outputs if spec.dtype in AS_OBJECTS]
    return frozenset(name for name in texts if name != closed)


def run_until(run: Callable[[Any], list[Any]], deadline: float) -> list[Any]:
    """Call `run` with run options of onnxruntime, and stop it at a point on `time.monotonic()`.

    Raises DeadlineExceeded.
    """
    options = ort().RunOptions()
    timer = threading.Timer(
        max(0, deadline - time.monotonic()), setattr, (options, "terminate", True)
    )
    timer.daemon = True
    timer.start()
    try:
        return run(options)
    except Exception as error:
        if options.terminate:
            raise DeadlineExceeded(
                "the deadline passed while the graph ran; the run was stopped"
            ) from error
        raise
    finally:
        timer.cancel()


def check_ends(session: Any, signature: Signature) -> None:
    """Raise GraphError unless the graph has the names, types, ranks and sizes of the signature."""
    try:
        _compare(session, signature)
    except UnicodeDecodeError as error:
        raise GraphError(
            f"an input or output of the graph has a name that is not a text: {error}"
        ) from error


def _compare(session: Any, signature: Signature) -> None:
    for kind, ends, specs in (
        ("input", session.get_inputs(), signature.inputs),
        ("output", session.get_outputs(), signature.graph_outputs),
    ):
        found = {end.name: end for end in ends}
        if found.keys() != {spec.name for spec in specs}:
            listed = sorted(spec.name for spec in specs)
            raise GraphError(f"the graph has the {kind}s {sorted(found)}, its signature {listed}")
        for spec in specs:
            end = found[spec.name]
            shape = end.shape or spec.shape  # an unknown rank is shown as no dimension
            if end.type != f"tensor({ORT_TYPES.get(spec.dtype, spec.dtype)})" or not _agree(
                shape, spec, kind
            ):
                what = f"a {end.type} of shape {tuple(shape)}"
                raise GraphError(
                    f"{kind} {spec.name!r} of the graph is {what}, its signature says {spec}",
                    spec=spec,
                )


def _agree(shape: Any, spec: TensorSpec, kind: str) -> bool:
    """Whether a shape of the graph fits the signature.

    A size that the graph fixes must be fixed in the signature of an input; the size of an output is
    often inferred.
    """
    loose = (str, type(None)) if kind == "input" else (str, type(None), int)
    return len(shape) == len(spec.shape) and all(
        size == dim
        or (isinstance(dim, str) and isinstance(size, loose))
        or not isinstance(size, int)
        for size, dim in zip(shape, spec.shape, strict=True)
    )
