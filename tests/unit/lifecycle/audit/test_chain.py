"""The chain of an audit log: what was changed is found, and what was not is not."""

import json
import tempfile
from pathlib import Path

import pytest
from helpers.audits import (
    ATTACKS,
    KEY,
    OTHER_KEY,
    happened,
    keys_of,
    log_in,
    problem_with,
    tamper,
    write_log,
)
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.lifecycle.audit.chain import CLOSED, START, Chain, linked, read_line
from modelkit.package.keys import key_id

OPTIONS = st.fixed_dictionaries(
    {"checkpoint_every": st.integers(1, 4), "rotate_bytes": st.sampled_from([0, 900, 1 << 20])}
)


def written(events, key, **options):
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_log(Path(folder, "audit"), events, key, **options)
        return *log_in(Path(folder, "audit")), f"{checkpoint}\n".encode()


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_a_log_that_nobody_touched_passes_and_any_attack_is_found(data):
    key = data.draw(st.sampled_from([None, KEY]))
    events = data.draw(st.lists(happened, max_size=6))
    log, lines, checkpoint = written(events, key, **data.draw(OPTIONS))
    _, other, _ = written(events, key)  # the same events at another time
    keys = keys_of(KEY) if key else None
    assert problem_with(log, b"".join(lines), keys, checkpoint) == ""
    assert len(lines) >= len(events) + 3
    for kind in ATTACKS:
        for _ in range(5):
            changed = tamper(kind, lines, lambda n: data.draw(st.integers(0, n - 1)), other)
            assert problem_with(log, changed, keys), kind


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(happened, max_size=4), st.data())
def test_a_lost_end_is_found_with_a_checkpoint_alone(events, data):
    log, lines, checkpoint = written(events, KEY)
    place = lines.index(checkpoint)
    kept = b"".join(lines[: data.draw(st.integers(0, place))])
    torn = checkpoint[: data.draw(st.integers(0, len(checkpoint) - 1))]
    for end in (b"", torn if kept.endswith(b"".join(lines[:place])) else b""):
        assert problem_with(log, kept + end, keys_of(KEY)) == ""
        assert problem_with(log, kept + end, keys_of(KEY), checkpoint)


def test_every_flip_of_a_bit_is_found():
    log, lines, _ = written([], KEY)
    data = b"".join(lines)
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            assert problem_with(log, bytes(changed)), (place, bit)


@pytest.mark.parametrize("length", range(1, 200, 7))
def test_a_torn_end_is_no_tampering_and_is_seen(length):
    log, lines, _ = written([], None)
    chain = Chain(log, ()).read([*lines[:-1], lines[-1][:length]])
    assert (chain.problem, chain.torn, chain.last.number) == ("", True, len(lines) - 1)
    assert Chain(log, ()).read([*lines[:-1], lines[-1][:length], lines[-1]]).problem
    assert Chain(log, ()).read([*lines, lines[-1][:length]]).problem  # nothing follows the end


def rewritten(lines, change, sign=None):
    """A log with other records, in a chain of its own that holds."""
    previous = START
    for line in lines:
        plain = json.loads(line)
        mark = plain.pop("signature", None)
        del plain["hash"]
        change(plain)
        body = json.dumps(plain, separators=(",", ":"))[:-1].encode()
        found, previous = linked(previous, body, sign if mark else None)
        yield found


def test_a_log_that_is_rewritten_whole_needs_the_key():
    log, lines, _ = written([], KEY)

    def change(plain):
        plain["principal"] = "somebody else"

    forged = b"".join(rewritten(lines, change))
    assert problem_with(log, forged) == ""  # as a chain alone cannot show
    assert "none of the keys that you passed" in problem_with(log, forged, keys_of(KEY))
    forged = b"".join(rewritten(lines, change, OTHER_KEY.sign))
    assert "none of the keys that you passed" in problem_with(log, forged, keys_of(KEY))

    def change_key(plain):
        plain["fields"]["key"] = key_id(OTHER_KEY.public_key())

    forged = b"".join(rewritten(lines, change_key, OTHER_KEY.sign))
    assert problem_with(log, forged, keys_of(OTHER_KEY)) == ""
    assert problem_with(log, forged, keys_of(KEY, OTHER_KEY)) == ""
    assert f"names the key {key_id(OTHER_KEY.public_key())}" in problem_with(
        log, forged, keys_of(KEY)
    )
    forged = b"".join(rewritten(lines, lambda plain: plain["fields"].update(key=None)))
    assert "names the key None" in problem_with(log, forged, keys_of(KEY))


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.update(number=plain["number"] + 1),
        lambda plain: plain.update(event="audit.checkpoint", fields={}),
        lambda plain: plain.update(event="alarmed"),  # so that no first mark is there
        lambda plain: plain.update(event=CLOSED),
        lambda plain: plain.update(fields=[]),
        lambda plain: plain.update(fields={"log": "another"}),
        lambda plain: plain.update(more=1),
        lambda plain: plain.pop("at"),
    ],
)
def test_a_chain_that_holds_may_still_hold_no_log(change):
    log, lines, _ = written([], None)
    assert problem_with(log, b"".join(rewritten(lines, change)))


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"{" * 100_000,
        b'{"number":1,"number":1',
        b'{"number":NaN',
        b"\xff",
        b"",
        b"1",
        b"null",
    ],
)
def test_a_chain_of_anything_is_refused(body):
    assert problem_with("log", linked(START, body)[0])


def test_a_record_is_read_as_it_was_written():
    log, lines, _ = written([], KEY)
    record = read_line(log, lines[0])
    assert (record.log, record.number, record.event) == (log, 1, "audit.checkpoint")
    assert record.fields == {"log": log, "key": key_id(KEY.public_key()), "lost": 0}
