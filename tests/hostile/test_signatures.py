"""Attack 18 and 19 of the table in docs/explanation/security.md: signatures that are stripped, foreign, forged, old, or no file at all."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pickle
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from helpers.churn import X, file_of, registry_at
from helpers.forge import forge
from helpers.signers import key_pair, private_pem, public_pem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import IntegrityError, PackageError, UntrustedError, UsageError
from modelkit.package.keys import key_id

OURS = Ed25519PrivateKey.generate()
THEIRS = Ed25519PrivateKey.generate()
TRUST = mk.Trust({"ours": OURS.public_key()})
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group of Ed25519, RFC 8032


@pytest.fixture
def package(toy, tmp_path):
    path = tmp_path / "toy.mk"
    path.write_bytes(toy)
    return path


@pytest.fixture
def signed(package):
    mk.sign(package, OURS)
    return package


def beside(package):
    return Path(f"{package}.sig")


def refused(package, message, trust=TRUST):
    with pytest.raises(UntrustedError, match=message):
        mk.load(package, trust=trust)


def change(package, **fields):
    """The file of signatures, with other fields in each signature."""
    plain = json.loads(beside(package).read_text())
    for each in plain["signatures"]:
        each.update(fields)
    beside(package).write_text(json.dumps(plain))
    return plain


def resign(package, key, **fields):
    """A right signature by a key over fields of the attacker's choice."""
    (signature,) = change(package, **fields)["signatures"]
    del signature["signature"]
    text = json.dumps(signature, sort_keys=True, separators=(",", ":")).encode()
    return change(package, signature=key.sign(b"modelkit signature 1\0" + text).hex())


def test_the_tests_sign_as_the_library_does(signed):
    """Otherwise everything would be refused for the wrong reason."""
    resign(signed, OURS)
    mk.load(signed, trust=TRUST).close()
    resign(signed, OURS, expires="2999-01-01T00:00:00+00:00")
    mk.load(signed, trust=TRUST).close()


def test_18_stripped(signed):
    change_nothing = json.loads(beside(signed).read_text())
    beside(signed).write_text(json.dumps(change_nothing | {"signatures": []}))
    refused(signed, "no signature counts by ours: there is none")
    beside(signed).write_bytes(b"")
    refused(signed, "cannot be read")
    beside(signed).unlink()
    refused(signed, "no signature counts by ours: there is none")


def test_18_of_another_key(package):
    mk.sign(package, THEIRS)
    refused(package, f"key {key_id(THEIRS.public_key()):.16}, which you do not trust")
    change(package, key=key_id(OURS.public_key()))
    refused(package, "in the name of ours is not by that key")
    resign(package, THEIRS)
    refused(package, "in the name of ours is not by that key")


def test_18_of_another_package(signed, tmp_path, toy):
    """A signature is copied beside a package that nobody signed, and says that it is of that one."""
    other = tmp_path / "other.mk"
    other.write_bytes(forge(toy, edit=lambda plain: plain.update(metadata={"by": "them"})))
    beside(other).write_bytes(beside(signed).read_bytes())
    refused(other, "ours signed another package")
    change(other, digest=mk.inspect(other).digest)
    refused(other, "in the name of ours is not by that key, or was changed")


def test_18_another_package_in_the_place_of_a_signed_one(signed, toy):
    """With hashes that are right for it."""
    signed.write_bytes(forge(toy, edit=lambda plain: plain.update(row_bytes=1)))
    refused(signed, "ours signed another package")


def test_18_truncated(signed):
    whole = beside(signed).read_bytes()
    for size in range(0, len(whole), 7):
        beside(signed).write_bytes(whole[:size])
        refused(signed, "cannot be read")


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithm": "none"},
        {"alg": "HS256"},
        {"public": "00" * 32},
        {"signature": ""},
        {"signature": None},
        {"signature": "0" * 128 + "00"},
        {"signature": "0x" + "0" * 126},
        {"signature": " " + "0" * 127},
        {"key": ["a"]},
        {"key": "A" * 64},
        {"digest": None},
        {"at": "yesterday"},
        {"at": "2026-01-01"},
        {"expires": False},
        {"expires": 4102444800},
        {"expires": "2999-01-01T00:00:00"},
    ],
    ids=str,
)
def test_18_fields_that_no_signer_writes(signed, fields):
    change(signed, **fields)
    refused(signed, "cannot be read")


def test_18_algorithm_confusion(signed, package):
    """The bytes of a public key are no secret of an HMAC, and a key of another kind is no key."""
    public = OURS.public_key()
    for secret in (public.public_bytes_raw(), public_pem(OURS)):
        for digest in (hashlib.sha256, hashlib.sha512):
            mac = hmac.new(secret, b"modelkit signature 1\0", digest).hexdigest()
            change(signed, signature=mac.ljust(128, "0"))
            refused(signed, "in the name of ours is not by that key")
    for key in (generate_private_key(SECP256R1()), X25519PrivateKey.generate()):
        with pytest.raises(UsageError, match="not a public key of Ed25519, but"):
            mk.Trust([key.public_key()])
        with pytest.raises(UsageError, match="not a private key of Ed25519, but"):
            mk.sign(package, key)
    with pytest.raises(UsageError, match="not a public key of"):
        mk.Trust([private_pem(OURS)])


def test_18_a_signature_for_another_purpose(signed):
    """One over the digest alone, or over the fields without the context, is none."""
    (found,) = json.loads(beside(signed).read_text())["signatures"]
    plain = {name: value for name, value in found.items() if name != "signature"}
    for text in (found["digest"], json.dumps(plain, sort_keys=True, separators=(",", ":"))):
        for data in (text.encode(), b"modelkit signature 2\0" + text.encode()):
            change(signed, signature=OURS.sign(data).hex())
            refused(signed, "in the name of ours is not by that key")


def test_18_a_second_form_of_a_signature(signed):
    """S and S + L would both fit the equation; RFC 8032 allows the first alone."""
    (found,) = json.loads(beside(signed).read_text())["signatures"]
    raw = bytes.fromhex(found["signature"])
    moved = (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    change(signed, signature=(raw[:32] + moved).hex())
    refused(signed, "in the name of ours is not by that key")


def test_18_expired(signed):
    past = (datetime.now(UTC) - timedelta(seconds=2)).isoformat(timespec="seconds")
    resign(signed, OURS, expires=past)
    refused(signed, f"the one by ours expired at {past[:19]}")
    for later in (None, "2999-01-01T00:00:00+00:00"):
        change(signed, expires=later)
        refused(signed, "in the name of ours is not by that key, or was changed")


def test_18_one_key_is_one_signer(signed):
    """A signer who signs twice, under two times or two names of a file, does not count twice."""
    both = mk.Trust({"ours": OURS.public_key(), "theirs": THEIRS.public_key()}, required=2)
    plain = json.loads(beside(signed).read_text())
    resign(signed, OURS, at="2020-01-01T00:00:00+00:00")
    older = json.loads(beside(signed).read_text())["signatures"]
    for more in (plain["signatures"], older):
        everything = [*plain["signatures"], *more, *older]
        beside(signed).write_text(json.dumps(plain | {"signatures": everything}))
        refused(signed, "signed by 1 of the keys that you trust, and 2 must", both)
    with pytest.raises(UsageError, match="number of different keys, 1, not 2"):
        mk.Trust({"a": OURS.public_key(), "b": public_pem(OURS)}, required=2)


@pytest.mark.parametrize(
    "text",
    ['{"schema": "modelkit.signatures/1", "signatures": [], "signatures": [SIGNATURE]}',
     '{"schema": "x", "schema": "modelkit.signatures/1", "signatures": [SIGNATURE]}',
     '{"schema": "modelkit.signatures/2", "signatures": [SIGNATURE]}',
     '{"schema": "modelkit.signatures/1", "signatures": [SIGNATURE], "more": 1}',
     '{"schema": "modelkit.signatures/1", "signatures": {"number": "nan"}}',
     '{"schema": "modelkit.signatures/1", "signatures": SIGNATURE}',
     '{"schema": "modelkit.signatures/1", "signatures": [[SIGNATURE]]}',
     '{"signatures": [SIGNATURE]}', "[SIGNATURE]", "SIGNATURE", "null", "{}", "[" * 100_000, '{"a":' * 100_000,
     '{"signatures": ' + "1" * 10_000 + "}", '{"signatures": NaN}', '"\\ud800"', "\ufeff{}", "\0"],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_18_json_that_parsers_disagree_on(signed, text):
    whole = json.loads(beside(signed).read_text())
    beside(signed).write_text(text.replace("SIGNATURE", json.dumps(whole["signatures"][0])))
    refused(signed, "cannot be read")
    beside(signed).write_bytes(b"\xff\xfe" + beside(signed).read_bytes())
    refused(signed, "cannot be read")


def test_18_a_field_that_stands_twice_in_a_signature(signed):
    text = beside(signed).read_text()
    beside(signed).write_text(text.replace('"expires": null', '"expires": "x", "expires": null'))
    refused(signed, "a key appears twice")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "circle", "socket", "huge"])
def test_18_no_file(signed, kind):
    """Nothing is waited for, and nothing large is read."""
    path = beside(signed)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    refused(signed, "the signatures cannot be read: .*toy.mk.sig")
    with pytest.raises(UntrustedError, match="the signatures cannot be read"):
        mk.sign(signed, OURS)


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_18_no_code_runs_without_a_right_signature(joblib_mk, tmp_path):
    mark = tmp_path / "exploded"
    package = tmp_path / "forest.mk"
    pickled = {"native/model.joblib": pickle.dumps(Bomb(str(mark)))}
    package.write_bytes(forge(joblib_mk.read_bytes(), pickled))
    asked = {"trust": TRUST, "allow": {"joblib"}}
    with pytest.raises(UntrustedError):
        mk.load(package, **asked)
    mk.sign(package, THEIRS)
    with pytest.raises(UntrustedError):
        mk.load(package, **asked)
    change(package, key=key_id(OURS.public_key()))
    with pytest.raises(UntrustedError):
        mk.load(package, **asked)
    assert not mark.exists()
    mk.sign(package, OURS)
    with pytest.raises(PackageError):  # the code of whom you trust does run
        mk.load(package, **asked)
    assert mark.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_bit_that_is_flipped_in_a_package_or_its_signature_is_found(signed, data):
    path = data.draw(st.sampled_from([signed, beside(signed)]))
    before = path.read_bytes()
    at = data.draw(st.integers(0, 8 * len(before) - 1))
    changed = bytearray(before)
    changed[at // 8] ^= 1 << at % 8
    path.write_bytes(changed)
    try:
        with pytest.raises(PackageError):
            mk.load(signed, trust=TRUST).close()
    finally:
        path.write_bytes(before)


# 19: registries


@pytest.fixture
def registry(tmp_path, churn_packages):
    """Versions that were signed: the first until a time that has passed by now."""
    folder = tmp_path / "signed"
    folder.mkdir()
    for version in ("1.0.0", "1.1.0"):
        path = folder / f"{version}.mk"
        path.write_bytes((churn_packages / path.name).read_bytes())
        mk.sign(path, OURS)
    past = (datetime.now(UTC) - timedelta(seconds=2)).isoformat(timespec="seconds")
    resign(folder / "1.0.0.mk", OURS, expires=past)
    registry = registry_at(tmp_path / "models", folder)
    registry.set_alias("churn", "champion", "1.1.0", expected=None, reason="first")
    trusting = mk.Registry(registry.url, trust=TRUST)
    trusting.load("churn").close()
    return trusting


def test_19_an_old_version_under_an_alias(registry):
    """Whoever may write the registry sets an alias back; what the signature no longer covers stays shut."""
    with pytest.raises(UntrustedError, match="the one by ours expired"):
        registry.start_rollout(
            "churn", "1.0.0", mk.RolloutPolicy((mk.RolloutStage(0.5),)), reason="x"
        )
    mk.Registry(registry.url).set_alias(
        "churn", "champion", "1.0.0", expected="1.1.0", reason="by an attacker"
    )
    for use in (registry.load, registry.reference, registry.fetch):
        with pytest.raises(UntrustedError, match="the one by ours expired"):
            use("churn")


def test_19_an_old_package_under_a_new_version(registry):
    """Its name and version are signed with it, so it is not taken for another one."""
    old, new = (
        file_of(registry, f"models/churn/versions/{each}.json") for each in ("1.0.0", "1.1.0")
    )
    registry = mk.Registry(registry.url, trust=mk.Trust([OURS.public_key()]))
    digest = json.loads(new.read_text())["digest"]
    old.chmod(0o644)
    old.write_text(json.dumps(json.loads(old.read_text()) | {"digest": digest}))
    for use in (registry.load, registry.fetch):
        with pytest.raises(IntegrityError, match=r"names the package of churn 1\.1\.0"):
            use("churn", "1.0.0")


def test_19_a_package_that_is_planted_in_the_store(registry, tmp_path, churn_packages):
    """Under the digest of a signed one, and by a registration that asked for no signature."""
    mk.Registry(registry.url).register(churn_packages / "2.0.0.mk")
    with pytest.raises(UntrustedError, match=r"no signature counts by ours: there is none"):
        registry.load("churn", "2.0.0")
    blob = registry.fetch("churn", "1.1.0")
    blob.chmod(0o644)
    blob.write_bytes((churn_packages / "2.0.0.mk").read_bytes())
    for use in (registry.load, registry.fetch, lambda *which: mk.load(registry.reference(*which))):
        with pytest.raises(IntegrityError):
            use("churn", "1.1.0")


def test_19_a_rollout_does_not_follow_an_alias_to_what_nobody_signed(
    registry, tmp_path, churn_packages
):
    """The champion goes on to answer, of graphs and of code."""
    pickled = tmp_path / "pickled.mk"
    pickled.write_bytes((churn_packages / "joblib.mk").read_bytes())
    mk.sign(pickled, OURS)
    registry.register(pickled)
    registry.set_alias("pickled", "champion", "1", expected=None, reason="first")
    with mk.Rollout(registry, "pickled", allow={"joblib"}) as rollout:
        assert rollout.predict(X[:3]).shape == (3,)
    attacker = mk.Registry(registry.url)
    attacker.register(churn_packages / "2.0.0.mk")
    with mk.Rollout(registry, "churn", threads=1) as rollout:
        attacker.set_alias("churn", "champion", "2.0.0", expected="1.1.0", reason="by an attacker")
        with pytest.raises(UntrustedError, match=r"no signature counts by ours: there is none"):
            rollout.refresh()
        assert rollout.version == "1.1.0"
        assert rollout.predict(X[:3]).shape == (3,)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_19_a_foreign_file_among_the_signatures_is_named(registry, data):
    digest = registry.version("churn", "1.1.0").digest
    file_of(registry, f"signatures/{digest}/foreign.json").write_bytes(data)
    with pytest.raises(UntrustedError, match=r"signatures/.*/foreign\.json"):
        registry.load("churn")


@pytest.mark.parametrize("kind", ["pipe", "folder", "huge"])
def test_19_no_file_among_the_signatures(registry, kind):
    path = file_of(registry, f"signatures/{registry.version('churn').digest}/0.json")
    if kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 30)
        with pytest.raises(UntrustedError, match=r"/0\.json has 1,073,741,824 bytes"):
            registry.load("churn")
        return
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    registry.load("churn").close()  # it is none of the files


def test_19_more_signatures_than_anybody_made(registry):
    """Not each of a million files is read, nor large ones, whose signatures would all be checked."""
    (kept,) = file_of(registry, f"signatures/{registry.version('churn').digest}/x").parent.iterdir()
    for number in range(1000):
        kept.with_name(f"{number}.json").write_bytes(kept.read_bytes())
    with pytest.raises(UntrustedError, match="has 1,001 files, and at most 1,000 are read"):
        registry.load("churn")
    kept.with_name("0.json").unlink()
    registry.load("churn").close()
    plain = json.loads(kept.read_text())
    kept.with_name("1.json").write_text(
        json.dumps(plain | {"signatures": plain["signatures"] * 20})
    )
    with pytest.raises(UntrustedError, match=r"1\.json has .* bytes, which no record has"):
        registry.load("churn")


def test_18_a_key_is_told_from_its_name(signed, tmp_path):
    """A file of the same name with another key opens nothing, and says which key was asked for."""
    _, public = key_pair(tmp_path, "ours")
    refused(signed, r"no signature counts by .*ours\.pub", mk.Trust([public]))
