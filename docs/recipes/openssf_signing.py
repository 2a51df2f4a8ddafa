"""A package that is signed and verified by model-signing of the OpenSSF, and opened by modelkit.

`pip install model-signing pyopenssl` (1.1.1 needs the second, and does not ask for it). Its keys are of ECDSA:

    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out release.pem
    openssl pkey -in release.pem -pubout -out release.pub

The same at the command line: `model_signing sign key churn.mk --private_key release.pem --signature churn.mk.bundle`
and `model_signing verify key churn.mk --public_key release.pub --signature churn.mk.bundle`.
"""

import shutil
import tempfile
from pathlib import Path

import model_signing

import modelkit as mk


def sign(package, private_key):
    """Write the signature to `<package>.bundle`."""
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=private_key)
    config.sign(package, f"{package}.bundle")


def load(package, public_key, **options):
    """Open a package that this key has signed. Raises ValueError for any other.

    A copy is verified and read, in a folder that only this user may write: nobody can change the file
    in between.
    """
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(package, folder))
        config.verify(copy, f"{package}.bundle")
        data = copy.read_bytes()
    return mk.load(data, digest=mk.inspect(data).digest, **options)
