"""One request too many is told when to come back; health is answered all the same."""

import threading

from helpers.apps import PREDICT, ROW, Gate, summed, wait_for
from helpers.client import Client

import modelkit as mk
from modelkit.serving.metering import requests
from modelkit.types import Limits


def test_one_request_too_many_is_429_and_health_is_answered():
    gate = Gate()
    refused = ("/models/{model}/predict", 429)
    before = requests.totals().requests.get(refused, 0)

    def was_refused():
        return requests.totals().requests.get(refused, 0) > before

    with Client(mk.App({"sum": gate.model}, limits=Limits(requests=3))) as client:
        many = [{"method": "POST", "path": PREDICT, "json": ROW} for _ in range(4)]
        many += [{"method": "GET", "path": f"/v2/health/{what}"} for what in ("ready", "live")]
        opening = threading.Thread(target=lambda: (wait_for(was_refused), gate.open()))
        opening.start()
        answers = client.concurrently(many)
        opening.join()
    statuses = [answer.status for answer in answers]
    assert statuses == [200, 200, 200, 429, 200, 200]
    assert answers[3].headers["retry-after"] == "1"
    assert "3 requests" in answers[3].json()["error"]


def test_the_wait_is_computed_from_what_waits_and_what_a_row_takes():
    from dataclasses import replace

    from modelkit.web.replies import retry_after

    with mk.Batcher(summed(), plan="learn") as batcher:
        plan = replace(batcher.plan, curve=((1, 0.01), (100, 0.5)))
        assert retry_after(0, plan) == b"1"
        assert retry_after(400, plan) == b"2"
        assert retry_after(500, plan) == b"3"
        assert retry_after(10**6, plan) == b"30"
        assert retry_after(10**6, replace(plan, curve=())) == b"1"
    assert retry_after(10**6, None) == b"1"
