"""Law 9. An idle process makes no wake-ups; importing has no side effects; nothing leaves the process by itself.

In processes of their own, where nothing else was imported: `tests/slow/test_purity.py`, which also counts wake-ups.
"""

import socket

import pytest


def test_nothing_leaves_the_process(subject, monkeypatch):
    def refuse(*_):
        pytest.fail("it opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "sendto", refuse)
    subject.model.predict(subject.take(range(3)))
