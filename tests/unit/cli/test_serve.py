"""`modelkit serve` before it serves: tokens, certificates, names, and who may ask without a token."""

import hashlib

import pytest
from helpers.apps import summed
from helpers.client import Client
from helpers.signers import key_pair

import modelkit as mk
from modelkit.cli import main
from modelkit.cli.serve import asked_locally, read_tokens
from modelkit.errors import ModelkitError


def sha256(token):
    return hashlib.sha256(token.encode()).hexdigest()


def test_tokens_are_read_by_their_names(tmp_path):
    path = tmp_path / "tokens"
    lines = [f"billing {sha256('a')}", f" sha256:{sha256('b')} ", f"labels {sha256('c')} outcome"]
    lines += [f"{sha256('d')} outcome", f"outcome {sha256('e')}"]
    path.write_text("\n".join(["# who may ask", "", *lines]))
    digests, posters = read_tokens(path)
    names = [
        "billing",
        f"sha256:{sha256('b')[:8]}",
        "labels",
        f"sha256:{sha256('d')[:8]}",
        "outcome",
    ]
    assert digests == dict(zip(names, map(sha256, "abcde"), strict=True))
    assert posters == {names[2], names[3]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty, so nobody could ask"),
        ("billing secret\n", "line 1: .* never the token"),
        (f"a b {'0' * 64}", "line 1: "),
        (f"a {'0' * 64} outcomes", "line 1: .* the word outcome"),
        (f"a {'0' * 64} outcome outcome", "line 1: "),
        ("outcome", "line 1: "),
        ("billing outcome", "line 1: "),
        (f"a {'0' * 64}\na {'1' * 64}\n", "line 2: the name 'a' is there twice"),
    ],
)
def test_what_is_no_digest_is_refused_without_being_shown(tmp_path, text, words):
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ModelkitError, match=words) as caught:
        read_tokens(path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200), (b"LOCALHOST:8000", 200), (b"a.localhost", 200), (b"127.0.0.1:80", 200),
        (b"[::1]:8000", 200),
        (b"evil.example", 421), (b"localhost.evil.example", 421), (b"127.0.0.1.evil.example", 421),
        (b"192.168.1.2", 421), (b"evil.example:8000", 421),
    ],
)  # fmt: skip
def test_a_server_without_tokens_answers_to_localhost_alone(host, status):
    """A page of another site reached it by a name of that site that led to this machine."""
    with Client(asked_locally(mk.App({"sum": summed()}))) as client:
        answer = client.get("/v2/models", headers={"host": host.decode()})
    assert answer.status == status
    assert status == 200 or "--tokens" in answer.json()["error"]


# What the command refuses before it serves.


@pytest.fixture
def serve(boosting_mk):
    return lambda *arguments: main(["serve", str(boosting_mk), "--port", "0", *arguments])


def test_what_is_wrong_with_names_and_tokens_is_told_without_a_traceback(serve, tmp_path, capsys):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"billing {hashlib.sha256(b'').hexdigest()}\n")
    undecodable = tmp_path / "bytes"
    undecodable.write_bytes(b"\xff")
    for wrong in (
        ("--name", ".."), ("--name", "a\nb"), ("--tokens", str(tokens)),
        ("--tokens", str(undecodable)), ("--host", "\u00e9..x"),
        ("--drain", "inf"),  # it never ended after SIGTERM
    ):  # fmt: skip
        assert serve(*wrong) != 0
        assert capsys.readouterr().err.startswith("modelkit: ")


def test_certificates_that_cannot_be_read_are_named(serve, tmp_path, capsys):
    for name in ("missing.pem", "empty.pem"):
        (tmp_path / "empty.pem").touch()
        assert serve("--ssl-certfile", str(tmp_path / name)) != 0
        assert name in capsys.readouterr().err


def test_what_the_keys_did_not_sign_is_not_served(serve, tmp_path, capsys):
    _, public = key_pair(tmp_path)
    assert serve("--key", str(public)) == 1
    told = capsys.readouterr().err
    assert "no signature counts by" in told
    assert "modelkit sign" in told
    assert serve("--key", str(tmp_path / "release.pem")) == 2
    assert "is not a public key" in capsys.readouterr().err
