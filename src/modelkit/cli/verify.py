"""`modelkit verify`: whether a package is whole, computes what was proven, and is signed."""

from __future__ import annotations

import argparse
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, add_consent, escaped, package


def add_verify(verbs: Any) -> None:
    """The arguments of `modelkit verify`."""
    about = "check the hashes, the golden rows and the signatures of a package"
    parser = add_command(verbs, "verify", run_verify, about, "file", "--registry", "--key")
    add_consent(parser)


def run_verify(args: argparse.Namespace) -> Printed:
    """Check a package, and say what was checked."""
    from modelkit.package.signing import check_signed, signatures_of

    path = package(args, args.file)
    trust = mk.Trust(args.key) if args.key else None
    with mk.load(
        path, digest=args.digest or None, allow=args.allow, trust=trust, unseal=args.unseal
    ) as model:
        manifest = model.manifest
        difference = model.verify()
    assert manifest is not None
    signers = check_signed(trust, manifest.digest, path)
    signed = f"right, by {', '.join(signers)}"
    if trust is None:
        signed = f"{len(signatures_of(path))} there, NOT checked: pass --key"
    return escaped(
        [
            f"{manifest.name} {manifest.version}, sha256:{manifest.digest}",
            f"  hashes       right, of {len(manifest.files)} files",
            f"  golden rows  right, largest relative difference {difference:.2g}",
            f"  signatures   {signed}",
        ]
    ), 0
