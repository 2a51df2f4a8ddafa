"""The Batcher: a Model that gathers the concurrent calls of threads and event loops into batches."""

from __future__ import annotations

import types
from asyncio import AbstractEventLoop, get_running_loop, to_thread
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import Any, Literal, NoReturn, final

import numpy as np
from numpy import ndarray

from modelkit.batching.interrupts import is_interrupt
from modelkit.batching.isolation import Outcome, out_of_memory, own
from modelkit.batching.lane import Lane, clock
from modelkit.batching.measure import check_stable, golden_feeds, measure
from modelkit.batching.policy import Curve, Plan, make_plan, stable_size, straighten
from modelkit.batching.requests import Key, Request, Turn
from modelkit.batching.stats import Stats
from modelkit.batching.ticks import Tick
from modelkit.cast import Array
from modelkit.errors import BatchError, ClosedError, DeadlineExceeded, OutputCountError
from modelkit.forks import watch
from modelkit.model import PLAIN, Call, Model, Outputs, make_call, primary_of
from modelkit.signature import Feeds, Signature
from modelkit.wrapper import Wrapper

QUEUE = 8192
LETTERS = (
    1 << 13
)  # of the texts of a call; what more of them cost is found out beside the event loop
SAMPLE = 63  # of the calls that run at once on their thread, those are timed whose number ends in six zero bits


@final
class Batcher(Wrapper):
    """Gathers concurrent calls to a Model into batches; safe to call from any thread and any event loop.

    Batches form from what waits while a run is under way; nothing waits for a timer, and a lone
    call runs at once. How much is gathered follows from what runs take, see `plan`.

    Args:
        model: the Model to run. Its inputs and outputs must all lead with one named dimension, and
            its rows must have been shown not to depend on their batch.
        max_rows: the largest batch there may be, in rows, or in the cost that the model declares. A
            call that is larger runs in parts; but whole, on its caller's thread, where the plan
            says "parallel direct".
        max_queue: how much of priority 0 may wait, in the same unit; by default 8,192 rows, or
            65,536 of the declared cost. What is of priority -1 takes no room from it, and is
            admitted while all that waits is less than this.
        on_full: what becomes of a call that finds the queue full: "reject" raises Overloaded,
            "block" waits.
        stable_shapes: run every batch in one shape, so that a row's answer has the same bits
            whatever it is batched with. Costs as much as a full batch each time.
        loop: whether an event loop runs by itself what is done sooner than a thread would be woken.
            That is a forecast: False for a model that now and then takes long, so that no event
            loop ever waits for it.
        plan: "measure" to time the golden rows of the package first, for up to a second; "learn" to
            begin without and learn from the calls; or the `plan` of another Batcher.

    Raises:
        BatchError: if the model's rows cannot be batched, with the reason.
    """

    __slots__ = (
        "__weakref__",
        "_costs",
        "_direct",
        "_direct_seen",
        "_first",
        "_lane",
        "_origin",
        "_row_dtype",
        "_row_shape",
        "_run_direct",
        "_shape",
        "_static",
        "_ticks",
        "signature",
    )

    signature: Signature  # a slot, which is read faster than a property

    def __init__(  # noqa: PLR0913 - all but one by keyword
        self,
        model: Model,
        *,
        max_rows: int = 1024,
        max_queue: int | None = None,
        on_full: Literal["reject", "block"] = "reject",
        stable_shapes: bool = False,
        loop: bool = True,
        plan: Plan | Literal["measure", "learn"] = "measure",
    ) -> None:
        _check_batchable(model)
        self._costs = _costs_of(model)
        if max_queue is None:
            max_queue = QUEUE if self._costs is None else 8 * QUEUE
        for name, value in (("max_rows", max_rows), ("max_queue", max_queue)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if on_full not in ("reject", "block"):
            raise ValueError(f'on_full is "reject" or "block", got {on_full!r}')
        if not isinstance(plan, Plan) and plan not in ("measure", "learn"):
            raise ValueError(f'plan is "measure", "learn" or a Plan, got {plan!r}')
        rows = golden_feeds(model)
        super().__init__(model)
        self._origin = partial(
            Batcher,
            model,
            max_rows=max_rows,
            max_queue=max_queue,
            on_full=on_full,
            stable_shapes=stable_shapes,
            loop=loop,
            plan=plan,
        )
        self.signature = model.signature
        self._first = self.signature.inputs[0].name
        self._static = all(
            isinstance(size, int) for spec in self.signature.inputs for size in spec.shape[1:]
        )
        block = None if self._costs is not None else self.signature.block
        self._row_shape = None if block is None else (1, *block[1])
        self._row_dtype = None if block is None else block[2].target
        self._shape = 0
        self._ticks: dict[AbstractEventLoop, Tick] = {}
        self._direct, self._direct_seen = count(1), 0
        if not isinstance(plan, Plan):
            measured: tuple[Curve, bool | None] = ((), None)
            if plan == "measure" and rows is not None:
                measured = measure(self._execute, self.signature, rows, max_rows, self._costs)
            curve = measured[0] if self._costs is None else straighten(measured[0])
            plan = make_plan(curve, model.runs_at_once, max_rows, bit_identical=measured[1])
        elif max(plan.cap, plan.piece) > max_rows:
            plan = make_plan(plan.curve, plan.slots, max_rows, bit_identical=plan.bit_identical)
        if stable_shapes:
            plan, self._shape = stable_size(plan, max_rows)
            check_stable(self._execute, self.signature, rows, self._shape)
        self._run_direct = self._run_padded if self._shape else self._counted
        self._lane = Lane(
            self._execute,
            plan,
            self._shape or max_rows,
            max_queue,
            block=on_full == "block",
            declared=self._costs is not None,
            loop=loop,
        )
        watch(self)

    @property
    def plan(self) -> Plan:
        """How calls are batched at present, and why; it changes as runs are timed."""
        return self._lane.plan

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("batching", str(self.plan))]

    def stats(self) -> Stats:
        """What was done so far, as a value."""
        lane = self._lane
        with lane.lock:
            self._direct_seen += 1
            refused = sum(tick.refused for tick in [*self._ticks.values()])
            return lane.tally.stats(next(self._direct) - self._direct_seen, refused, lane.queue)

    def submit(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Future[Array]:
        """As `predict`, but returns a Future of the answer at once; a Future that has not begun can be cancelled.

        Raises:
            SignatureError: if the rows do not fit the signature.
            Overloaded: if the queue is full; with `on_full="block"` it waits for room instead.
            ClosedError: if the batcher was closed.
        """
        signature, call = self.signature, make_call(deadline, priority, key)
        name = primary_of(signature)
        feeds = {
            name: feed.copy() for name, feed in signature.coerce(X).items()
        }  # the caller may write into X by then
        future: Future[Array] = Future()
        if self._lane.parallel:
            try:
                future.set_result(self._run(feeds, (name,), call)[name])
            except BaseException as error:
                if is_interrupt(error):
                    raise
                future.set_exception(own(error))
            return future
        return self._submit(feeds, name, call, future)

    def close(self) -> None:
        """Refuse new calls, and return when all that were queued are answered.

        A large call under way raises ClosedError after the piece that is run. Calls that run at
        once, on the threads of their callers, are not waited for.
        """
        self._lane.close()

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        lane = self._lane
        if call.deadline is not None and call.deadline <= clock():
            self._raise_late(call)
        if lane.parallel:
            try:
                if next(self._direct) & SAMPLE:
                    return self._run_direct(feeds, outputs, call)
                start = clock()
                answer = self._run_direct(feeds, outputs, call)
            except Exception as error:  # noqa: BLE001 - raised again where it cannot be helped
                return self._run_again(feeds, outputs, error)
            self._sample(feeds, clock() - start)
            return answer
        size = len(feeds[self._first]) if self._costs is None else self._costs(feeds)
        if size <= lane.plan.piece:
            outcome = self._run_held(feeds, outputs, max(1, size), mine=True)
            if outcome is not None:
                return outcome
        answers: list[Outputs] = []
        for piece in self._pieces(feeds):
            answers.append(lane.call(self._request(piece, outputs, call), admitted=bool(answers)))
        return _joined(answers)

    def _raise_late(self, call: Call) -> NoReturn:
        with self._lane.lock:
            self._lane.tally.expired += 1
        raise DeadlineExceeded(
            "the deadline passed before the rows were run", deadline=call.deadline
        )

    def _run_held(
        self, feeds: Feeds, outputs: tuple[str, ...], size: int, *, mine: bool
    ) -> Outputs | None:
        """Run one call if a slot is free and nobody waits for it; None otherwise."""
        lane, turn, start = self._lane, Turn(), clock()
        try:
            if not lane.hold(turn, size):
                return None
            (outcome,) = lane.attempt([feeds], size, outputs, mine=mine)
            lane.let_go(turn, clock() - start, 1, "idle")
        except BaseException:
            lane.give_back(turn)
            raise
        if isinstance(outcome, BaseException):
            with lane.lock:
                lane.tally.failed += 1
            raise outcome
        return outcome

    def _run_again(self, feeds: Feeds, outputs: tuple[str, ...], failure: Exception) -> Outputs:
        """A call that failed alone, in parts if that may help; raises its failure if not."""
        if is_interrupt(failure):
            raise failure
        outcome: Outcome = failure
        rows = len(feeds[self._first])
        if out_of_memory(failure) and rows > 1:
            (outcome,) = self._lane.attempt([feeds], rows, outputs)
        if isinstance(outcome, BaseException):
            with self._lane.lock:
                self._lane.tally.failed += 1
            raise outcome
        return outcome

    def _sample(self, feeds: Feeds, seconds: float) -> None:
        lane = self._lane
        if lane.lock.locked():  # many threads queueing for a lock would cost what they came to save
            return
        with lane.lock:
            lane.tally.answered(seconds)
            if len(feeds[self._first]) == 1:
                lane.observe(1 if self._costs is None else self._costs(feeds), seconds)

    def _request(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Request:
        size = len(feeds[self._first]) if self._costs is None else self._costs(feeds)
        return Request(feeds, outputs, size, call.deadline, low=call.priority < 0)

    def _pieces(self, feeds: Feeds) -> Iterator[Feeds]:
        """The rows of a call in pieces of at most one batch, or of many milliseconds while nobody else waits."""
        rows = len(feeds[self._first])
        size = rows if self._costs is None else self._costs(feeds)
        start = 0
        while True:
            lane = self._lane
            limit = lane.plan.cap if lane.queue.waiting else lane.plan.piece
            stop = (
                rows
                if size * (rows - start) <= limit * rows
                else start + max(1, limit * rows // size)
            )
            if stop - start == rows:
                yield feeds
            else:
                yield {name: feed[start:stop] for name, feed in feeds.items()}
            start = stop
            if start >= rows:
                return

    def _submit(self, feeds: Feeds, name: str, call: Call, future: Future[Array]) -> Future[Array]:
        pieces = [*self._pieces(feeds)]
        answers: list[Array] = []

        def submit(piece: Feeds) -> Future[Array]:
            request = self._request(piece, (name,), call)
            request.pick = name
            request.waiter = waiter = future if len(pieces) == 1 else Future[Array]()
            self._lane.submit(request, admitted=bool(answers))
            return waiter

        def go_on(done: Future[Array]) -> None:
            try:
                answers.append(done.result())
                if len(answers) == len(pieces):
                    future.set_result(np.concatenate(answers))
                else:
                    submit(pieces[len(answers)]).add_done_callback(go_on)
            except BaseException as error:  # noqa: BLE001 - raised by the Future
                future.set_exception(error)

        if len(pieces) > 1:
            future.set_running_or_notify_cancel()
            submit(pieces[0]).add_done_callback(go_on)
            return future
        return submit(feeds)

    _call = Model._call  # it wants coerced feeds

    @types.coroutine
    def _acall(self, X: Any, outputs: tuple[str, ...], call: Call) -> Generator[Any, None, Outputs]:
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
        batch = tick.rows.get(outputs)
        if batch is None:
            if tick.quiet():
                answer = self._alone(self.signature.coerce(X), outputs, call)
                if answer is not None:
                    return answer
            batch = tick.begin(tick.rows, outputs, outputs)
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
        answer = yield from tick.collect(batch, place)
        if answer is None:
            answer = yield from self._aqueue(tick, self.signature.coerce(X), outputs, call)
        return answer

    @types.coroutine
    def _arun(
        self, feeds: Feeds, outputs: tuple[str, ...], call: Call
    ) -> Generator[Any, None, Outputs]:
        if (
            self._costs is not None
        ):  # what is wrong with these rows is this caller's to know, before others join
            if _letters(feeds) > LETTERS:
                yield from to_thread(self._costs, feeds)
            else:
                self._costs(feeds)
        tick = self._ticks.get(get_running_loop()) or self._open(get_running_loop())
        key: Key = (
            outputs if self._static else (outputs, *[feed.shape[1:] for feed in feeds.values()])
        )
        batch = tick.calls.get(key)
        if batch is None:
            if tick.quiet():
                answer = self._alone(feeds, outputs, call)
                if answer is not None:
                    return answer
            batch = tick.begin(tick.calls, key, outputs)
        place = len(batch.calls)
        batch.calls.append(feeds)
        if call is not PLAIN:
            batch.special[place] = call
        try:
            yield
        except BaseException:
            tick.drop(batch, place)
            raise
        answer = yield from tick.collect(batch, place)
        return (yield from self._aqueue(tick, feeds, outputs, call)) if answer is None else answer

    def _aqueue(
        self, tick: Tick, feeds: Feeds, outputs: tuple[str, ...], call: Call
    ) -> Generator[Any, None, Outputs]:
        """As `_queue`, from an event loop."""
        answers: list[Outputs] = []
        for piece in self._pieces(feeds):
            request = tick.request(piece, outputs, call)
            refused = self._lane.enqueue([request], admitted=bool(answers))
            if refused:
                raise refused[0].error or AssertionError("refused without a reason")
            answers.append((yield from tick.wait(request)))
        return _joined(answers)

    def _alone(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs | None:
        """Run the only call of an event loop in its thread; None where that would hold the loop up."""
        lane = self._lane
        size = len(feeds[self._first]) if self._costs is None else self._costs(feeds)
        if size > max(1, lane.plan.loop_batch):
            return None
        if lane.parallel:
            return self._run(feeds, outputs, call)
        if call.deadline is not None and call.deadline <= clock():
            self._raise_late(call)
        return self._run_held(feeds, outputs, max(1, size), mine=False)

    def _open(self, loop: AbstractEventLoop) -> Tick:
        for other in [*self._ticks]:
            if other.is_closed():
                gone = self._ticks.pop(other, None)
                with self._lane.lock:
                    self._lane.tally.shed += 0 if gone is None else gone.refused
        tick = self._ticks[loop] = Tick(loop, self._lane, self.signature, self._costs)
        return tick

    def _execute(self, feeds: Feeds, outputs: tuple[str, ...]) -> Outputs:
        """Run the model; what it answers is as many rows as it was given, or OutputCountError is raised."""
        if self._shape:
            return self._run_padded(feeds, outputs, PLAIN)
        return self._counted(feeds, outputs, PLAIN)

    def _counted(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        rows = len(feeds[self._first])
        answers = self._inner._run(feeds, outputs, call)
        for name, array in answers.items():
            if len(array) != rows:
                raise _miscounted(name, len(array), rows)
        return answers

    def _run_padded(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        """Run the model in batches of one size, filled up with a row of the caller's own."""
        rows, answers = len(feeds[self._first]), []
        if rows == 0:
            return self._inner._run(feeds, outputs, PLAIN)
        for start in range(0, rows, self._shape):
            take = np.minimum(np.arange(start, start + self._shape), rows - 1)
            part = self._inner._run(
                {name: feed[take] for name, feed in feeds.items()}, outputs, PLAIN
            )
            for name, array in part.items():
                if len(array) != self._shape:
                    raise _miscounted(name, len(array), self._shape)
            answers.append({name: array[: rows - start] for name, array in part.items()})
        return _joined(answers)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._lane.closed:
            raise ClosedError("the batcher was closed and cannot be pickled")
        return self._origin, ()

    def after_fork(self) -> None:
        """Begin anew in the child of a fork, where no other thread lives on."""
        self._lane.reset()
        self._ticks.clear()


def _letters(feeds: Feeds) -> int:
    return sum(len(text) for feed in feeds.values() if feed.dtype == object for text in feed.flat)


def _costs_of(model: Model) -> Callable[[Feeds], int] | None:
    """What tells the cost of rows; None where the innermost model declares none."""
    if type(model.base)._cost is Model._cost:
        return None
    declared = model._cost
    return lambda feeds: declared(feeds) or 0


def _joined(answers: list[Outputs]) -> Outputs:
    if len(answers) == 1:
        return answers[0]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _miscounted(name: str, got: int, expected: int) -> OutputCountError:
    return OutputCountError(
        f"the model gave {got} rows of {name!r} for {expected} rows of input",
        expected=expected,
        got=got,
    )


def _check_batchable(model: Model) -> None:
    """Raise BatchError where rows of one batch could disturb each other, or cannot be told apart."""
    signature = model.signature
    if signature.batch is None:
        raise BatchError(
            "only tensors that all lead with one named dimension can be batched, and this "
            f"model's do not: {signature}",
            model=model,
        )
    if model.unobserved is not model:
        raise BatchError(
            "a Monitor inside a Batcher would see padding and retries; put it outside: "
            "Monitor(Batcher(model))",
            model=model,
        )
    if not model.batchable:
        raise BatchError(
            f"cannot batch {model!r}, whose rows may depend on their batch: "
            f"{model._why_not_batchable()}",
            model=model,
        )
