"""Files and objects that are created once: a folder, or a bucket of objects."""

from __future__ import annotations

import os
import re

from modelkit.errors import UsageError, without_credentials
from modelkit.store.store import Store

BUCKETS = ("s3://", "gs://", "az://")
MISSPELT = re.compile(r"(s3|gs|az)(?::|//)[:/]*(.*)", re.IGNORECASE)
URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/")  # of two letters or more: one is a disk of Windows


def open_store(where: str | os.PathLike[str]) -> Store:
    """The store at a path or a URL. Raises UsageError for a mistyped URL."""
    text = os.fspath(where)
    if text.startswith(BUCKETS):
        from modelkit.store.bucket import Bucket

        return Bucket(text)
    check_folder(text)
    from modelkit.store.folder import DiskFolder

    return DiskFolder(text)


def check_folder(text: str) -> None:
    """Raise UsageError for what would be a folder of a strange name, and is a URL that is misspelt."""
    kinds = "a registry is a folder or a bucket (s3://..., gs://..., az://...)"
    if not text:
        raise UsageError(f"{kinds}, not {text!r}; '.' is the folder that you are in")
    text = without_credentials(text)
    found = MISSPELT.match(text)
    if found is not None:
        scheme, rest = found.groups()
        raise UsageError(
            f"{kinds}, not {text!r}: is it {scheme.lower()}://{rest}? A pathlib.Path loses a slash "
            f"of a URL, so pass a string. A folder of this name is ./{text}"
        )
    if not URL.match(text):
        return
    fix = (
        "give the path of a folder as it is"
        if text.startswith("file:")
        else (
            "give a bucket by its own URL, such as s3://bucket/path, and the address of its service in "
            "the environment, such as AWS_ENDPOINT_URL"
        )
    )
    raise UsageError(f"{kinds}, not {text!r}: {fix}")
