"""The Meter: a Model that counts and times what it serves."""

from __future__ import annotations

from time import perf_counter
from typing import Any, final

from modelkit import forks
from modelkit.metering.ledger import Ledger
from modelkit.metering.totals import Totals, outcome_of
from modelkit.model import Call, Model, Outputs
from modelkit.signature import Signature
from modelkit.wrapper import Wrapper


@final
class Meter(Wrapper):
    """A Model that answers as the one it wraps does, and counts and times its calls.

    Every call and row is counted, by what became of it. About one call in 16 is timed, at random,
    and stands for the others; where calls take more than 50 microseconds, all are. A Meter changes
    no answer, raises nothing into a caller, waits for no lock and has no thread.

    Put it outside of a Batcher, which refuses a Meter inside: it would see the runs of the Batcher,
    with padding and retries, and not the calls.

    Args:
        model: the Model to count.
    """

    __slots__ = ("__weakref__", "_by_rows", "_ledger", "signature")

    signature: Signature  # a slot, which is read faster than a property

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.signature = model.signature
        self._by_rows = _rows_come_first(self.signature)
        self._ledger = Ledger()
        forks.watch(self)

    @property
    def unobserved(self) -> Model:
        """The Model that answers without being counted."""
        return self._inner.unobserved

    def totals(self) -> Totals:
        """What was counted until now, in this process."""
        return self._ledger.totals()

    def after_fork(self) -> None:
        """Begin at 0 in the child of a fork: the parent goes on with its own counts."""
        self._ledger.clear()

    def _call(
        self,
        X: object,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Outputs:
        ledger = self._ledger
        weight = next(ledger.weights)
        start = perf_counter() if weight else 0.0
        try:
            answers = self._inner._call(X, outputs, call)
        except BaseException as error:
            ledger.failed.append(outcome_of(error))
            raise
        if weight:
            ledger.note_time(weight, perf_counter() - start)
        ledger.answered.append(len(answers[outputs[0]]) if self._by_rows else self._rows(answers))
        return answers

    async def _acall(
        self,
        X: object,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Outputs:
        ledger = self._ledger
        weight = next(ledger.weights)
        start = perf_counter() if weight else 0.0
        try:
            answers = await self._inner._acall(X, outputs, call)
        except BaseException as error:
            ledger.failed.append(outcome_of(error))
            raise
        if weight:
            ledger.note_time(weight, perf_counter() - start)
        ledger.answered.append(len(answers[outputs[0]]) if self._by_rows else self._rows(answers))
        return answers

    def _rows(self, answers: Outputs) -> int:
        """The number of rows of answers whose rows lie on any axis, or on none."""
        dim = self.signature.row_dim
        for spec in self.signature.outputs:
            if dim is not None and dim in spec.shape and spec.name in answers:
                return int(answers[spec.name].shape[spec.shape.index(dim)])
        return 1

    def __reduce__(self) -> tuple[Any, ...]:
        return Meter, (self._inner,)

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("served", str(self.totals()))]


def _rows_come_first(signature: Signature) -> bool:
    dim = signature.row_dim
    return dim is not None and all(spec.shape[:1] == (dim,) for spec in signature.outputs)
