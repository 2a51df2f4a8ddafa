"""A sealed package opens for each of its recipients and for nobody else, and gives the same answers."""

import io
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from helpers.forge import MANIFEST, WEIGHTS, members_of, pack, save_pair
from helpers.rollouts import until
from helpers.sealed import key_files
from helpers.signers import key_pair
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import (
    Conflict,
    IntegrityError,
    MissingExtraError,
    PackageError,
    UntrustedError,
    UsageError,
)
from modelkit.model.manifest import Member
from modelkit.package import sealing
from modelkit.package.review import review

RNG = np.random.default_rng(0)
LOW_ORDER = X25519PublicKey.from_public_bytes(b"\x01" + bytes(31))
OF_A_KMS = bytes(range(32))  # the key that never leaves it


def wrap(data_key):
    return aes_key_wrap(OF_A_KMS, data_key)


def unwrap(wrapped, recipient):
    """A function of a module, as pickles need it."""
    return aes_key_unwrap(OF_A_KMS, wrapped) if recipient == "kms" else None


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: key_files(folder, name) for name in ("ada", "ben", "eve")}


@pytest.fixture(scope="module")
def sealed(wide_mk, keys, tmp_path_factory):
    """A package of 9 MiB, in ten chunks: for Ada, Ben and a KMS."""
    out = tmp_path_factory.mktemp("sealed") / "wide.mk"
    recipients = {"ada": keys["ada"][1], "ben": keys["ben"][1].read_bytes(), "kms": wrap}
    manifest = mk.seal(wide_mk, recipients, out=out)
    assert manifest == mk.inspect(wide_mk)
    assert manifest.digest == mk.inspect(wide_mk).digest
    return out


@pytest.fixture(scope="module")
def rows():
    return RNG.normal(size=(5, 1088)).astype(np.float32)


def test_each_recipient_gets_the_same_answers(sealed, wide_mk, keys, rows, monkeypatch):
    wanted = mk.load(wide_mk).predict(rows)
    pem = keys["ada"][0].read_bytes()
    monkeypatch.setenv("A_KEY", pem.decode())
    key = load_pem_private_key(pem, None)
    for unseal in (keys["ada"][0], str(keys["ben"][0]), "env:A_KEY", pem, key, unwrap):
        with mk.load(sealed, unseal=unseal) as model:
            assert np.array_equal(model.predict(rows), wanted)
            assert model.manifest.digest == mk.inspect(wide_mk).digest
            assert model.verify() == 0
    for source in (sealed.read_bytes(), io.BytesIO(sealed.read_bytes())):
        assert np.array_equal(mk.load(source, unseal=unwrap).predict(rows), wanted)


@pytest.mark.parametrize("package", ["tiny_mk", "boosting_mk", "penguins_mk", "static_mk"])
def test_packages_of_each_kind_are_sealed(package, request, keys, tmp_path):
    path = request.getfixturevalue(package)
    private, public = keys["ada"]
    mk.seal(path, {"ada": public}, out=tmp_path / "sealed.mk")
    with mk.load(tmp_path / "sealed.mk", unseal=private) as model, mk.load(path) as plain:
        assert model.verify() == plain.verify()
        assert {name: bytes(data) for name, data in model.attachments.items()} == {
            name: bytes(data) for name, data in plain.attachments.items()
        }


def test_a_pickled_estimator_is_sealed_and_as_little_trusted(joblib_mk, keys, tmp_path):
    private, public = keys["ada"]
    out = tmp_path / "sealed.mk"
    digest = mk.seal(joblib_mk, {"ada": public}, out=out).digest
    asked = []
    with pytest.raises(UntrustedError, match="joblib package"):
        mk.load(out, unseal=lambda *about: asked.append(about))
    assert not asked
    assert review(out).opens.startswith("unseal=, the key of one of ada: it is sealed; digest= and")
    with mk.load(out, unseal=private, digest=digest, allow={"joblib"}) as model:
        assert model.verify() == 0


def test_nothing_of_a_member_is_left_in_clear(sealed, wide_mk):
    plain, hidden = members_of(wide_mk.read_bytes()), sealed.read_bytes()
    assert members_of(hidden)[MANIFEST] == plain.pop(MANIFEST)
    for data in plain.values():
        for at in range(0, len(data) - 16, max(len(data) // 50, 1)):
            assert data[at : at + 16] not in hidden or data[at : at + 16] == bytes(16)


def test_two_seals_of_one_package_share_no_ciphertext(toy, keys, tmp_path):
    for name in ("one.mk", "two.mk"):
        mk.seal(toy, {"ada": keys["ada"][1]}, out=tmp_path / name)
    one, two = (members_of((tmp_path / name).read_bytes()) for name in ("one.mk", "two.mk"))
    assert one.pop(MANIFEST) == two.pop(MANIFEST)
    assert all(one[path] != two[path] for path in one)


def test_other_recipients_change_one_member(sealed, keys, rows, tmp_path):
    out = tmp_path / "again.mk"
    out.write_bytes(sealed.read_bytes())
    mk.seal(out, {"eve": keys["eve"][1]}, out=out, unseal=keys["ben"][0])
    before, after = members_of(sealed.read_bytes()), members_of(out.read_bytes())
    assert [path for path in before if before[path] != after[path]] == ["sealed.json"]
    assert np.array_equal(
        mk.load(out, unseal=keys["eve"][0]).predict(rows),
        mk.load(sealed, unseal=unwrap).predict(rows),
    )
    for unseal in (keys["ada"][0], unwrap):
        with pytest.raises(UntrustedError, match="sealed for eve"):
            mk.load(out, unseal=unseal)


def test_who_has_no_key_is_told_for_whom_it_is(sealed, keys):
    with pytest.raises(UntrustedError, match="sealed for ada, ben, kms: pass unseal=") as error:
        mk.load(sealed)
    assert error.value.missing == ("unseal=",)
    for other, named in ((keys["eve"][0], r"'.*eve\.pem'"), (keys["eve"][0].read_bytes(), "")):
        message = f"sealed for ada, ben, kms, and unseal={named} opens"
        with pytest.raises(UntrustedError, match=message):
            mk.load(sealed, unseal=other)
    with pytest.raises(UntrustedError, match="opens it for none"):
        mk.load(sealed, unseal=lambda wrapped, recipient: None)
    with pytest.raises(IntegrityError, match="changed, or belong to another package"):
        mk.load(sealed, unseal=lambda wrapped, recipient: bytes(32))
    for strange in ("key", b"short", bytes(33), 3):
        with pytest.raises(UsageError, match="gives the 32 bytes"):
            mk.load(sealed, unseal=lambda wrapped, recipient, strange=strange: strange)
    with pytest.raises(UsageError, match="private key of X25519"):
        mk.load(sealed, unseal=3)


def test_a_key_never_opens_what_is_not_sealed(wide_mk, keys):
    with pytest.raises(IntegrityError, match="the package is not sealed"):
        mk.load(wide_mk, unseal=keys["ada"][0])


def test_another_digest_is_refused_before_a_key_is_asked_for(sealed):
    asked = []
    with pytest.raises(IntegrityError, match="has digest"):
        mk.load(sealed, digest="0" * 64, unseal=lambda *about: asked.append(about))
    assert not asked


def test_what_cannot_be_sealed_is_refused(toy, sealed, keys, tmp_path):
    out, public = tmp_path / "out.mk", keys["ada"][1]
    for source, recipients, options, error, words in (
        (toy, {}, {}, UsageError, "for 1 to 1000 recipients"),
        (toy, dict.fromkeys(map(str, range(1001)), public), {}, UsageError, "for 1 to 1000"),
        (toy, {"ada": LOW_ORDER}, {}, UsageError, "key of recipient 'ada' hides nothing"),
        (toy, [public], {}, TypeError, "keys by name, not list"),
        (toy, {"a\n": public}, {}, UsageError, "whose names match"),
        (toy, {"": public}, {}, UsageError, "whose names match"),
        (toy, {"ada": keys["ada"][0]}, {}, UsageError, "not a public key of"),
        (toy, {"ada": 3}, {}, UsageError, "public key of X25519"),
        (toy, {"kms": bytes}, {}, UsageError, "bytes that hide it"),
        (toy, {"kms": lambda key: b"<" + key}, {}, UsageError, "bytes that hide it"),
        (toy, {"kms": lambda key: "text"}, {}, UsageError, "it gave str"),
        (toy, {"kms": lambda key: bytes(1 << 19)}, {}, UsageError, "at most 1 MiB"),
        (toy, {"ada": public}, {"unseal": keys["ada"][0]}, IntegrityError, "not sealed"),
        (toy[:-1], {"ada": public}, {}, PackageError, "truncated"),
        (sealed, {"ada": public}, {}, UntrustedError, "pass unseal="),
        (sealed, {"ada": public}, {"unseal": keys["eve"][0]}, UntrustedError, "for none"),
    ):
        with pytest.raises(error, match=words):
            mk.seal(source, recipients, out=out, **options)
        assert not out.exists()


def test_a_damaged_package_is_not_sealed(toy, keys, tmp_path):
    at = toy.index(members_of(toy)[WEIGHTS]) + 5
    with pytest.raises(IntegrityError, match="damaged"):
        mk.seal(toy[:at] + b"?" + toy[at + 1 :], {"ada": keys["ada"][1]}, out=tmp_path / "out.mk")
    assert not (tmp_path / "out.mk").exists()


def test_a_model_is_pickled_with_what_opens_it(sealed, keys, rows, monkeypatch, tmp_path):
    monkeypatch.setenv("A_KEY", keys["ada"][0].read_text())
    wanted = mk.load(sealed, unseal=unwrap).predict(rows)
    monkeypatch.chdir(keys["ada"][0].parent)
    for unseal in ("ada.pem", "env:A_KEY", unwrap):
        model = mk.load(sealed, unseal=unseal)
        data = pickle.dumps(model)
        assert b"PRIVATE" not in data
        assert np.array_equal(pickle.loads(data).predict(rows), wanted)
    data = pickle.dumps(mk.load(sealed, unseal="ada.pem"))
    (tmp_path / "model.pickle").write_bytes(data)
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).verify())"
    command = [sys.executable, "-c", code, str(tmp_path / "model.pickle")]
    ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert float(ran.stdout) == 0


def test_a_key_in_memory_is_not_pickled(sealed, keys):
    pem = keys["ada"][0].read_bytes()
    for unseal in (pem, load_pem_private_key(pem, None)):
        model = mk.load(sealed, unseal=unseal)
        with pytest.raises(TypeError, match="path of the key") as error:
            pickle.dumps(model)
        assert "PRIVATE" not in f"{error.value}{model!r}{model.__reduce__()!r}"


def test_a_model_opened_by_a_key_in_memory_is_opened_again_here(sealed, keys):
    pem = keys["ada"][0].read_bytes()
    for model in (mk.load(sealed, unseal=pem), mk.Scorer(sealed, unseal=pem).model):
        again = model
        for _ in range(3):
            origin, nothing = again.__reduce__()
            again = origin(*nothing)
        assert again.verify() == 0


def test_no_variable_of_a_failed_call_holds_a_key(sealed, keys):
    """Services that collect errors store the variables of each function beside them."""
    secrets = [keys["ada"][0].read_bytes()]

    def listening(wrapped, recipient):
        secrets.append(unwrap(wrapped, recipient))
        return secrets[-1]

    mk.load(sealed, unseal=listening)
    members = members_of(sealed.read_bytes())
    block = json.loads(members["sealed.json"])
    block["recipients"]["zoe"] = "00"  # whoever may write the file adds one
    text = json.dumps(block, sort_keys=True, indent=1).encode() + b"\n"
    changed = pack(members | {"sealed.json": text})
    for unseal in (keys["ada"][0], secrets[0], unwrap):
        with pytest.raises(IntegrityError, match=r"recipients in .* were changed") as error:
            mk.load(changed, unseal=unseal)
        frames = [each.frame for each in error.traceback]
        ours = [each for each in frames if each.f_globals["__name__"].startswith("modelkit")]
        held = [value for frame in ours for value in frame.f_locals.values()]
        assert ours
        assert not [each for each in held if isinstance(each, bytes) and each in secrets]


def test_a_scorer_takes_its_key_along(sealed, keys, rows, monkeypatch):
    monkeypatch.chdir(keys["ada"][0].parent)
    wanted = mk.load(sealed, unseal=unwrap).predict(rows)
    for unseal in ("ada.pem", unwrap):
        scorer = pickle.loads(pickle.dumps(mk.Scorer(sealed, unseal=unseal)))
        assert np.array_equal(scorer({"x": rows})["y"], wanted)
    in_memory = mk.Scorer(sealed, unseal=keys["ada"][0].read_bytes())
    assert np.array_equal(in_memory({"x": rows})["y"], wanted)
    with pytest.raises(TypeError, match="path of the key"):
        pickle.dumps(in_memory)
    with pytest.raises(UntrustedError, match="sealed for ada, ben, kms"):
        mk.Scorer(sealed)({"x": rows})
    with pytest.raises(UsageError, match="text of a key"):
        mk.Scorer(sealed, unseal=keys["ada"][0].read_text())


def test_a_copy_of_a_url_is_not_taken_for_one_that_is_sealed_otherwise(
    sealed, wide_mk, keys, rows, monkeypatch, tmp_path
):
    """They have one digest, by which the copy on a machine is named."""
    monkeypatch.setenv("HOME", str(tmp_path))
    eve, key = tmp_path / "eve.mk", str(keys["eve"][0])
    mk.seal(wide_mk, {"eve": keys["eve"][1]}, out=eve)
    wanted = mk.load(wide_mk).predict(rows)
    for path, unseal in ((sealed, unwrap), (eve, key), (wide_mk, None)):
        scorer = mk.Scorer(f"file://{path}", unseal=unseal, threads=2)
        assert np.array_equal(scorer({"x": rows})["y"], wanted)
        (copy,) = (tmp_path / ".cache" / "modelkit").iterdir()
        assert copy.read_bytes() == path.read_bytes()


def test_no_message_holds_a_key(sealed, keys):
    secrets = []

    def listening(wrapped, recipient):
        secrets.append(unwrap(wrapped, recipient))
        return secrets[-1]

    mk.load(sealed, unseal=listening)
    secret = secrets[-1]
    key = sealing.DataKey(secret, "id", "digest")
    assert secret.hex() not in repr(key)
    assert repr(secret)[2:-1] not in repr(key)


@given(st.integers(0, 3 * sealing.CHUNK), st.sampled_from((-1, 0, 1)), st.integers(0, 7))
def test_members_of_all_sizes_come_back(size, beside, bit):
    chunks = size // sealing.CHUNK * sealing.CHUNK
    size = max(chunks + beside, 0) if size % 2 else size
    plain = memoryview(os.urandom(size))
    key = sealing.DataKey(os.urandom(32), "id", "digest")
    member = Member("a/b", size, "")
    sealed = sealing._encrypted(key, plain, member)
    assert sealing._decrypted(key, sealed, member) == plain
    at = int.from_bytes(os.urandom(4), "big") % len(sealed)
    sealed[at] ^= 1 << bit
    with pytest.raises(IntegrityError, match="'a/b' of the sealed package was changed"):
        sealing._decrypted(key, sealed, member)


def test_the_last_chunk_is_the_last():
    """Whatever is said of the size: neither is one before it the end, nor does anything follow it."""
    key = sealing.DataKey(os.urandom(32), "id", "digest")
    size = 2 * sealing.CHUNK
    sealed = sealing._encrypted(key, memoryview(bytes(size)), Member("a", size, ""))
    box = sealing.CHUNK + sealing.TAG
    for changed, told in (
        (sealed[:box], sealing.CHUNK),
        (bytes(sealed) + bytes(sealed[box:]), size + sealing.CHUNK),
        (sealed[box:], sealing.CHUNK),
    ):
        with pytest.raises(IntegrityError, match="changed or damaged"):
            sealing._decrypted(key, memoryview(changed), Member("a", told, ""))


def test_attach_says_what_to_do(sealed):
    with pytest.raises(UsageError, match="attach to the package that it was made of"):
        mk.attach(sealed, metadata={"a": 1})


def test_a_review_says_for_whom_it_is_sealed(sealed, wide_mk):
    found = review(sealed)
    assert found.needs == {"unseal": ["ada", "ben", "kms"]}
    assert found.manifest == review(wide_mk).manifest
    assert found.operators == {}
    assert found.opens == "unseal=, the key of one of ada, ben, kms: it is sealed"


def test_without_cryptography_the_extra_is_named(sealed, keys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for unseal in (keys["ada"][0], lambda wrapped, recipient: bytes(32)):
        with pytest.raises(MissingExtraError, match="trust"):
            mk.load(sealed, unseal=unseal)


class TestRegistry:
    @pytest.fixture
    def registry(self, sealed, tmp_path):
        registry = mk.Registry(tmp_path / "models")
        registry.register(sealed)
        return registry

    def test_it_keeps_and_opens_a_sealed_package(self, registry, sealed, keys, rows, tmp_path):
        assert registry.register(sealed).digest == mk.inspect(sealed).digest
        assert registry.fetch("dense", "1", tmp_path / "cache").read_bytes() == sealed.read_bytes()
        wanted = mk.load(sealed, unseal=unwrap).predict(rows)
        for unseal in (keys["ada"][0], unwrap):
            model = registry.load("dense", "1", unseal=unseal)
            assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(rows), wanted)
            model = mk.load(registry.reference("dense", "1"), unseal=unseal)
            assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(rows), wanted)
        with pytest.raises(UntrustedError, match="pass unseal="):
            registry.load("dense", "1")

    def test_it_keeps_one_form_of_a_version(self, registry, wide_mk, sealed, keys, tmp_path):
        again = tmp_path / "again.mk"
        mk.seal(sealed, {"eve": keys["eve"][1]}, out=again, unseal=unwrap)
        for package in (wide_mk, again):
            with pytest.raises(Conflict, match="sealed otherwise or not at all"):
                registry.register(package)
        plain = mk.Registry(tmp_path / "plain")
        plain.register(wide_mk)
        with pytest.raises(Conflict, match="sealed otherwise or not at all"):
            plain.register(sealed)

    def test_a_plain_copy_in_the_cache_is_not_taken_for_it(
        self, registry, wide_mk, sealed, tmp_path
    ):
        plain = mk.Registry(tmp_path / "plain")
        plain.register(wide_mk)
        assert plain.fetch("dense", "1", tmp_path).read_bytes() == wide_mk.read_bytes()
        assert registry.fetch("dense", "1", tmp_path).read_bytes() == sealed.read_bytes()

    def test_a_copy_that_is_sealed_for_others_is_not_taken_for_it(
        self, registry, sealed, keys, tmp_path
    ):
        """Of one digest and one size, for as many recipients."""
        others = dict.fromkeys(("ada", "ben"), keys["eve"][1]) | {"kms": wrap}
        again = tmp_path / "again.mk"
        mk.seal(sealed, others, out=again, unseal=unwrap)
        other = mk.Registry(tmp_path / "other")
        other.register(again)
        for there, path in ((other, again), (registry, sealed), (other, again)):
            assert there.fetch("dense", "1", tmp_path).read_bytes() == path.read_bytes()

    def test_damaged_ciphertext_is_found_without_a_key(self, registry, sealed, tmp_path):
        data = bytearray(sealed.read_bytes())
        for path in ("sealed.json", WEIGHTS):
            at = bytes(data).index(members_of(sealed.read_bytes())[path]) + 3
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            with pytest.raises(PackageError, match="damaged"):
                mk.Registry(tmp_path / "other").register(bytes(changed))
        (blob,) = (tmp_path / "models").rglob("*.mk")
        blob.chmod(0o600)
        blob.write_bytes(changed)
        with pytest.raises(PackageError, match="damaged"):
            registry.fetch("dense", "1")

    def test_a_rollout_follows_it(self, tmp_path, keys, toy):
        old, new = save_pair(tmp_path)
        registry = mk.Registry(tmp_path / "models")
        for path in (old, new):
            mk.seal(path, {"ada": keys["ada"][1]}, out=path)
            registry.register(path)
        registry.set_alias("toy", "champion", "1", expected=None, reason="first")
        rows = RNG.normal(size=(3, 64)).astype(np.float32)
        with pytest.raises(UntrustedError, match="sealed for ada: pass unseal="):
            mk.Rollout(registry, "toy")
        with mk.Rollout(registry, "toy", poll=1e-4, unseal=keys["ada"][0]) as rollout:
            assert rollout.predict(rows).shape == (3, 64)
            registry.set_alias("toy", "champion", "2", expected="1", reason="next")
            until(lambda: rollout.predict(rows) is not None and rollout.manifest.version == "2")

    def test_a_rollout_is_pickled_with_its_key_but_for_one_in_memory(
        self, registry, keys, rows, monkeypatch
    ):
        registry.set_alias("dense", "champion", "1", expected=None, reason="first")
        monkeypatch.chdir(keys["ada"][0].parent)
        with mk.Rollout(registry, "dense", unseal="ada.pem") as rollout:
            monkeypatch.chdir("/")
            with pickle.loads(pickle.dumps(rollout)) as again:
                assert np.array_equal(again.predict(rows), rollout.predict(rows))
        with mk.Rollout(registry, "dense", unseal=keys["ada"][0].read_bytes()) as rollout:
            with pytest.raises(TypeError, match="path of the key"):
                pickle.dumps(rollout)
            assert "PRIVATE" not in repr(rollout.__reduce__())

    def test_a_gate_judges_by_a_sealed_champion(self, judged_pair, judged_rows, keys, tmp_path):
        candidate, champion = judged_pair
        registry = mk.Registry(tmp_path / "models")
        out = tmp_path / "sealed.mk"
        mk.seal(champion, {"ada": keys["ada"][1]}, out=out)
        registry.register(out)
        registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
        asked = {"margin": 0.1, "registry": registry}
        with pytest.raises(UntrustedError, match="sealed for ada"):
            mk.gate(candidate, "registry:churn@champion", *judged_rows, **asked)
        verdict = mk.gate(
            candidate, "registry:churn@champion", *judged_rows, unseal=keys["ada"][0], **asked
        )
        assert verdict.decision == "promote"
        mk.seal(candidate, {"ada": keys["ada"][1]}, out=out)
        version = registry.register(out, verdict=verdict).version
        registry.set_alias(
            "churn",
            "champion",
            version,
            expected=verdict.generation,
            reason="gate",
            verdict=verdict,
        )
        assert registry.load("churn", unseal=keys["ada"][0]).verify() == 0


def test_a_signature_holds_for_the_sealed_package(toy, keys, tmp_path):
    private, public = key_pair(tmp_path)
    plain, out = tmp_path / "plain.mk", tmp_path / "sealed.mk"
    plain.write_bytes(toy)
    trust = mk.Trust([public])
    mk.sign(plain, private)
    mk.seal(plain, {"ada": keys["ada"][1]}, out=out)
    assert mk.load(out, trust=trust, unseal=keys["ada"][0]).verify() == 0
    (tmp_path / "sealed.mk.sig").unlink()
    asked = []
    with pytest.raises(UntrustedError, match="signed by 0"):
        mk.load(out, trust=trust, unseal=lambda *about: asked.append(about))
    assert not asked
    mk.sign(out, private)
    assert mk.load(out, trust=trust, unseal=keys["ada"][0]).verify() == 0
