"""What somebody may do to a Rollout from outside: bodies of outcomes that are refused whole, and names that stay text."""

from __future__ import annotations

import pytest
from helpers.client import Client
from helpers.rollouts import model, who

import modelkit as mk

LOSS = (mk.Guard("loss", margin=0.02),)


def test_hostile_names_stay_text():
    name = "<script>alert(1)</script>"
    guards = [mk.Guard(name, mark=lambda outputs: True)]
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards, tick=1e-9)
    )
    for _ in range(3):
        who(rollout)
        rollout.status()
    page = rollout.status().to_html()
    assert "<script" not in page
    assert "&lt;script" in page


@pytest.mark.parametrize(
    "body",
    [
        b'{"key": "k", "loss": 1e400}',
        b'{"key": "k", "loss": ' + b"1" * 5000 + b"}",
        b'{"key": "\\ud800", "loss": 0}',
        b'{"outcomes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"outcomes": null}',
        b'{"outcomes": [[]]}',
        b'{"outcomes": [{"key": "k", "loss": 0, "key": "l"}]}',
        b'{"KEY": "k", "loss": 0}',
        b"null",
        b"",
        b"\xff\xfe",
    ],
)
def test_hostile_bodies_are_refused_whole(body):
    rollout = mk.Rollout(model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), LOSS))
    notes = rollout.status().notes
    with Client(mk.App({"m": rollout})) as client:
        headers = {"content-type": "application/json"}
        answer = client.request("POST", "/models/m/outcome", body=body, headers=headers)
    assert answer.status == 400
    assert rollout.status().notes == notes
