"""The connections of `modelkit serve`, without a socket: what is sent at once, and who holds a certificate."""

import asyncio

import pytest

from modelkit.cli.connections import HEAD_BYTES, WholeAnswers, holder_of


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


class Sent(list):
    """A transport that keeps what is written to it."""

    closing = False
    write = list.append

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True


def sent_by(write):
    """What a transport is given, at once and a turn of the loop later, where `write` writes an answer."""

    async def turns():
        transport = Sent()
        write(WholeAnswers(transport, asyncio.get_running_loop()))
        at_once = [*transport]
        await asyncio.sleep(0)
        return at_once, transport[len(at_once) :]

    return asyncio.run(turns())


def answered(answers, *parts, end=lambda answers: None):
    for part in parts:
        answers.write(part)
    end(answers)


def test_a_head_is_sent_with_the_body_behind_it():
    """Half an answer of a process that is killed could not be asked for again."""
    many = b"b" * (HEAD_BYTES + 1)
    close = WholeAnswers.close
    assert sent_by(lambda to: answered(to, b"head", b"body")) == ([], [b"headbody"])
    assert sent_by(lambda to: answered(to, b"head", b"")) == ([], [b"head"])
    assert sent_by(lambda to: answered(to, b"head", many)) == ([b"head" + many], [])
    assert sent_by(lambda to: answered(to, b"head", b"body", end=close)) == ([b"headbody"], [])
    left = sent_by(
        lambda to: answered(to, b"head", end=lambda to: setattr(to._transport, "closing", True))
    )
    assert left == ([], [])
