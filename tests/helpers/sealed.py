"""Keys of recipients, and what becomes of sealed packages whose bits are flipped."""

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import modelkit as mk
from helpers.signers import private_pem, public_pem
from modelkit.errors import PackageError


def key_files(folder, name):
    """The paths of a new private key and of its public part."""
    key = X25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(private_pem(key))
    public.write_bytes(public_pem(key))
    return private, public


def opened_flips(data, unseal, count, seed=0):
    """How often a sealed package with one bit flipped still opened, of `count` bits anywhere in it."""
    rng = np.random.default_rng(seed)
    opened = 0
    for bit in rng.integers(0, 8 * len(data), count).tolist():
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            mk.load(bytes(changed), unseal=unseal, device="cpu", threads=1)
        except PackageError:
            continue
        opened += 1
    return opened
