"""Law 9. An idle process makes no wake-ups; importing has no side effects; nothing leaves the process by itself.

In processes of their own, where nothing else was imported: `tests/slow/test_purity.py`.
"""

import socket
import threading
import time

import pytest


def test_nothing_leaves_the_process_and_no_thread_stays_busy(subject, monkeypatch):
    def refuse(*_):
        pytest.fail("it opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "sendto", refuse)
    subject.model.predict(subject.take(range(3)))
    before = threading.active_count()
    # The runtime's own threads rest after a moment.
    assert min(spent(0.03) for _ in range(5)) < 0.01
    assert threading.active_count() <= before


def spent(seconds):
    """The CPU time of this process while nobody asks."""
    begun = time.process_time()
    time.sleep(seconds)
    return time.process_time() - begun
