"""Audit logs of random events, and ways to tamper with one."""

import io

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

import modelkit as mk
from modelkit.events import AliasSet, Decided, Denied
from modelkit.lifecycle.audit.chain import Chain

KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()

texts = st.text(max_size=20)
floats = st.floats()  # NaN and infinities too, which JSON has no numbers for
happened = st.one_of(
    st.builds(AliasSet, texts, texts, texts, texts, texts),
    st.builds(Denied, texts, texts, texts, st.none() | texts, texts),
    st.builds(
        Decided,
        texts,
        texts,
        texts,
        st.integers(),
        texts,
        st.lists(st.tuples(texts, floats, floats), max_size=2).map(tuple),
    ),
)


def pem(key):
    """The private and the public part of a key, as files hold them."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    private = key.private_bytes(*form, serialization.NoEncryption())
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, key.public_key().public_bytes(*form)


def write_log(folder, events, key=None, **options):
    """Record events; returns a checkpoint of all of them."""
    with mk.AuditLog(folder, key, **options) as audit:
        for event in events:
            audit.record(event)
        return audit.checkpoint()


def files_of(folder):
    return sorted(folder.glob("*.jsonl"))


def log_in(folder):
    """The id of the one log of a folder, and its lines."""
    (log,) = {path.name.partition(".")[0] for path in files_of(folder)}
    return log, [line for path in files_of(folder) for line in io.BytesIO(path.read_bytes())]


def keys_of(*keys):
    return [key.public_key().public_bytes_raw() for key in keys]


def problem_with(log, data, keys=None, checkpoint=None):
    """What is wrong with the bytes of a log; "" where nothing is."""
    chain = Chain(log, keys or ()).read(io.BytesIO(data))
    if not chain.problem and checkpoint is not None and checkpoint not in chain.marks:
        return "the checkpoint is gone"
    return chain.problem


def tamper(kind, lines, draw, other):
    """The bytes of a log after an attack, which differ from what they were.

    Args:
        kind: "flip", "swap", "cut", "repeat", "splice" or "replace".
        lines: the lines of the log.
        draw: gives a random whole number below another one.
        other: the lines of another log.
    """
    lines = [*lines]
    at = draw(len(lines))
    if kind == "flip":
        data = bytearray(b"".join(lines))
        data[draw(len(data))] ^= 1 + draw(255)
        return bytes(data)
    if kind == "swap":
        with_ = (at + 1 + draw(len(lines) - 1)) % len(lines)
        lines[at], lines[with_] = lines[with_], lines[at]
    elif kind == "cut":  # and not the end
        first = draw(len(lines) - 1)
        del lines[first : first + 1 + draw(len(lines) - 1 - first)]
    elif kind == "repeat":
        lines.insert(at, lines[draw(len(lines))])
    elif kind == "splice":
        lines.insert(at, other[draw(len(other))])
    else:
        lines[at] = other[draw(len(other))]
    return b"".join(lines)


ATTACKS = ("flip", "swap", "cut", "repeat", "splice", "replace")
