"""Bodies: encoded or in chunks, and counted while they are read, in bytes and inflated bytes."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from helpers.apps import INFER, PREDICT, summed, tensor
from helpers.client import Client

import modelkit as mk
from modelkit.types import Limits
from modelkit.web.request import inflated

BODY = json.dumps(tensor()).encode()
ENCODINGS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


@pytest.fixture
def client():
    with Client(mk.App({"sum": summed()}, limits=Limits(body=1000))) as client:
        yield client


@pytest.mark.parametrize("encoding", [*ENCODINGS, "identity"])
def test_bodies_may_be_encoded(client, encoding):
    body = ENCODINGS.get(encoding, bytes)(BODY)
    answer = client.post(INFER, body=body, headers={"content-encoding": encoding})
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == [3.0]


@pytest.mark.parametrize("limits", [Limits(body=1000), Limits(json=1000), Limits(999, 1000)])
def test_json_has_the_lesser_of_two_limits(limits):
    most = min(limits.body, limits.json)
    with Client(mk.App({"sum": summed()}, limits=limits)) as client:
        assert client.post(INFER, body=BODY.ljust(most)).status == 200
        for headers in ({}, {"content-encoding": "gzip"}):
            body = BODY.ljust(most + 1)
            answer = client.post(
                INFER, body=gzip.compress(body) if headers else body, headers=headers
            )
            assert answer.status == 413
            assert f"{most:,} bytes" in answer.json()["error"]


def test_only_tensors_as_bytes_may_be_larger_than_json():
    rows = b"\0" * 16 * 500
    told = {"name": "x", "shape": [500, 2], "datatype": "FP64"}
    inputs = [told | {"parameters": {"binary_data_size": len(rows)}}]
    head = json.dumps({"inputs": inputs}).encode()
    with Client(mk.App({"sum": summed()}, limits=Limits(json=1000))) as client:
        length = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(head)),
        }
        assert client.post(INFER, body=head + rows, headers=length).status == 200
        assert client.post(PREDICT, body=head + rows, headers=length).status == 413
        length = {"inference-header-content-length": "1001"}
        answer = client.post(INFER, body=head.ljust(1001) + rows, headers=length)
    assert answer.status == 413
    assert "1,001 bytes of JSON" in answer.json()["error"]


def test_a_gzip_body_may_have_several_members(client):
    body = gzip.compress(BODY[:20]) + gzip.compress(BODY[20:])
    assert client.post(INFER, body=body, headers={"content-encoding": "gzip"}).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_inflates_beyond_the_limit_is_413(encoding):
    bomb = ENCODINGS[encoding](b" " * (1 << 24))
    if encoding == "gzip":
        bomb += bomb
    with Client(mk.App({"sum": summed()}, limits=Limits(body=1 << 20))) as larger:
        answer = larger.post(INFER, body=bomb, headers={"content-encoding": encoding})
    assert answer.status == 413
    assert "1,048,576" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [gzip.compress(BODY, mtime=0)[:-4], b"no gzip", gzip.compress(BODY, mtime=0) + b"more"],
    ids=["cut", "plain", "with more"],
)
def test_what_does_not_inflate_is_400(client, body):
    answer = client.post(INFER, body=body, headers={"content-encoding": "gzip"})
    assert answer.status == 400
    assert "gzip" in answer.json()["error"]


def test_a_chunked_body_is_counted_while_it_is_read():
    taken = []

    def parts():
        while True:
            taken.append(1)
            yield b" " * 100

    with Client(mk.App({"sum": summed()}, limits=Limits(body=1000))) as client:
        answer = client.post(INFER, body=parts())
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    # The rest is taken for a while, so that the client reads the answer.
    assert 11 <= len(taken) < 60


def test_a_chunked_body_within_the_limit_is_read(client):
    answer = client.post(INFER, body=[BODY[:7], b"", BODY[7:]])
    assert answer.status == 200


def test_a_length_that_is_too_large_is_refused_before_anything_is_read():
    def parts():
        raise AssertionError("the body was read")
        yield

    with Client(mk.App({"sum": summed()}, limits=Limits(body=1000))) as client:
        headers = {"content-length": "1001", "expect": "100-continue"}
        answer = client.post(INFER, body=parts(), headers=headers)
    assert answer.status == 413


def test_a_body_that_never_ends_is_408():
    with Client(mk.App({"sum": summed()}, limits=Limits(seconds=0.2))) as client:
        answer = client.post(INFER, body=BODY, headers={"content-length": "100000"})
    assert answer.status == 408
    assert answer.headers["connection"] == "close"


def test_a_gzip_body_of_many_empty_members_takes_no_time():
    """What follows a member was copied for each of them: 8 MiB took minutes of a thread."""
    body = gzip.compress(b"", mtime=0) * 300_000 + gzip.compress(b"{}", mtime=0)
    assert inflated(body, {b"content-encoding": b"gzip"}, 8 << 20) == b"{}"
