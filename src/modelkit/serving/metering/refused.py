"""The events of calls that were refused: how many things were wrong, and never with which value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from modelkit.errors import Overloaded, SignatureError
from modelkit.events import Overload, Refusal, emit, wanted
from modelkit.model.identity import identity_of
from modelkit.model.model import Model
from modelkit.signature.signature import Signature

MOST_NAMED = 20  # columns that one event names
# How a problem begins that names a column or an input; the name is written as `repr` does.
PLACE = re.compile(r"""(?:missing )?(?:column|input) ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


def tell_refused(model: Model, error: BaseException) -> None:
    """Emit the event of a call that was refused; other errors have none. Raises nothing."""
    with suppress(Exception):  # of an error that holds something else than ours do
        if isinstance(error, SignatureError) and wanted(Refusal):
            name, version, _ = identity_of(model)
            problems = error.problems
            emit(Refusal(name, version, len(problems), columns_at_fault(problems, model.signature)))
        elif isinstance(error, Overloaded) and wanted(Overload):
            name, version, _ = identity_of(model)
            emit(Overload(name, version, error.queued, error.max_queue))


def columns_at_fault(problems: Sequence[str], signature: Signature) -> tuple[str, ...]:
    """The columns and inputs of a signature that problems with rows begin with, twenty at most.

    Whatever else stands in a problem comes from the rows, names of further columns too.
    """
    matches = map(PLACE.match, problems)
    at_fault = {match[1] for match in matches if match is not None}
    names = [name for name in _names(signature) if repr(name) in at_fault]
    return tuple(names[:MOST_NAMED])


def _names(signature: Signature) -> list[str]:
    names: dict[str, None] = {}  # as an ordered set
    for spec in signature.inputs:
        names |= dict.fromkeys([spec.name, *[column.name for column in spec.columns]])
    return [*names]
