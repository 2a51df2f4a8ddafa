"""A package opens by signatures of the keys that the caller trusts, and each that does not count says why."""

import io
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from helpers.signers import key_pair
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import IntegrityError, UntrustedError, UsageError
from modelkit.package.keys import key_id
from modelkit.package.signing import Trust, signatures_of, write_signatures

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def package(boosting_mk, tmp_path):
    return shutil.copy(boosting_mk, tmp_path / "churn.mk")


def test_a_signed_package_opens_for_who_trusts_the_key(package, tmp_path, breast_cancer):
    private, public = key_pair(tmp_path)
    seen = []
    stop = mk.events.subscribe(seen.append, mk.events.Signed)
    signed = mk.sign(package, private)
    stop()
    trust = mk.Trust([public])
    X, _ = breast_cancer
    with mk.load(package) as plain, mk.load(package, trust=trust) as model:
        np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
        digest = model.manifest.digest
    assert signed.digest == digest
    assert signed.expires is None
    assert signatures_of(package) == (signed,)
    (event,) = seen
    assert (event.name, event.digest, event.key) == ("breast-cancer", digest, signed.key)


def test_a_model_that_was_opened_by_its_signature_is_pickled_by_its_digest(package, tmp_path):
    private, public = key_pair(tmp_path)
    mk.sign(package, private, expires=datetime.now(UTC) + timedelta(days=1))
    with mk.load(package, trust=mk.Trust([public])) as model:
        data = pickle.dumps(model)
    (tmp_path / "churn.mk.sig").unlink()
    with pickle.loads(data) as again:
        assert again.verify() == 0.0
    mk.attach(package, metadata={"other": 1})
    with pytest.raises(IntegrityError, match="not the"):
        pickle.loads(data)


def test_a_signature_stands_for_the_digest_of_a_joblib_package(joblib_mk, tmp_path):
    package = shutil.copy(joblib_mk, tmp_path / "forest.mk")
    private, public = key_pair(tmp_path)
    trust = mk.Trust([public])
    with pytest.raises(UntrustedError, match="no signature counts"):
        mk.load(package, trust=trust, allow={"joblib"})
    mk.sign(package, private)
    with mk.load(package, trust=trust, allow={"joblib"}) as model:
        data = pickle.dumps(model)
    with pickle.loads(data) as again:
        assert again.verify() == 0.0
    with pytest.raises(UntrustedError, match=r"missing: allow=\{'joblib'\}$"):
        mk.load(package, trust=trust)
    with pytest.raises(UntrustedError, match="trust="):
        mk.load(package, allow={"joblib"})


def test_keys_are_changed_and_several_sign(package, tmp_path):
    old, old_public = key_pair(tmp_path, "old")
    new, new_public = key_pair(tmp_path, "new")
    either = mk.Trust([old_public, new_public])
    both = mk.Trust({"ann": old_public, "bob": new_public}, required=2)
    mk.sign(package, old)
    mk.load(package, trust=either).close()
    with pytest.raises(
        UntrustedError, match=r"signed by 1 of the keys .* 2 must .* by bob: there is none"
    ):
        mk.load(package, trust=both)
    mk.sign(package, new)
    for trust in (either, both, mk.Trust([new_public])):
        mk.load(package, trust=trust).close()
    mk.sign(package, old)
    assert len(signatures_of(package)) == 2


def test_signing_again_replaces_the_signature_of_that_key_and_those_of_another_package(
    package, tmp_path
):
    private, public = key_pair(tmp_path)
    until = datetime.now(UTC) + timedelta(days=1)
    mk.sign(package, private, expires=until)
    mk.sign(package, private)
    (only,) = signatures_of(package)
    assert only.expires is None
    mk.attach(package, metadata={"reviewed": True})
    with pytest.raises(UntrustedError, match=r"release.pub signed another package"):
        mk.load(package, trust=mk.Trust([public]))
    other, _ = key_pair(tmp_path, "other")
    mk.sign(package, other)
    assert [each.key == only.key for each in signatures_of(package)] == [False]


def test_a_signature_holds_until_it_expires(package, tmp_path):
    private, public = key_pair(tmp_path)
    signed = mk.sign(package, private, expires=datetime(2027, 1, 1, tzinfo=UTC))
    trust = mk.Trust({"release": public})
    end = datetime.fromisoformat(signed.expires)
    assert trust.check(signed.digest, [signed], end - timedelta(seconds=1)) == ("release",)
    for now in (end, end.astimezone() + timedelta(days=1)):
        with pytest.raises(UntrustedError, match=r"release expired at 2027-01-01T00:00:00\+00:00"):
            trust.check(signed.digest, [signed], now)


def test_a_signature_may_expire_at_any_time_that_python_knows(package, tmp_path):
    private, public = key_pair(tmp_path)
    for zone in (UTC, timezone(timedelta(hours=-5))):
        mk.sign(package, private, expires=datetime.max.replace(tzinfo=zone))
        mk.load(package, trust=mk.Trust([public])).close()


def test_what_cannot_be_signed_is_refused_before_anything_is_written(package, tmp_path):
    private, public = key_pair(tmp_path)
    past = datetime.now(UTC) - timedelta(seconds=1)
    for key, expires, error, message in (
        (private, past, UsageError, "has passed"),
        (private, datetime(2030, 1, 1), UsageError, "lacks a time zone"),  # noqa: DTZ001 - refused
        (private, 30, TypeError, "a datetime, not 30"),
        (public, None, UsageError, "private key"),
    ):
        with pytest.raises(error, match=message):
            mk.sign(package, key, expires=expires)
    with pytest.raises(TypeError, match="by its path, not bytes"):
        mk.sign(b"PK", private)
    with open(package, "r+b") as file:
        file.seek(-3000, io.SEEK_END)
        file.write(b"\0\1\2\3")
    with pytest.raises(mk.errors.PackageError):
        mk.sign(package, private)
    assert not (tmp_path / "churn.mk.sig").exists()


def test_trust_needs_a_path_and_the_right_type(package, tmp_path):
    private, public = key_pair(tmp_path)
    mk.sign(package, private)
    trust = mk.Trust([public])
    data = (tmp_path / "churn.mk").read_bytes()
    for source in (data, io.BytesIO(data)):
        with pytest.raises(UsageError, match="trust= needs the path"):
            mk.load(source, trust=trust)
    for wrong in ([], [public], str(public), True, {}):
        with pytest.raises(TypeError, match=r"trust is a mk\.Trust"):
            mk.load(package, trust=wrong)


def test_a_trust_is_a_value(tmp_path):
    _, public = key_pair(tmp_path)
    key = Ed25519PrivateKey.generate().public_key()
    trust = mk.Trust([public, key])
    assert pickle.loads(pickle.dumps(trust)) == trust
    assert hash(trust) == hash(mk.Trust([public, key]))
    assert trust != mk.Trust([public, key], required=2)
    assert "release.pub" in repr(trust)
    assert f"{key_id(key):.16}" in repr(trust)
    for keys, required, error, message in (
        (str(public), 1, TypeError, "a list of public keys"),
        (public.read_bytes(), 1, TypeError, "a list of public keys"),
        (key, 1, TypeError, "a list of public keys"),
        ([], 1, UsageError, "number of different keys, 0"),
        ([key], 0, UsageError, "between 1"),
        ([key], 2, UsageError, "between 1"),
        ([key], "1", TypeError, "'<=' not supported"),
        ({"a": key, "b": key}, 2, UsageError, "number of different keys, 1, not 2"),
        ([None], 1, UsageError, "public key"),
    ):
        with pytest.raises(error, match=message):
            Trust(keys, required)


KEYS = [Ed25519PrivateKey.generate() for _ in range(3)]


@given(
    signers=st.sets(st.integers(0, 2)),
    trusted=st.sets(st.integers(0, 2), min_size=1),
    required=st.integers(1, 3),
    days=st.lists(st.sampled_from([None, -1, 1]), min_size=3, max_size=3),
)
def test_a_package_is_trusted_by_enough_keys_whose_signatures_hold(
    tmp_path_factory, boosting_mk, signers, trusted, required, days
):
    """As many as required, whatever else is there; the times are those of the check."""
    package = shutil.copy(boosting_mk, tmp_path_factory.mktemp("signed") / "churn.mk")
    made = datetime.now(UTC)
    for at in signers:
        until = None if days[at] is None else made + timedelta(days=2 + days[at])
        mk.sign(package, KEYS[at], expires=until)
    signatures = signatures_of(package)
    assert len(signatures) == len(signers)
    required = min(required, len(trusted))
    trust = mk.Trust([KEYS[at].public_key() for at in trusted], required)
    counting = [at for at in signers & trusted if days[at] != -1]
    now = made + timedelta(days=2)

    def check():
        return trust.check(mk.inspect(package).digest, signatures, now)

    if len(counting) >= required:
        assert len(check()) == len(counting)
    else:
        with pytest.raises(UntrustedError):
            check()


def test_signatures_are_written_as_they_are_read(package, tmp_path):
    private, _ = key_pair(tmp_path)
    mk.sign(package, private)
    path = tmp_path / "churn.mk.sig"
    assert write_signatures(signatures_of(package)) == path.read_bytes()


def test_those_who_sign_at_once_keep_each_others_signatures(package, tmp_path):
    keys = [key_pair(tmp_path, f"key{number}")[0] for number in range(8)]
    with ThreadPoolExecutor(len(keys)) as pool:
        signed = set(pool.map(lambda key: mk.sign(package, key), keys))
    assert set(signatures_of(package)) == signed
