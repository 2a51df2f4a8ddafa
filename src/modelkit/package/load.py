"""Open a package: map the file, check it, and hand the graph and its weights to the runtime where they lie."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import IO, Any

from modelkit.device import DeviceName
from modelkit.errors import ContainerError, IntegrityError
from modelkit.manifest import Manifest
from modelkit.model import Model
from modelkit.package import container, scan, trust

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]

MANIFEST = "modelkit.json"
GRAPH = "model/model.onnx"
WEIGHTS = "model/model.onnx.data"
WEIGHTS_NAME = "model.onnx.data"
NATIVE = "native/model.joblib"
L2_BYTES = 2 << 20


def load(
    source: Source,
    *,
    device: DeviceName = "auto",
    threads: int | str = "auto",
    digest: str | None = None,
    allow: Collection[str] = (),
) -> Model:
    """Open a package and return its Model. Nothing is written to disk.

    No code from a package runs, but for one whose estimator is pickled (`save(..., format="joblib")`): that opens only
    where you pass both `digest` and `allow={"joblib"}`.

    Args:
        source: a path, the bytes of a package, or a binary file object (read to its end).
        device: "auto" for the first usable of GPU and CPU, which `Model.placement` then names; a name such as "cpu",
            "cuda" or "cuda:1", as `modelkit.devices()` lists them; or a list of names to try in this order.
        threads: how many CPU threads the model may use; "auto" is every CPU this process may use, shared by the
            worker processes that the environment variable WEB_CONCURRENCY tells of.
        digest: the sha256 of the manifest, as `inspect(source).digest` shows it; anything else is refused.
        allow: what you accept beyond the default: "joblib", and domains of ONNX operators such as "com.example".

    Raises:
        PackageError: what is wrong with the file; its subclasses tell container, manifest, integrity, graph, and
            UntrustedError what you would have to pass. Of a joblib package also: which versions it needs.
        DeviceError: if the device or number of threads cannot be had, with the reasons and what to install.
        TypeError, ValueError: if `allow` is a bare string, or holds something else.
        MissingExtraError: if onnxruntime is not installed.
    """
    allowed = trust.check_allow(allow)
    members = container.read(open_bytes(source))
    manifest = read_manifest(members)
    if digest is not None and digest.removeprefix("sha256:") != manifest.digest:
        raise IntegrityError(
            f"the package has digest {manifest.digest}, not the {digest} that was asked for",
            expected=digest,
            got=manifest.digest,
        )
    known: dict[str, Any] = {
        "device": device,
        "threads": threads,
        "manifest": manifest,
        "attachments": attachments(members, manifest),
        "origin": _origin(source, device=device, threads=threads, digest=manifest.digest, allow=allowed),
    }
    if manifest.runtime == "joblib":
        trust.check_trusted(digest, allowed)
        return _load_joblib(members, manifest, known)
    # Hashing releases the GIL, so it runs beside the import of the runtime.
    failures: list[Exception] = []
    hashing = threading.Thread(target=_hash, args=(members, manifest, failures), name="modelkit-hash")
    hashing.start()
    try:
        from modelkit.runtimes.onnx import OnnxModel
    finally:
        hashing.join()
    if failures:
        raise failures[0]
    weights = members.get(WEIGHTS)
    domains = allowed - {trust.JOBLIB}
    scan.check(members[GRAPH], WEIGHTS_NAME, None if weights is None else len(weights), domains=domains)
    return OnnxModel(members[GRAPH], manifest.signature, weights=weights, chunk=chunk_rows(manifest), **known)


def _load_joblib(members: Mapping[str, memoryview], manifest: Manifest, known: dict[str, Any]) -> Model:
    """Open a package whose digest the caller has pinned, and whose code the caller has allowed."""
    pickled = memoryview(bytes(members[NATIVE]))  # a copy: the file may be written to between its hash and its use
    failures: list[Exception] = []
    _hash({**members, NATIVE: pickled}, manifest, failures)
    if failures:
        raise failures[0]
    trust.check_requires(manifest.requires)
    from modelkit.runtimes.joblib import JoblibModel

    return JoblibModel(pickled, manifest.signature, **known)


def _origin(source: Source, **options: Any) -> partial[Model] | None:
    """What opens the same package again, in another process as well; None for what has no path."""
    if not isinstance(source, str | os.PathLike):
        return None
    return partial(load, os.path.abspath(source), **options)  # noqa: PTH100 - as in open_bytes


def inspect(source: Source) -> Manifest:
    """Read what a package says about itself, without hashing its content or running anything.

    Raises PackageError, as `load` does.
    """
    return read_manifest(container.read(open_bytes(source)))


def attachments(members: Mapping[str, memoryview], manifest: Manifest) -> Mapping[str, memoryview]:
    """The attachments of a package by name, as views of the file."""
    return MappingProxyType({a.name: members[a.path] for a in manifest.attachments})


def chunk_rows(manifest: Manifest) -> int | None:
    """How many rows to run at once: what keeps the tensors of one run in the second-level cache.

    None for a graph whose rows were not shown to be independent of each other.
    """
    if not manifest.parity.batch_invariant:
        return None
    return min(max(L2_BYTES // max(manifest.row_bytes, 1), 256), 16384)


def open_bytes(source: Source) -> memoryview:
    """A package as bytes; a file is mapped."""
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).toreadonly().cast("B")
    if not isinstance(source, str | os.PathLike):
        return memoryview(_read_all(source))
    with open(source, "rb") as file:  # noqa: PTH123 - pathlib takes 4 ms to import
        if os.fstat(file.fileno()).st_size == 0:
            raise ContainerError(f"{os.fspath(source)!r} is empty, not a modelkit package")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _read_all(file: Any) -> bytes:
    data = file.read()
    if not isinstance(data, bytes):
        raise TypeError(f"a package is read from a path, bytes or a binary file object, not {type(file).__name__}")
    return data


def read_manifest(members: Mapping[str, memoryview]) -> Manifest:
    """The manifest of a package, which lists the members that are there. Raises PackageError."""
    if next(iter(members), None) != MANIFEST:
        raise ContainerError(f"the first member must be {MANIFEST}; this is another kind of zip file")
    manifest = Manifest.from_json(bytes(members[MANIFEST]))
    listed = [member.path for member in manifest.files]
    if listed != list(members)[1:]:
        odd = sorted(set(listed) ^ set(list(members)[1:])) or listed
        raise IntegrityError(f"the members and the manifest's files differ: {odd}", members=odd)
    strays = {a.path for a in manifest.attachments} - set(listed)
    needed = NATIVE if manifest.runtime == "joblib" else GRAPH
    if strays or needed not in listed:
        raise IntegrityError(f"the package lacks {sorted(strays) or needed}", members=sorted(strays))
    return manifest


def _hash(members: Mapping[str, memoryview], manifest: Manifest, failures: list[Exception]) -> None:
    for member in manifest.files:
        data = members[member.path]
        got = hashlib.sha256(data).hexdigest()
        if len(data) != member.size or got != member.sha256:
            failures.append(
                IntegrityError(
                    f"member {member.path!r} has sha256 {got} and {len(data)} bytes, the manifest says "
                    f"{member.sha256} and {member.size}: the file was changed or damaged",
                    member=member.path,
                )
            )
            return
