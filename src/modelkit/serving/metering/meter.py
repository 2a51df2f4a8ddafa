"""The Meter: a Model that counts and times what it serves."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, final

from modelkit.errors import Overloaded, SignatureError, UsageError
from modelkit.events import Overload, Refusal, emit, wanted
from modelkit.model.identity import identity_of
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import Wrapper, check_is_model, has_several_versions, layer_of
from modelkit.serving.guarded import check_outside
from modelkit.serving.metering import book, requests
from modelkit.serving.metering.totals import MORE_ROWS, OK, MeterTotals, answered_rows
from modelkit.signature.signature import Signature

if TYPE_CHECKING:
    from modelkit.serving.metering.folder import SharedFolder

VARIABLE = "MODELKIT_METRICS_DIR"
MOST_NAMED = 20  # columns that one event names
# How a problem begins that names a column or an input; the name is written as `repr` does.
PROBLEM = re.compile(r"""(?:missing )?(?:column|input) ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


@final
class Meter(Wrapper):
    """A Model that answers as the one it wraps does, and counts and times its calls.

        metered = mk.Meter(model)
        metered.predict(X)
        metered.totals().calls  # {"ok": 1, ...}

    Every call and row is counted, by what became of it. About one call in 16 is timed, at random,
    and stands for the others; where calls take more than 50 microseconds, all are. A Meter changes
    no answer, raises nothing into a caller, waits for no lock and starts no thread.

    Counts belong to the name, version and digest of the package: a second Meter around a Model of
    the same package goes on counting. A Model without a package has counts of its own.

    Put it outside of a Batcher, which refuses a Meter inside: it would see the runs of the Batcher,
    with padding and retries, and not the calls.

    Args:
        model: the Model to count.
        shared: a folder in which all processes of a server count together; None for the one that
            the environment variable `MODELKIT_METRICS_DIR` names, or for this process alone. It
            must exist and hold nothing else. The HTTP requests of Apps are counted in the folder
            of the first Meter that has one.
        spans: whether a call opens an OpenTelemetry span below the current one, if that is
            recorded. It holds the name, version, rows and outcome, and no values.

    Raises:
        UsageError: if `model` has a Meter already, or a Guarded, or is a Rollout; or `shared` cannot be used.
        MissingExtraError: if `spans` is asked for and opentelemetry is not installed.
    """

    __slots__ = ("__weakref__", "_again", "_answering", "_by_rows", "_ledger", "signature")

    signature: Signature  # a slot, which is read faster than a property

    def __init__(
        self, model: Model, *, shared: str | os.PathLike[str] | None = None, spans: bool = False
    ) -> None:
        check_is_model(model, "a Meter")
        check_outside(model, "Meter")
        if layer_of(model, Meter) is not None:
            raise UsageError(
                "the model has a Meter already, and another one would count each call twice"
            )
        if has_several_versions(model):  # whose calls would all count for one of them
            raise UsageError(
                "a Meter counts one version, and a Rollout has several: put one into each, as by "
                "Rollout(registry, name, wrap=mk.Meter)"
            )
        super().__init__(model)
        self.signature = model.signature
        self._by_rows = _rows_come_first(self.signature)
        self._again = partial(Meter, shared=shared, spans=spans)
        self._answering = model
        if spans:
            from modelkit.serving.metering.spans import Spanned

            self._answering = Spanned(model)
        folder = _folder(shared or os.environ.get(VARIABLE))
        self._ledger = book.enter(self, folder)
        if folder is not None:
            requests.count_in(folder)

    @property
    def unobserved(self) -> Model:
        """The Model that answers without being counted."""
        return self._inner.unobserved

    def totals(self) -> MeterTotals:
        """What was counted until now: by this process, or by all that share the folder.

        Raises UsageError where the folder cannot be read.
        """
        return self._ledger.totals()

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        place = self._ledger.local.place
        try:
            timed = next(place.pattern)
            start = perf_counter_ns() if timed else 0
            answers = self._answering._call(X, outputs, call)
            rows = (
                len(answers[outputs[0]])
                if self._by_rows
                else answered_rows(self.signature, answers)
            )
            # As Place.answered, written out: a call of it costs as much as all of this.
            if timed:
                place.add_time(perf_counter_ns() - start, timed)
            slab = place.slab
            if rows != 1:
                slab[MORE_ROWS] += rows - 1
            slab[OK] += 1
        except BaseException as error:
            place.failed(error)
            tell_refused(self, error)
            raise
        return answers

    async def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        ledger = self._ledger
        try:
            timed = next(ledger.local.place.pattern)
            start = perf_counter_ns() if timed else 0
            answers = await self._answering._acall(X, outputs, call)
            rows = (
                len(answers[outputs[0]])
                if self._by_rows
                else answered_rows(self.signature, answers)
            )
            ledger.local.place.answered(rows, timed, start)  # another thread may have gone on
        except BaseException as error:
            ledger.local.place.failed(error)
            tell_refused(self, error)
            raise
        return answers

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, (self._inner,)

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("served", str(self.totals()))]


def _rows_come_first(signature: Signature) -> bool:
    dim = signature.row_dim
    return dim is not None and all(spec.shape[:1] == (dim,) for spec in signature.outputs)


def _folder(shared: str | os.PathLike[str] | None) -> SharedFolder | None:
    if not shared:
        return None
    try:
        from modelkit.serving.metering.folder import shared_folder
    except ImportError as error:
        raise UsageError(
            "counts of several processes need locks on files, as Linux and macOS have them; count "
            f"without shared= and {VARIABLE} here"
        ) from error
    return shared_folder(shared)


def tell_refused(model: Model, error: BaseException) -> None:
    """Emit the event of a call that was refused; other errors have none. Raises nothing."""
    with suppress(Exception):  # of an error that holds something else than ours do
        named = identity_of(model)[:2]
        if isinstance(error, SignatureError) and wanted(Refusal):
            problems = error.problems
            emit(Refusal(*named, len(problems), columns_at_fault(problems, model.signature)))
        elif isinstance(error, Overloaded) and wanted(Overload):
            emit(Overload(*named, error.queued, error.max_queue))


def columns_at_fault(problems: Sequence[str], signature: Signature) -> tuple[str, ...]:
    """The columns and inputs of a signature that problems with rows begin with, twenty at most.

    Whatever else stands in a problem comes from the rows, names of further columns too.
    """
    matches = map(PROBLEM.match, problems)
    at_fault = {match[1] for match in matches if match is not None}
    names: dict[str, None] = {}  # as an ordered set
    for spec in signature.inputs:
        names |= dict.fromkeys([spec.name, *[column.name for column in spec.columns]])
    return tuple([name for name in names if repr(name) in at_fault][:MOST_NAMED])
