"""Keys come from paths, the environment, bytes and the library; what is no such key is refused by name."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from modelkit.errors import UsageError
from modelkit.package.keys import key_id, lasting, private_key, public_key

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo
KINDS = {"ed25519": Ed25519PrivateKey, "x25519": X25519PrivateKey}


def private_pem(key, password=None):
    how = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(PEM, PKCS8, how)


def public_pem(key):
    return key.public_key().public_bytes(PEM, PUBLIC)


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_key_is_read_from_each_place(algorithm, tmp_path, monkeypatch):
    key = KINDS[algorithm].generate()
    pem = private_pem(key)
    path = tmp_path / "key.pem"
    path.write_bytes(pem)
    monkeypatch.setenv("A_KEY", pem.decode())
    wanted = key_id(key.public_key())
    for given in (key, pem, path, str(path), "env:A_KEY"):
        assert key_id(private_key(given, algorithm).public_key()) == wanted
    for given in (key.public_key(), public_pem(key)):
        assert key_id(public_key(given, algorithm)) == wanted


def test_what_is_no_such_key_is_refused(tmp_path):
    signing = Ed25519PrivateKey.generate()
    for given, message in (
        (
            b"no key",
            "the key is not a private key of Ed25519, but a text that cannot be read as one",
        ),
        (X25519PrivateKey.generate(), "private key of Ed25519, but X25519PrivateKey"),
        (private_pem(X25519PrivateKey.generate()), "private key of Ed25519, but X25519PrivateKey"),
        (
            private_pem(generate_private_key(SECP256R1())),
            "but _EllipticCurvePrivateKey|but ECPrivateKey",
        ),
        (
            public_pem(signing),
            "the key is not a private key of Ed25519, but a public key; `openssl",
        ),
        (private_pem(signing, b"secret"), "under a password"),
        (signing.public_key(), "private key of Ed25519"),
        (None, "but NoneType"),
        ("env:NO_SUCH_VARIABLE", "variable 'NO_SUCH_VARIABLE', .* is not set"),
    ):
        with pytest.raises(UsageError, match=message):
            private_key(given, "ed25519")
    (tmp_path / "release.pem").write_bytes(private_pem(signing))
    for given, message in (
        (
            tmp_path / "release.pem",
            r"release.pem' is not a public key of Ed25519, but a private key;",
        ),
        (signing, "public key"),
        (b"", "public key"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            public_key(given, "ed25519")
        assert "cryptography" not in str(error.value)  # whose own words are about its functions
    with pytest.raises(FileNotFoundError):
        private_key(tmp_path / "none.pem", "ed25519")


def test_the_text_of_a_key_is_no_path():
    """Its error would show it, and what is pickled with it would hold it."""
    text = private_pem(X25519PrivateKey.generate()).decode()
    for use in (lasting, lambda text: private_key(text, "x25519")):
        with pytest.raises(UsageError, match="text of a key was passed") as error:
            use(text)
        assert text.splitlines()[1] not in f"{error.value!r}{error.value.__context__!r}"
