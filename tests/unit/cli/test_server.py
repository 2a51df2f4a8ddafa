"""The server of `modelkit serve`, without a socket: its log."""

import logging
import os

from modelkit._internal import logs
from modelkit.cli.server import now_and_then


def test_what_clients_cause_is_recorded_now_and_then(monkeypatch):
    monkeypatch.setattr(logs, "EVERY", 3600.0)
    records = [
        logging.LogRecord(
            "uvicorn.error", logging.WARNING, "", 0, f"clients of {os.getpid()}", (), None
        )
        for _ in range(100)
    ]
    assert [now_and_then(record) for record in records] == [True] + [False] * 99
