"""The steps of code that run: a function that takes another path for other rows shows by them."""

from __future__ import annotations

import sys
import types
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any

from modelkit.errors import ConversionError

WATCHING = RLock()  # `sys.monitoring` has few tools

if sys.version_info >= (3, 12):
    # From 3.12 on, `sys.settrace` leaves out steps of code that it has not seen before, or all of them.
    @contextmanager
    def watched(codes: Collection[Any]) -> Iterator[set[tuple[Any, int]]]:
        """The steps of codes that run here, in this thread. Raises ConversionError where no tool is free."""
        ran: set[tuple[Any, int]] = set()
        here = get_ident()
        monitoring = sys.monitoring
        start, step = monitoring.events.PY_START, monitoring.events.INSTRUCTION

        def at_start(code: types.CodeType, _: int) -> None:
            if code in codes:
                monitoring.set_local_events(tool, code, step)

        def at_step(code: types.CodeType, place: int) -> None:
            if get_ident() == here:
                ran.add((code, place))

        with WATCHING:
            tools = [monitoring.get_tool(tool) for tool in range(6)]
            if None not in tools:
                raise ConversionError(
                    "the steps of your functions are watched by sys.monitoring, which takes six tools, and "
                    f"{', '.join(map(str, tools))} are in use: end one of them, such as a profiler"
                )
            tool = tools.index(None)
            monitoring.use_tool_id(tool, "modelkit")
            try:
                monitoring.register_callback(tool, start, at_start)
                monitoring.register_callback(tool, step, at_step)
                monitoring.set_events(tool, start)
                yield ran
            finally:
                monitoring.set_events(tool, 0)
                for code in codes:
                    monitoring.set_local_events(tool, code, 0)
                monitoring.register_callback(tool, start, None)
                monitoring.register_callback(tool, step, None)
                monitoring.free_tool_id(tool)

else:

    @contextmanager
    def watched(codes: Collection[Any]) -> Iterator[set[tuple[Any, int]]]:
        """The steps of codes that run here."""
        ran: set[tuple[Any, int]] = set()

        def at_step(frame: Any, event: str, _: Any) -> Any:
            if event == "opcode":
                ran.add((frame.f_code, frame.f_lasti))
            return at_step

        def at_call(frame: Any, *_: Any) -> Any:
            if frame.f_code not in codes:
                return None
            frame.f_trace_opcodes = True
            return at_step

        before = sys.gettrace()
        sys.settrace(at_call)
        try:
            yield ran
        finally:
            sys.settrace(before)
