"""Who asks: tokens and keys, headers that come twice, and what happens before somebody is known."""

import asyncio
import hashlib
import json

import pytest
from helpers.apps import PREDICT, ROW, summed
from helpers.client import Client

import modelkit as mk
from modelkit import events

TOKEN = "a long secret"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
BEARER = {"authorization": f"Bearer {TOKEN}"}


HEALTH_PATHS = ["/v2/health/live", "/v2/health/ready"]
LOOKS = ["/v2", *HEALTH_PATHS, "/v2/models", "/v2/models/sum", "/v2/models/sum/ready", "/"]


def test_tokens_know_callers_by_digests_as_bearer_or_key():
    auth = mk.bearer_tokens(
        DIGEST, {"alice": hashlib.sha256(b"hers").hexdigest(), "bob": "sha256:" + "0" * 64}
    )
    assert auth({"authorization": f"Bearer {TOKEN}"}) == f"sha256:{DIGEST[:8]}"
    assert auth({"authorization": "bearer hers"}) == "alice"
    assert auth({"x-api-key": "hers"}) == "alice"
    assert auth({}) is None
    assert auth({"authorization": "Basic hers"}) is None
    for key in ("", "Hers", "\udc80\u00e9"):
        assert auth({"x-api-key": key}) is None


@pytest.mark.parametrize("wrong", [(), (TOKEN,), ("0" * 63,), ({"alice": "hers"},), (7,), ({},)])
def test_tokens_take_digests_only_and_repeat_no_secret(wrong):
    with pytest.raises(ValueError, match="sha256") as info:
        mk.bearer_tokens(*wrong)
    assert TOKEN not in str(info.value)


def test_every_digest_is_compared_whatever_is_found(monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append(a) or a == b)
    auth = mk.bearer_tokens(*(hashlib.sha256(bytes([n])).hexdigest() for n in range(5)))
    auth({"x-api-key": "\0"})
    auth({"x-api-key": "none"})
    assert len(compared) == 10


def test_nobody_is_asked_before_the_body_is_read():
    def parts():
        raise AssertionError("the body was read")
        yield

    with Client(mk.App({"sum": summed()}, auth=mk.bearer_tokens(DIGEST))) as client:
        assert client.post(PREDICT, body=parts()).status == 401
        assert client.post("/models/none/predict", body=parts()).status == 401
        for path in {*LOOKS, "/openapi.json"} - {*HEALTH_PATHS}:
            assert client.get(path).status == 401
            assert client.get(path, headers=BEARER).status == 200
        assert client.post(PREDICT, json=ROW, headers=BEARER).status == 200


@pytest.mark.parametrize("is_async", [False, True])
def test_the_principal_is_in_the_scope_and_in_the_events(is_async):
    def plain(headers):
        return headers.get("X-Who")

    async def slow(headers):
        await asyncio.sleep(0)
        return headers.get("x-who")

    seen = []
    app = mk.App({"sum": summed()}, auth=slow if is_async else plain)
    around = []

    async def middleware(scope, receive, send):
        await app(scope, receive, send)
        if scope["type"] == "http":
            around.append(scope["state"].get("principal"))

    stop = events.subscribe(seen.append, events.Handled)
    try:
        with Client(middleware) as client:
            headers = {"x-who": "alice", "x-request-id": "r-1"}
            assert client.post(PREDICT, json=ROW, headers=headers).status == 200
            assert client.post(PREDICT, json=ROW).status == 401
            client.get("/4711")
    finally:
        stop()
    first, second, third = seen
    assert around == ["alice", None, None]
    assert (first.principal, first.request_id, first.model) == ("alice", "r-1", "sum")
    assert (first.route, first.method, first.status) == ("/models/{model}/predict", "POST", 200)
    assert 0 < first.seconds < 60
    assert (second.principal, second.status) == (None, 401)
    assert (third.route, third.model) == ("unmatched", "")
    assert "4711" not in repr(third)


# Headers that come twice, and names.


def status_of(app, headers):
    """The status of a request with these headers, of which some may come twice."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": json.dumps(ROW).encode()}

    scope = {"type": "http", "method": "POST", "path": PREDICT, "http_version": "1.1"}
    told = [(b"content-type", b"application/json"), *headers]
    asyncio.run(app({**scope, "headers": told}, receive, send))
    return sent[0]["status"]


GOOD = (b"authorization", b"Bearer good")
BAD = (b"authorization", b"Bearer bad")
GOOD_KEY = (b"x-api-key", b"good")
BAD_KEY = (b"x-api-key", b"bad")


@pytest.mark.parametrize(
    "headers", [(GOOD, BAD), (BAD, GOOD), (GOOD_KEY, BAD_KEY), (BAD_KEY, GOOD_KEY)]
)
def test_of_two_credentials_neither_counts(headers):
    """The last one did, and with other servers the first: a proxy may have checked the other."""
    app = mk.App({"sum": summed()}, auth=mk.bearer_tokens(hashlib.sha256(b"good").hexdigest()))
    assert status_of(app, [GOOD]) == 200
    assert status_of(app, headers) == 401
    app.close()


@pytest.mark.parametrize("scheme", [b"Basic eDp5", b"Digest a", b""])
def test_what_a_proxy_asks_for_may_stand_beside_a_key(scheme):
    """A proxy's own password was taken for the token."""
    app = mk.App({"sum": summed()}, auth=mk.bearer_tokens(hashlib.sha256(b"good").hexdigest()))
    proxy = (b"authorization", scheme)
    assert status_of(app, [proxy, GOOD_KEY]) == 200
    assert [status_of(app, [proxy, *other]) for other in ([], [BAD_KEY])] == [401, 401]
    assert status_of(app, [BAD, GOOD_KEY]) == 401
    app.close()


def test_a_header_that_came_twice_is_seen_whole():
    seen = []
    app = mk.App({"sum": summed()}, auth=lambda headers: seen.append(dict(headers)))
    told = [(b"x-name", b"a"), (b"cookie", b"k=1"), (b"x-name", b"b"), (b"cookie", b"l=2")]
    assert status_of(app, told) == 401
    assert seen == [{"content-type": "application/json", "x-name": "a, b", "cookie": "k=1; l=2"}]
    app.close()


def test_the_digest_of_an_empty_token_is_refused():
    """As a shell makes it of a variable that is not set; any `X-API-Key:` would have passed."""
    for form in (hashlib.sha256(b"").hexdigest(), {"billing": hashlib.sha256(b"").hexdigest()}):
        with pytest.raises(ValueError, match="empty token"):
            mk.bearer_tokens(form)


@pytest.mark.parametrize("name", ["", 3, None, "a\nb"])
def test_a_caller_has_a_name(name):
    with pytest.raises(ValueError, match="name of a caller"):
        mk.bearer_tokens({name: "0" * 64})
