"""The Meter: a Model that counts and times what it serves."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, final

from modelkit.metering import book
from modelkit.metering.totals import Totals
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
        self._ledger = book.enter(self)

    @property
    def unobserved(self) -> Model:
        """The Model that answers without being counted."""
        return self._inner.unobserved

    def totals(self) -> Totals:
        """What was counted until now, in this process."""
        return self._ledger.totals()

    def _call(
        self,
        X: object,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Outputs:
        ledger = self._ledger
        try:
            weight = next(ledger.slabs.local.place.weights)
            start = weight and perf_counter_ns()
            answers = self._inner._call(X, outputs, call)
            rows = len(answers[outputs[0]]) if self._by_rows else self._rows(answers)
            ledger.answered(rows, weight, start)
        except BaseException as error:
            ledger.failed(error)
            raise
        return answers

    async def _acall(
        self,
        X: object,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Outputs:
        ledger = self._ledger
        try:
            weight = next(ledger.slabs.local.place.weights)
            start = weight and perf_counter_ns()
            answers = await self._inner._acall(X, outputs, call)
            rows = len(answers[outputs[0]]) if self._by_rows else self._rows(answers)
            ledger.answered(rows, weight, start)
        except BaseException as error:
            ledger.failed(error)
            raise
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
