"""Spans of OpenTelemetry around the calls of a Meter: this alone imports it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from modelkit.errors import importing
from modelkit.model.identity import identity_of
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import Wrapper
from modelkit.serving.metering.totals import answered_rows, outcome_of


@final
class Spanned(Wrapper):
    """A Model whose calls are spans below the current span, if that is recorded.

    The message of an error may hold values of rows, so a span has its outcome only.

    Args:
        model: the Model that answers.
    """

    __slots__ = ("_current", "_failed", "_named", "_tracer")

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        with importing("opentelemetry-api", "Meter(spans=True)", "otel"):
            from opentelemetry import trace
        self._current = trace.get_current_span
        self._tracer = trace.get_tracer("modelkit")
        self._failed = trace.StatusCode.ERROR
        name, version, _ = identity_of(model)
        self._named = {"modelkit.model": name, "modelkit.version": version}

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        if not self._current().is_recording():
            return self._inner._call(X, outputs, call)
        with self._span() as span:
            return self._answered(span, self._inner._call(X, outputs, call))

    async def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        if not self._current().is_recording():
            return await self._inner._acall(X, outputs, call)
        with self._span() as span:
            return self._answered(span, await self._inner._acall(X, outputs, call))

    def _answered(self, span: Any, answers: Outputs) -> Outputs:
        span.set_attribute("modelkit.rows", answered_rows(self._inner.signature, answers))
        span.set_attribute("modelkit.outcome", "ok")
        return answers

    @contextmanager
    def _span(self) -> Iterator[Any]:
        """A span that has the outcome of what fails within it."""
        with self._tracer.start_as_current_span(
            "modelkit.call",
            attributes=self._named,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("modelkit.outcome", outcome_of(error))
                span.set_status(self._failed)
                raise
