"""What answers now: calls end where they began, and what was replaced is drained by its last call."""

from __future__ import annotations

import asyncio
import sys
import threading

from modelkit.model.activation import Active


class Thing:
    def __init__(self, number):
        self.number = number
        self.open = True

    def answer(self):
        was_open = self.open
        number = self.number
        return was_open and self.open, number


def ask(active):
    activation = active.now
    try:
        return activation.value.answer()
    finally:
        activation = None


def test_what_nobody_uses_is_drained_at_once():
    active = Active(Thing(0))
    draining = active.replace(Thing(1))
    assert draining.drained
    assert draining.wait(0)
    assert (draining.generation, active.now.generation, active.now.value.number) == (0, 1, 1)


def test_a_call_in_flight_keeps_what_it_began_with():
    active = Active(Thing(0))
    held = active.now
    draining = active.replace(Thing(1))
    assert not draining.drained
    assert not draining.wait(0)
    assert held.value.number == 0
    del held
    assert draining.wait(0)
    assert draining.wait(0)  # it may be asked again


def test_a_coroutine_holds_it_across_its_awaits():
    async def main():
        active = Active(Thing(0))
        go_on = asyncio.Event()

        async def call():
            activation = active.now
            try:
                await go_on.wait()
                return activation.value.answer()
            finally:
                activation = None

        tasks = [asyncio.create_task(call()) for _ in range(1000)]
        await asyncio.sleep(0)
        draining = active.replace(Thing(1))
        assert not draining.drained
        go_on.set()
        answers = await asyncio.gather(*tasks)
        assert set(answers) == {(True, 0)}
        assert draining.drained

    asyncio.run(main())


def test_a_failing_call_lets_go_although_its_traceback_is_kept():
    active = Active(Thing(0))

    def fail():
        activation = active.now
        try:
            return 1 // activation.generation
        finally:
            activation = None

    kept = None
    try:
        fail()
    except ZeroDivisionError as error:
        kept = error
    draining = active.replace(Thing(1))
    assert draining.drained
    assert kept.__traceback__ is not None


def test_no_call_meets_what_was_closed_after_it_drained():
    """Eight threads call while another replaces and closes; the interpreter switches threads as often as it can."""
    active = Active(Thing(0))
    wrong = []
    stop = threading.Event()

    def work():
        while not stop.is_set():
            whole, number = ask(active)
            if not whole:
                wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for number in range(1, 200):
            before = active.now.value
            draining = active.replace(Thing(number))
            assert draining.wait(30)
            before.open = False
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
