"""The Batcher: a Model that gathers the concurrent calls of threads and event loops into batches.

Which way a call takes follows from the plan, the size of the call and who calls. Sizes are rows, or
the cost that the model declares.

    called from  mode             size                way
    a thread     parallel direct  any                 at once, on this thread, without a lock
    a thread     batch, direct    up to `piece`       on this thread if a slot is free and nobody
                                                      waits; through the queue otherwise
    a thread     batch, direct    larger              in pieces, one by one through the queue
    a loop       any              up to `loop_batch`  by the loop at the end of its tick, or at once
                                                      while it has only one caller
    a loop       any              up to `piece`       by threads, from the queue
    a loop       any              larger              in pieces

A batch of a tick is run by the loop if all its calls together are small enough, and the rest goes
the next way down. Whoever finds the Batcher closed is refused by the queue.
"""

from __future__ import annotations

import types
from asyncio import AbstractEventLoop, get_running_loop, to_thread
from collections.abc import Generator
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, final

from numpy import ndarray

from modelkit._internal.arrays import Array
from modelkit._internal.process import watch_forks
from modelkit.errors import ClosedError
from modelkit.model.model import PLAIN, Call, Model, Outputs, make_call, primary_of
from modelkit.model.wrapper import Wrapper, check_is_model
from modelkit.serving.batching.checks import (
    check_batchable,
    check_options,
    checked_timeout,
    declares_cost,
    letters_of,
    preparation_of,
)
from modelkit.serving.batching.execution import counted, padded
from modelkit.serving.batching.interrupts import is_interrupt, is_within
from modelkit.serving.batching.isolation import Names, Outcome, join_rows, out_of_memory, row_count
from modelkit.serving.batching.measure import check_stable, first_plan, golden_feeds
from modelkit.serving.batching.pieces import Submission, in_pieces, run_into
from modelkit.serving.batching.planner import Planner
from modelkit.serving.batching.policy import BatchPlan, stable_size
from modelkit.serving.batching.requests import DONE, Request, Turn, clock, still_running, too_late
from modelkit.serving.batching.stats import Stats
from modelkit.serving.batching.ticks import Tick
from modelkit.serving.batching.workers import Workers
from modelkit.signature.signature import Feeds, Signature

QUEUE = 8192
# Letters of the texts of a call; what more of them cost is found out beside the event loop.
LETTERS_ON_LOOP = 1 << 13
# Of the calls that run at once on their thread, those are timed whose number ends in six zero bits.
SAMPLED = 63


@final
class Batcher(Wrapper):
    """Gathers concurrent calls to a Model into batches. Safe from any thread and any event loop.

        with mk.Batcher(model) as batcher:
            batcher.predict(X[:1])  # in a batch with the calls of other threads

    Batches form from what waits while a run is under way; nothing waits for a timer, and a lone
    call runs at once. The size of the batches follows from what runs take, see `plan`.

    Args:
        model: the Model to run. Its inputs and outputs must all lead with one named dimension, and
            its rows must have been shown not to depend on their batch.
        max_rows: the size of the largest batch, in rows, or in the cost that the model declares,
            such as the tokens of texts. A larger call runs in pieces; `predict` runs it whole if
            the mode of the plan is "parallel direct".
        max_queue: the size of the calls of priority 0 that may wait, in the same unit; by default
            8,192 rows, or 65,536 of the declared cost. Calls of priority -1 do not count towards
            them, and are admitted while all that waits is less than this.
        stable_shapes: run every batch in one shape, which gives a row's answer the same
            bits in every company. Each run costs as much as a full batch.
        loop: whether an event loop itself runs what should take less time than waking a thread.
            Pass False for a model that sometimes takes long, and no event loop ever waits for it. A
            model whose runs last as long as its rows say, or take rows of any size, never runs there.
        plan: "measure" to time the golden rows of the package first, for up to a second; "learn" to
            start without a measurement and learn from the calls; or the `plan` of another Batcher.

    Raises:
        BatchError: if its rows cannot be batched.
        UsageError: for a number out of range, and if a layer inside would not see its calls.
    """

    __slots__ = (
        "__weakref__",
        "_direct",
        "_execute",
        "_has_cost",
        "_origin",
        "_planner",
        "_prepared",
        "_row_dtype",
        "_row_shape",
        "_scheduler",
        "_static",
        "_ticks",
        "_workers",
        "signature",
    )

    signature: Signature  # a slot, which is read faster than a property

    def __init__(
        self,
        model: Model,
        *,
        max_rows: int = 1024,
        max_queue: int | None = None,
        stable_shapes: bool = False,
        loop: bool = True,
        plan: BatchPlan | Literal["measure", "learn"] = "measure",
    ) -> None:
        check_is_model(model, "a Batcher")
        check_batchable(model)
        self._has_cost = declares_cost(model)
        if max_queue is None:
            max_queue = 8 * QUEUE if self._has_cost else QUEUE
        check_options(max_rows, max_queue, plan)
        super().__init__(model)
        self._origin = partial(
            Batcher,
            model,
            max_rows=max_rows,
            max_queue=max_queue,
            stable_shapes=stable_shapes,
            loop=loop,
            plan=plan,
        )
        self.signature = signature = model.signature
        self._prepared = preparation_of(model)
        block = None if self._has_cost else signature.block
        self._row_shape = None if block is None else (1, *block[1])
        self._row_dtype = None if block is None else block[2].target
        rows = golden_feeds(model)
        run = counted(model)
        chosen = first_plan(model, run, rows, max_rows, plan)
        if stable_shapes:
            chosen, max_rows = stable_size(chosen, max_rows)
            run = padded(run, max_rows)
            check_stable(run, signature, rows, max_rows)
        self._execute = run
        sizes = [size for spec in signature.inputs for size in spec.shape[1:]]
        self._static = all(isinstance(size, int) for size in sizes)
        loop = loop and self._static and not model.endless  # or a row may take any time
        self._planner = Planner(chosen, max_rows, declared=self._has_cost, loop=loop)
        self._workers = Workers(run, self._planner, max_queue)
        self._scheduler = self._workers.scheduler
        self._direct = self._scheduler.tally.direct
        self._ticks: dict[AbstractEventLoop, Tick] = {}
        watch_forks(self)

    @property
    def closed(self) -> bool:
        """Whether it or the Model that it wraps was closed."""
        return self._scheduler.closed or self._inner.closed

    @property
    def plan(self) -> BatchPlan:
        """How calls are batched at present, and why; it changes as runs are timed."""
        return self._planner.plan

    def _use_threads(self, threads: int) -> None:
        before = self._inner.runs_at_once
        self._inner._use_threads(threads)
        slots = self._inner.runs_at_once
        if slots != before:
            self._scheduler.use_slots(slots)

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("batching", str(self.plan))]

    def stats(self) -> Stats:
        """The counts so far, as a value."""
        return self._scheduler.stats()

    def submit(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Future[Array]:
        """As `predict`, with the same arguments, but returns a Future at once.

            batcher = mk.Batcher(model)
            future = batcher.submit(X[:1], deadline=30.0)
            future.result()

        The rows are checked and copied here, and run in another thread. You can cancel
        the Future until its run begins; the Future of a call in pieces, until its first piece has run.

        Raises:
            SignatureError: if the rows do not fit the signature.
            Overloaded: if the queue is full.
            ClosedError: if the batcher was closed.
        """
        call = make_call(deadline, priority, key)
        name = primary_of(self.signature)
        # The caller may write into X before the rows are run.
        feeds = {each: feed.copy() for each, feed in self.signature.coerce(X).items()}
        future: Future[Array] = Future()
        scheduler = self._scheduler
        if is_within(scheduler):
            run_into(future, lambda: self._run(feeds, (name,), call)[name])
            return future
        whole = Request(*self._prepared(feeds), (name,), call, pick=name)
        Submission(scheduler, [*in_pieces(scheduler, whole, self._prepared)], future).begin()
        return future

    def close(self, timeout: float | None = None) -> None:
        """Refuse new calls, and return when all that were queued are answered.

        A large call under way raises ClosedError after the piece that is run. Calls that run at once, on the
        threads of their callers, are not waited for. If something still runs after `timeout` seconds, 0 or more,
        the calls that wait behind it get ClosedError, and DeadlineExceeded is raised, which says what runs.
        """
        runs = self._scheduler.close(checked_timeout(timeout))
        if runs is not None:
            raise still_running(self.base, runs, timeout)

    # Calls of threads.

    def _run(self, feeds: Feeds, outputs: Names, call: Call) -> Outputs:
        if call.deadline is not None:
            self._check_due(call.deadline)
        if self._planner.parallel:
            try:
                if next(self._direct) & SAMPLED:
                    return self._execute(feeds, outputs, call)
                feeds, size = self._prepared(feeds)
                start = clock()
                answer = self._execute(feeds, outputs, call)
            except Exception as error:  # raised again where it cannot be helped
                return self._run_again(feeds, outputs, call, error)
            self._scheduler.sample(size, clock() - start, learn=row_count(feeds) == 1)
            return answer
        feeds, size = self._prepared(feeds)
        if size <= self._planner.plan.piece:
            alone = self._run_in_slot(feeds, size, outputs, call, mine=True)
            if alone is not None:
                return alone
        run = self._run_beside if is_within(self._scheduler) else self._workers.call
        whole = Request(feeds, size, outputs, call)
        return join_rows(
            [run(piece) for piece in in_pieces(self._scheduler, whole, self._prepared)]
        )

    def _check_due(self, deadline: float) -> None:
        if deadline <= clock():
            self._scheduler.count(expired=1)
            raise too_late(deadline)

    def _run_beside(self, piece: Request) -> Outputs:
        """Run a call that interrupted another one of its thread, which would wait for itself."""
        if not piece.first:
            next(self._direct)
        return self._execute(piece.feeds, piece.outputs, piece.call)

    def _run_in_slot(
        self, feeds: Feeds, size: int, outputs: Names, call: Call, *, mine: bool
    ) -> Outputs | None:
        """Run one call if a slot is free and nobody waits for it; None otherwise."""
        turn = Turn()
        start = clock()
        try:
            if not self._scheduler.acquire(turn, size):
                return None
            (outcome,) = self._workers.attempt([feeds], size, outputs, call, mine=mine)
            self._scheduler.release(turn, size, clock() - start, 1, "idle")
        except BaseException:
            self._scheduler.give_back(turn)
            raise
        return self._answer(outcome)

    def _run_again(self, feeds: Feeds, outputs: Names, call: Call, failure: Exception) -> Outputs:
        """Run a call that failed alone in parts if that may help; raise its failure if not."""
        if is_interrupt(failure):
            raise failure
        outcome: Outcome = failure
        rows = row_count(feeds)
        if rows > 1 and out_of_memory(failure):
            (outcome,) = self._workers.attempt([feeds], rows, outputs, call)
        return self._answer(outcome)

    def _answer(self, outcome: Outcome) -> Outputs:
        if isinstance(outcome, BaseException):
            self._scheduler.count(failed=1)
            raise outcome
        return outcome

    # Calls of event loops.

    _call = Model._call  # it wants coerced feeds

    @types.coroutine
    def _acall(self, X: Any, outputs: Names, call: Call) -> Generator[Any, None, Outputs]:
        if (
            type(X) is not ndarray
            or X.shape != self._row_shape
            or X.dtype is not self._row_dtype
            or call is not PLAIN
        ):
            return (yield from self._arun(self.signature.coerce(X), outputs, call))
        # One row, of which everything is known but its values: those are checked with the whole
        # batch's.
        tick = self._ticks.get(get_running_loop()) or self._open(get_running_loop())
        batch = tick.batches.get(outputs)
        if batch is None:
            if tick.quiet():
                answer = self._alone(self.signature.coerce(X), 1, outputs, call)
                if answer is not None:
                    return answer
            batch = tick.begin(outputs, outputs)
        rows = batch.calls
        place = len(rows)
        if place >= tick.room:
            raise tick.refuse()
        rows.append(X)
        try:
            yield
        except BaseException:
            tick.drop(batch, place)
            raise
        answers = batch.answers
        if place < len(answers):
            return answers[place]
        return (yield from tick.collect(batch, place))

    @types.coroutine
    def _arun(self, feeds: Feeds, outputs: Names, call: Call) -> Generator[Any, None, Outputs]:
        # What is wrong with these rows is this caller's to know, before others join.
        if self._has_cost and letters_of(feeds) > LETTERS_ON_LOOP:
            feeds, size = yield from to_thread(self._prepared, feeds)
        else:
            feeds, size = self._prepared(feeds)
        tick = self._ticks.get(get_running_loop()) or self._open(get_running_loop())
        request = Request(feeds, size, outputs, call)
        key = (outputs,) if self._static else request.key
        batch = tick.batches.get(key)
        if batch is None:
            if tick.quiet():
                answer = self._alone(feeds, size, outputs, call)
                if answer is not None:
                    return answer
            batch = tick.begin(key, outputs)
        place = len(batch.calls)
        batch.calls.append(request)
        try:
            yield
        except BaseException:
            tick.drop(batch, place)
            raise
        if request.state is DONE and request.waiter is None:
            return request.result()
        return (yield from tick.collect(batch, place))

    def _alone(self, feeds: Feeds, size: int, outputs: Names, call: Call) -> Outputs | None:
        """Run the only call of a loop in its thread; None where that would hold the loop up."""
        if size > self._planner.plan.loop_batch:
            return None
        if self._planner.parallel:
            return self._run(feeds, outputs, call)
        if call.deadline is not None:
            self._check_due(call.deadline)
        return self._run_in_slot(feeds, size, outputs, call, mine=False)

    def _open(self, loop: AbstractEventLoop) -> Tick:
        """Make the Tick of a loop, and forget the Ticks of closed loops."""
        for other in [*self._ticks]:
            if other.is_closed():
                self._ticks.pop(other, None)
        tick = self._ticks[loop] = Tick(loop, self._workers, self.signature, self._prepared)
        return tick

    def __reduce__(self) -> tuple[Any, ...]:
        if self._scheduler.closed:
            raise ClosedError("the batcher was closed and cannot be pickled")
        return self._origin, ()

    def after_fork(self) -> None:
        """Begin again in the child of a fork, where no other thread lives on."""
        self._scheduler.reset()
        self._ticks.clear()
