"""By when the explanation that this thread makes has to be there.

Between a method and the model stand libraries that pass nothing on, such as shap and lime: so the
Call of an explanation is found by the thread that makes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from modelkit.errors import DeadlineExceeded
from modelkit.model.call import Call

LATER = Call(priority=-1)  # explanations wait for predictions
_current: ContextVar[Call] = ContextVar("modelkit_explanation", default=LATER)


@contextmanager
def explaining(call: Call) -> Iterator[None]:
    """Ask models by this Call until the block ends."""
    before = _current.set(call)
    try:
        yield
    finally:
        _current.reset(before)


def current_call() -> Call:
    """How the explanation under way asks its model. Raises DeadlineExceeded if its time is over."""
    call = _current.get()
    if call.deadline is not None and monotonic() >= call.deadline:
        raise DeadlineExceeded(
            "the deadline passed before the explanation was there; explain fewer rows, or give it "
            "more time",
            deadline=call.deadline,
        )
    return call
