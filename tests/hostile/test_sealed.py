"""Attacks on sealed packages: whoever changes one without a key gets it refused, and so does whoever mixes several."""

import json

import numpy as np
import pytest
from helpers.forge import GRAPH, MANIFEST, WEIGHTS, forge, members_of, pack
from helpers.sealed import key_files, opened_flips

import modelkit as mk
from modelkit.errors import ContainerError, IntegrityError, PackageError, UntrustedError
from modelkit.package.sealing import CHUNK, TAG

SEALED = "sealed.json"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: key_files(folder, name) for name in ("ada", "ben")}


@pytest.fixture(scope="module")
def seal(keys, tmp_path_factory):
    """Seals a package, for Ada and Ben unless others are named; gives the bytes."""
    out = tmp_path_factory.mktemp("sealed") / "sealed.mk"

    def seal(source, *names):
        recipients = {name: keys[name][1] for name in names or keys}
        mk.seal(source, recipients, out=out)
        return out.read_bytes()

    return seal


@pytest.fixture(scope="module")
def small(toy, seal):
    return seal(toy)


@pytest.fixture(scope="module")
def large(wide_mk, seal):
    """Of ten chunks."""
    return seal(wide_mk)


@pytest.fixture
def refused(keys):
    """Opens a package with Ada's key: it is refused, in words."""

    def refuse(members, words, error=IntegrityError):
        data = members if isinstance(members, bytes) else pack(members)
        with pytest.raises(error, match=words):
            mk.load(data, unseal=keys["ada"][0], threads=1)

    return refuse


def with_block(data, **changes):
    """The members with another `sealed.json`, in the form that modelkit writes."""
    members = members_of(data)
    block = json.loads(members[SEALED]) | changes
    return members | {SEALED: json.dumps(block, sort_keys=True, indent=1).encode() + b"\n"}


def test_what_was_not_changed_opens(small, large, keys):
    for data in (small, large):
        assert pack(members_of(data)) == data
        assert mk.load(data, unseal=keys["ada"][0]).verify() == 0


def test_no_flipped_bit_gets_past(small, keys):
    assert opened_flips(small, keys["ada"][0], count=300) == 0


@pytest.mark.parametrize("path", [MANIFEST, SEALED])
def test_no_flipped_bit_of_what_is_in_clear_gets_past(path, small, keys):
    members = members_of(small)
    for at in range(0, len(members[path]), 7):
        changed = bytearray(members[path])
        changed[at] ^= 1 << at % 8
        with pytest.raises(PackageError):
            mk.load(pack(members | {path: bytes(changed)}), unseal=keys["ada"][0])


def test_a_member_opens_in_its_own_place_only(small, refused):
    members = members_of(small)
    paths = [path for path in members if path not in (MANIFEST, SEALED)]
    for one in paths:
        for other in paths:
            if one != other:
                refused(members | {one: members[other]}, f"{one!r} of the sealed package")


def test_a_chunk_opens_in_its_own_place_only(large, refused):
    members = members_of(large)
    weights = members[WEIGHTS]
    size = CHUNK + TAG
    first, second, last = (
        weights[:size],
        weights[size : 2 * size],
        weights[-(len(weights) % size) :],
    )
    for changed in (
        second + first + weights[2 * size :],
        first + first + weights[2 * size :],
        weights[: -len(last)],
        weights[: -len(last)] + first,
        weights[:-1],
        weights + b"x",
        weights + last,
        weights[:-TAG],
        b"",
    ):
        refused(members | {WEIGHTS: changed}, f"{WEIGHTS!r} of the sealed package")


def test_a_shorter_member_is_no_whole_one_whatever_the_manifest_says(large, refused):
    """The last chunk but one stands last, and sizes and hashes are made to fit it."""
    members = members_of(large)
    plain = json.loads(members[MANIFEST])
    kept = 3
    members[WEIGHTS] = members[WEIGHTS][: kept * (CHUNK + TAG)]
    for file in plain["files"]:
        if file["path"] == WEIGHTS:
            file["size"] = kept * CHUNK
    members[MANIFEST] = json.dumps(plain).encode()
    refused(members, "opens it for none", UntrustedError)


def test_the_parts_of_two_packages_do_not_mix(small, toy, seal, refused):
    """Two seals of one package, for the same people: members, the recipients, the whole block."""
    members, others = members_of(small), members_of(seal(toy))
    for path in members:
        if path not in (MANIFEST, SEALED):
            refused(members | {path: others[path]}, f"{path!r} of the sealed package")
    block = json.loads(others[SEALED])
    refused(members | {SEALED: others[SEALED]}, "of the sealed package was changed")
    refused(with_block(small, recipients=block["recipients"]), "opens it for none", UntrustedError)
    refused(with_block(small, id=block["id"]), "opens it for none", UntrustedError)
    refused(with_block(small, mac=block["mac"]), "recipients in sealed.json were changed")
    refused(
        with_block(small, recipients=block["recipients"], id=block["id"]),
        "recipients in sealed.json were changed",
    )


def test_recipients_are_neither_added_nor_dropped_nor_renamed(small, refused):
    recipients = json.loads(members_of(small)[SEALED])["recipients"]
    ada, ben = recipients["ada"], recipients["ben"]
    for changed in (
        {"ada": ada},
        {"ada": ada, "eve": ben},
        {"ada": ada, "ben": ben, "eve": ben},
        {"ada": ada, "ben": ada},
    ):
        refused(with_block(small, recipients=changed), "recipients in sealed.json were changed")
    refused(with_block(small, recipients={}), "not as modelkit writes it")
    for changed in ({"ben": ben}, {"ada": ben, "ben": ada}, {"Ada": ada}):
        refused(with_block(small, recipients=changed), "for none of them", UntrustedError)


def test_names_of_recipients_hold_no_control_characters(small, refused):
    for name in ("\x1b[2J", "a\nb", "", "a" * 65, "\ud800"):
        refused(with_block(small, recipients={name: "00"}), "not as modelkit writes it")


def test_another_manifest_has_no_key(small, refused):
    """Whoever changes name, hashes or signature needs to seal the package again."""
    for edit in (
        lambda plain: plain.update(version="2"),
        lambda plain: plain["metadata"].update(a=1),
        lambda plain: plain["files"][0].update(sha256="0" * 64),
    ):
        members = members_of(small)
        plain = json.loads(members[MANIFEST])
        edit(plain)
        refused(
            members | {MANIFEST: json.dumps(plain).encode()}, "for none of them", UntrustedError
        )


def test_a_plain_package_does_not_take_its_place(toy, small, refused):
    refused(toy, "the package is not sealed")
    members = members_of(small)
    del members[SEALED]
    refused(members, "the package is not sealed")
    plain = members_of(toy)
    refused(
        {MANIFEST: plain[MANIFEST], SEALED: members_of(small)[SEALED], **plain}, "of the sealed"
    )


def test_ciphertext_is_never_taken_for_a_graph(small):
    members = members_of(small)
    del members[SEALED]
    with pytest.raises(IntegrityError, match="has sha256"):
        mk.load(pack(members))


def test_a_sealed_package_that_lists_its_own_block_is_refused(toy, small, refused):
    """`sealed.json` is no member of a manifest, in whatever place."""
    block = members_of(small)[SEALED]
    listed = forge(toy, {SEALED: block})
    refused(listed, "the package is not sealed")
    members = members_of(listed)
    front = {MANIFEST: members[MANIFEST], SEALED: block, **members}
    with pytest.raises(IntegrityError, match="files differ"):
        mk.load(pack(front))
    members = members_of(small)
    last = {path: members[path] for path in (MANIFEST, GRAPH, WEIGHTS, "golden.npz", SEALED)}
    refused(last, "files differ")


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b'{"id": 1, "mac": "00", "recipients": {}}',
        b'{"id": "00", "mac": "00", "recipients": {}, "alg": "none"}',
        b'{"id": "00", "mac": "00", "recipients": {"a": "0"}}',
        b'{"id": "00", "mac": "00", "recipients": {"a": "\\ud800"}}',
        b'{"id": "00", "mac": "00", "recipients": {"\\u001b[2J": "00"}}',
        b'{"id": "\\ud800", "mac": "00", "recipients": {"a": "00"}}',
        b'{"id": "00", "mac": "\\u00e9", "recipients": {"a": "00"}}',
        b'{"id": "00", "id": "00", "mac": "00", "recipients": {"a": "00"}}',
        b'{"id": "00", "mac": "00", "recipients": {"a": "00"}}',  # but for its white space
        b"[" * 100_000,
        b'{"id": "' + b"00" * (1 << 20) + b'"}',
    ],
)
def test_a_block_that_modelkit_does_not_write_is_refused(block, small, refused):
    refused(members_of(small) | {SEALED: block}, "sealed.json")


def test_hexadecimal_digits_have_one_form(small, refused):
    members = members_of(small)
    for changed in (members[SEALED].upper(), members[SEALED].replace(b'"mac": "', b'"mac": " ')):
        refused(members | {SEALED: changed}, "sealed.json")


def test_a_thousand_recipients_are_tried(small, refused):
    """Their wrapped keys are garbage."""
    wrapped = np.random.default_rng(0).bytes(80).hex()
    for count, words, error in (
        (1_000, "for none of them", UntrustedError),
        (1_001, "not as modelkit writes it", IntegrityError),
    ):
        many = {f"r{i}": wrapped for i in range(count)}
        refused(with_block(small, recipients=many), words, error)


def test_a_recipient_of_the_attacker_leads_to_no_key(small, keys, refused):
    """Ada's public key is known, so anybody can wrap a key for her: the chunks do not open with it."""
    from modelkit.package.keys import public_key
    from modelkit.package.sealing import DataKey, Seal

    members = members_of(small)
    block = json.loads(members[SEALED])
    digest = mk.inspect(small).digest
    own = DataKey(bytes(32), block["id"], digest)
    recipients = {"ada": own.wrapped_for("ada", public_key(keys["ada"][1], "x25519"))}
    members[SEALED] = Seal(block["id"], own.mac(recipients), recipients).to_json()
    refused(members, f"{GRAPH!r} of the sealed package was changed")


def test_a_member_of_fewer_bytes_than_none_is_refused(small, keys, refused):
    """Anybody can seal, and lie about sizes."""
    from modelkit.package.keys import public_key
    from modelkit.package.sealing import DataKey, Seal

    members = members_of(small)
    plain = json.loads(members[MANIFEST])
    plain["files"][0]["size"] = -TAG // 2
    members[MANIFEST] = json.dumps(plain).encode()
    own = DataKey(bytes(32), "00", mk.inspect(pack(members)).digest)
    recipients = {"ada": own.wrapped_for("ada", public_key(keys["ada"][1], "x25519"))}
    members[SEALED] = Seal("00", own.mac(recipients), recipients).to_json()
    members[GRAPH] = members[GRAPH][: TAG // 2]
    refused(members, f"{GRAPH!r} of the sealed package was changed")


def test_a_sealed_package_is_as_strict_a_container(small, refused):
    for data in (small[:-1], small + b"x", b"x" + small):
        refused(data, "package", ContainerError)


def test_reading_without_a_key_finds_damage(small):
    members = members_of(small)
    assert mk.inspect(small).digest == mk.inspect(pack(members)).digest
    with pytest.raises(UntrustedError):
        mk.load(small)
