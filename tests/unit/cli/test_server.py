"""The server of `modelkit serve`, without a socket: who holds a certificate, and its log."""

import logging
import os

import pytest

from modelkit.cli.server import holder_of, now_and_then


@pytest.mark.parametrize(
    ("certificate", "holder"),
    [
        (None, None),
        ({}, None),
        ({"subject": ((("commonName", "a"),),)}, "a"),
        ({"subject": ((("organizationName", "o"), ("commonName", "a")),)}, "a"),
        ({"subject": ((("commonName", "a"),), (("commonName", "b"),))}, None),
        ({"subjectAltName": (("DNS", "d"), ("URI", "spiffe://x/y"))}, "spiffe://x/y"),
        ({"subjectAltName": (("URI", "u"), ("URI", "v"))}, None),
    ],
)
def test_who_holds_a_certificate(certificate, holder):
    assert holder_of(certificate) == holder


def test_what_clients_cause_is_recorded_now_and_then():
    records = [
        logging.LogRecord(
            "uvicorn.error", logging.WARNING, "", 0, f"clients of {os.getpid()}", (), None
        )
        for _ in range(100)
    ]
    assert [now_and_then(record) for record in records] == [True] + [False] * 99
