"""Losses that clients send of answers, when these are known to be right or wrong."""

from __future__ import annotations

from typing import Any

from modelkit.errors import Conflict, UsageError
from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.web import json
from modelkit.web.query import Limits, check_known, check_rows
from modelkit.web.replies import Refused, Reply

NO_POLICY = (
    "outcomes decide a rollout, so serve it in a mk.Guarded whose policy says who may send them"
)
FIELDS = ("key", "loss")


def take(name: str, rollout: Rollout | None, body: bytes, limits: Limits) -> Reply:
    """Count the losses in a body: `{"key": text, "loss": number}`, or a list of them as `outcomes`.

    The answer says how many count, or will where another process has answered the key. All of them
    are checked before the first one counts.

    Raises:
        Refused: 400 for another body; 404 for a model that is not a Rollout; 409 where none is
            under way that watches losses; 413 for more than `limits.rows`; 422 for a loss beyond 0
            to 1.
    """
    if rollout is None:
        raise Refused(f"{name!r} is not a Rollout: nothing is compared, so no loss counts", 404)
    losses = _read(body, limits)
    if not rollout.under_way:
        raise Refused(
            f"no rollout of {name!r} is under way here, so no loss counts. Where one has begun just "
            "now, this process is still opening its candidate: send them again",
            409,
        )
    try:
        counted = sum(rollout.outcome(key, loss) for key, loss in losses)
    except (Conflict, UsageError) as error:
        raise Refused(str(error), 409) from None
    answer = {"model_name": name, "counted": counted, "left_out": len(losses) - counted}
    return Reply(json.dump(answer))


def _read(body: bytes, limits: Limits) -> list[tuple[str, float]]:
    """The keys and losses of a body. Raises Refused."""
    request = json.parse_object(body)
    if "outcomes" not in request:
        json.check_keys(body, len(request))
        return [_outcome(request, "the outcome")]
    check_known(request, ("outcomes",), "a request with several outcomes")
    outcomes = request["outcomes"]
    if type(outcomes) is not list:
        raise Refused(f'outcomes are {json.shown(outcomes)}; they are a list of {{"key", "loss"}}')
    check_rows(len(outcomes), limits)
    found = [_outcome(each, f"outcome {at}") for at, each in enumerate(outcomes)]
    json.check_keys(body, len(request) + len(FIELDS) * len(outcomes))
    return found


def _outcome(given: Any, what: str) -> tuple[str, float]:
    """One key and its loss. Raises Refused."""
    if type(given) is not dict:
        raise Refused(f'{what} is {json.shown(given)}; send an object {{"key", "loss"}}')
    check_known(given, FIELDS, what)
    key = given.get("key")
    loss: Any = given.get("loss")
    if type(key) is not str:
        raise Refused(f"the key of {what} is {json.shown(key)}; send a string")
    if type(loss) not in (int, float):
        raise Refused(f"the loss of {what} is {json.shown(loss)}; send a number from 0 to 1")
    if not 0 <= loss <= 1:
        raise Refused(
            f"the loss of {what} is {loss!r:.40}; send 0 (right) to 1: divide by the largest, "
            "or clip it",
            422,
        )
    return key, float(loss)
