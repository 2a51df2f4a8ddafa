"""Run an ONNX graph with onnxruntime."""

from __future__ import annotations

import _thread
from collections.abc import Mapping
from functools import partial
from typing import Any, final

import numpy as np

from modelkit._internal.process import watch_forks
from modelkit.errors import ClosedError, ForkedModelError, ModelkitError
from modelkit.model.device import Placement
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.runtimes.bulk import Gathered, chunk_bounds, run_all
from modelkit.runtimes.deadline import run_until
from modelkit.runtimes.devices import CPU, DeviceName, parse_device
from modelkit.runtimes.ends import check_ends, texts_passed_on
from modelkit.runtimes.machine import release
from modelkit.runtimes.packaged import NOT_PACKAGED, Packaged, reopening
from modelkit.runtimes.sessions import (
    FOLDED_BYTES,
    Graph,
    place,
    place_again,
    run_error,
    run_options,
    start,
)
from modelkit.signature.cast import MISSING
from modelkit.signature.refusing import REFUSED, check_refused
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import TIMES

__all__ = ["FOLDED_BYTES", "OnnxModel"]

UNBOUNDED = 1 << 62


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
        endless: whether a run may never end, so that a deadline must stop it.
        folded: the most bytes of a result that is computed at load because it depends on constants
            only; 0 for none.
        side_by_side: whether each thread of the CPU has a run of its own, however large the model.
        packaged: the package this model was loaded from.
    """

    __slots__ = (
        "__weakref__",
        "_chunk",
        "_first",
        "_graph",
        "_lock",
        "_most",
        "_origin",
        "_reasons",
        "_run_graph",
        "_session",
        "_side_by_side",
        "_texts",
        "_times",
        "attachments",
        "closed",
        "endless",
        "manifest",
        "placement",
        "signature",
    )

    attachments: Mapping[str, memoryview]
    closed: bool
    endless: bool
    manifest: Manifest | None
    placement: Placement
    signature: Signature

    def __init__(  # one call in load, all by keyword
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
        packaged: Packaged = NOT_PACKAGED,
    ) -> None:
        self._graph = Graph(graph, weights, folded)
        session, self.placement = place(self._graph, device, threads, side_by_side=side_by_side)
        check_ends(session, signature)
        release(weights)
        self._times = frozenset(spec.name for spec in signature.inputs if spec.dtype in TIMES)
        self._adopt(session)
        self._lock = _thread.RLock()
        self._side_by_side = side_by_side
        self.manifest, self.attachments, self._origin = packaged
        self.signature = signature
        self.closed = False
        batched = signature.batch is not None
        self._first = signature.inputs[0].name if batched else None  # its length counts the rows
        self._chunk = chunk if chunk and batched else UNBOUNDED
        self.endless = endless
        self._texts = texts_passed_on(signature)
        # The most rows of a plain run, whose answers are given as they are.
        self._most = 0 if endless or self._texts else self._chunk
        self._reasons = signature.refusals
        watch_forks(self)

    def _adopt(self, session: Any) -> None:
        self._session = session
        # The wrapper around this call checks input names again and re-creates the session on
        # failures of a provider; rows are coerced already, and a silent change of provider is what
        # must not happen.
        run = getattr(session, "_sess", session).run
        self._run_graph = partial(_run_on_times, run, self._times) if self._times else run

    @property
    def graph(self) -> tuple[bytes | memoryview, memoryview | None]:
        """The serialised graph, and its external weights if it has some."""
        return self._graph.data, self._graph.weights

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        rows = 1 if self._first is None else len(feeds[self._first])
        if rows == 0:
            if self.closed:
                _raise_closed()
            return self.signature.empty(outputs)
        try:
            if rows > self._most:
                return self._run_apart(feeds, outputs, rows, call)
            if self._reasons:
                answers = self._run_graph((*outputs, REFUSED), feeds, None)
                check_refused(answers.pop(), self._reasons)
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
        wanted = (*outputs, REFUSED) if self._reasons else outputs
        if self.endless and call.deadline is not None:
            run = partial(self._run_graph, wanted, feeds)
            answers = dict(zip(wanted, run_until(run, run_options(), call.deadline), strict=True))
        elif self._first is None:  # rows depend on each other
            answers = dict(zip(wanted, self._run_graph(wanted, feeds, None), strict=True))
        else:
            answers = self._run_chunks(feeds, wanted, rows)
        if self._reasons:
            check_refused(answers.pop(REFUSED), self._reasons)
        for name in self._texts.intersection(outputs):
            answers[name][answers[name] == MISSING] = None
        return answers

    def _run_chunks(self, feeds: Feeds, outputs: tuple[str, ...], rows: int) -> Outputs:
        """Run a bulk in chunks that fit the cache, on all threads."""
        gathered = Gathered(rows)

        def run(start: int, stop: int) -> None:
            part = {name: feed[start:stop] for name, feed in feeds.items()}
            gathered.put(
                start, stop, zip(outputs, self._run_graph(outputs, part, None), strict=True)
            )

        chunks = chunk_bounds(rows, self._chunk)
        threads = 1 if self.placement.split else min(self.placement.threads, len(chunks))
        run_all(run, chunks, threads - 1)
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
            session, self.placement = place_again(
                self._graph, where, threads, side_by_side=self._side_by_side
            )
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

    def __reduce__(self) -> tuple[Any, ...]:
        return reopening(self._origin, closed=self.closed)


def _run_on_times(
    run: Any, times: frozenset[str], outputs: tuple[str, ...], feeds: Feeds, *options: Any
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
