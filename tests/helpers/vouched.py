"""An attack that is signed by a key that is trusted, or sealed for who opens it."""

from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import modelkit as mk
from helpers.signers import private_pem, public_pem
from modelkit.errors import PackageError

SIGNER = Ed25519PrivateKey.generate()
RECIPIENT = X25519PrivateKey.generate()


def vouched(path):
    """The paths of a package that is signed, and of one that is sealed, with what the warden opens them by.

    Neither, where its container, manifest or hashes are wrong: nothing signs or seals that.
    """
    found = []
    with suppress(PackageError):
        mk.sign(path, SIGNER)
        found.append((path, {"trust": public_pem(SIGNER).decode()}))
    with suppress(PackageError):
        sealed = path.with_name(f"sealed-{path.name}")
        mk.seal(path, {"us": RECIPIENT.public_key()}, out=sealed)
        found.append((sealed, {"unseal": private_pem(RECIPIENT).decode()}))
    return found
