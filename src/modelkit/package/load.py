"""Open a package: map the file, check it, and hand graph and weights to the runtime.

Large weights are used where they lie in the file.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import IO, Any

from modelkit.errors import ContainerError, IntegrityError
from modelkit.events import Loaded, emit
from modelkit.model.manifest import WEIGHTS_REF, Manifest, Member
from modelkit.model.model import Model
from modelkit.package import container, scan, trust
from modelkit.package.contents import (
    GRAPH,
    MANIFEST,
    NATIVE,
    WEIGHTS_MEMBER,
    Options,
    check_members,
    graph_model,
    read_options,
    weights_of,
)
from modelkit.package.scanned import Scan
from modelkit.runtimes.devices import DeviceName
from modelkit.runtimes.packaged import Packaged


class Reference(ABC):
    """Says where a package is, for other processes and machines too: it is pickled as that."""

    @abstractmethod
    def read(self) -> bytes:
        """The package; the same at each call."""


Openable = Reference | str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]

HELD_BYTES = 4 << 20


def load(
    source: Openable,
    *,
    device: DeviceName = "auto",
    threads: int | str = "auto",
    digest: str | Collection[str] | None = None,
    allow: Collection[str] = (),
    extra: str = "refuse",
) -> Model:
    """Open a package and return its Model. Nothing is written to disk.

        model = mk.load("churn.mk")
        model.predict(rows)

    No code from a package runs, except from one whose estimator is pickled (`save(...,
    format="joblib")`): that opens only where you pass both `digest` and `allow={"joblib"}`.

    Args:
        source: a path, the bytes of a package, or a binary file object (read to its end).
        device: "auto" for the first usable of GPU and CPU, which `Model.placement` then names; a
            name such as "cpu", "cuda" or "cuda:1", as `modelkit.devices()` lists them; or a list of
            names to try in this order.
        threads: how many CPU threads the model may use; "auto" is every CPU this process may use,
            shared by as many worker processes as the environment variable WEB_CONCURRENCY names.
        digest: the sha256 of the manifest, as `inspect(source).digest` shows it, in either case
            and with or without "sha256:", or a list of several; a package of any other is refused.
        allow: what you accept beyond the default: "joblib", and domains of ONNX operators such as
            "com.example".
        extra: "ignore" for callers whose rows have more columns than the model was trained with;
            with "refuse", such rows raise SignatureError. Columns that the model was trained with
            and does not read may be sent or not, either way.

    Raises:
        PackageError: if the file cannot be opened; its subclass names the part at fault. An
            UntrustedError says what you would have to pass, and the error of a joblib package
            which versions it needs.
        DeviceError: if the device cannot be had, with the reasons and what to install.
        UsageError: for an unknown device or entry of `allow`, and for a number of threads below 1.
        TypeError: for an `allow` or a digest of another type.
        MissingExtraError: if onnxruntime is not installed.
    """
    start = time.perf_counter()
    allowed = trust.check_allow(allow)
    views = container.read_zip(open_bytes(source))
    stored, options = _read_whole(views)
    manifest = _read_by(extra, stored)
    check_digest(manifest, digest, source)
    if manifest.runtime == "joblib":
        trust.check_trusted(digest, allowed)
    members = _hold(views)
    where = {"device": device, "threads": threads}
    origin = _origin(source, **where, digest=manifest.digest, allow=allowed, extra=extra)
    keywords: dict[str, Any] = {
        **where,
        "packaged": Packaged(manifest, attachments(members, manifest), origin),
    }
    if manifest.runtime == "joblib":
        model = _load_joblib(members, manifest, keywords)
    else:
        model = _load_graph(members, manifest, options, allowed, keywords)
    emit(_loaded(model, manifest, time.perf_counter() - start))
    return model


def _loaded(model: Model, manifest: Manifest, seconds: float) -> Loaded:
    where = model.placement
    return Loaded(
        name=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        device="" if where is None else where.device,
        threads=0 if where is None else where.threads,
        seconds=seconds,
        at=time.time() if where is None else where.since,
    )


def _read_by(extra: str, manifest: Manifest) -> Manifest:
    """A manifest whose signature reads rows as the caller wants them read."""
    return replace(manifest, signature=replace(manifest.signature, extra=extra))


def check_digest(
    manifest: Manifest, digest: str | Collection[str] | None, source: object = None
) -> None:
    """Raise IntegrityError if the package has another digest than those that were asked for.

    `source` is where the package was read, for the message.
    """
    if digest is not None and manifest.digest not in plain_digests(digest):
        one, *more = [digest] if isinstance(digest, str) else digest or [""]
        asked = f"one of the {1 + len(more)} that were" if more else f"the {one} that was"
        asked = asked if one else "one of none that were"
        raise IntegrityError(
            f"{_called(source)} has digest {manifest.digest}, not {asked} asked for: it was "
            f"changed, or is another one. It says that it is {manifest.name} "
            f"{manifest.version}; if that is the one you mean, ask for its digest (of a Scorer: "
            "make it again); if not, put the other one back",
            expected=digest,
            got=manifest.digest,
        )


def _called(source: object) -> str:
    """A package in a message: where it lies, if that has a name."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fspath(source))
    return repr(source) if isinstance(source, Reference) else "the package"


def plain_digests(digest: str | Collection[str]) -> set[str]:
    """The digests that a caller gave, one or several, as manifests have them: 64 digits each.

    They may begin with "sha256:", and have letters in either case. Raises TypeError for others.
    """
    given = [digest] if isinstance(digest, str) else digest
    if not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise TypeError(
            "digest is a text of 64 hexadecimal digits, or a list of such texts, not "
            f"{type(digest).__name__}: {digest!r:.80}"
        )
    return {each.lower().removeprefix("sha256:") for each in given}


def _load_graph(
    members: container.Members,
    manifest: Manifest,
    options: Options,
    allowed: frozenset[str],
    keywords: dict[str, Any],
) -> Model:
    """Open a package of a graph, which is read once its hash was found right.

    Hashing releases the GIL, so it runs beside the import of the runtime. Weights are numbers,
    whatever they are: the session is built beside the hash of theirs, and nobody gets to see it
    unless that is right too.
    """
    weights = weights_of(members)
    others = {member.path: member for member in manifest.files}
    large = [others.pop(WEIGHTS_MEMBER)] if weights is not None else []
    wait_for_weights = _start_hash(members, large)
    wait_for_others = _start_hash(members, [*others.values()])
    try:
        # Imported beside the hashes: the runtime takes a tenth of a second.
        from modelkit.runtimes import onnx  # noqa: F401
        from modelkit.runtimes.machine import release

        wait_for_others()
        found = scan_graph(members, allowed - {trust.JOBLIB})
        keywords |= {"endless": found.endless, "folded": found.folding.limit}
        model = graph_model(members, manifest, options, keywords)
    finally:
        wait_for_weights()
    release(weights)
    return model


def scan_graph(members: container.Members, domains: Collection[str] | None) -> Scan:
    """What is in the graph of a package. Raises GraphError for what it may not hold.

    `domains` are of operators, as `scan.check_graph` takes them.
    """
    weights = weights_of(members)
    size = None if weights is None else len(weights)
    return scan.check_graph(members[GRAPH], WEIGHTS_REF, size, domains=domains)


def _load_joblib(members: container.Members, manifest: Manifest, keywords: dict[str, Any]) -> Model:
    """Open a package whose digest the caller has pinned, and whose code the caller has allowed."""
    check_hashes(members, manifest.files)
    trust.check_requires(manifest.requires)
    from modelkit.runtimes.joblib import JoblibModel

    return JoblibModel(members[NATIVE], manifest.signature, **keywords)


def _origin(source: Openable, **keywords: Any) -> partial[Model] | None:
    """What opens the same package again, in another process too; None where nothing does."""
    if isinstance(source, Reference):
        return partial(load, source, **keywords)
    if not isinstance(source, str | os.PathLike):
        return None
    return partial(load, os.path.abspath(source), **keywords)


def inspect(source: Openable) -> Manifest:
    """Read what a package says about itself, without hashing its content or running anything.

        mk.inspect("churn.mk").signature

    Args:
        source: a path, the bytes of a package, or a binary file object, as `load` takes it.

    Raises:
        PackageError: for anything but a package, and one whose manifest cannot be read.
        OSError: for a file that cannot be read.
    """
    return read_manifest(container.read_zip(open_bytes(source)))


def _hold(views: Mapping[str, memoryview]) -> container.Members:
    """The members as they are now, whoever writes to the file: what is hashed is what is used.

    Large weights alone stay where they lie, so that processes share them.
    """
    return {
        path: view if path == WEIGHTS_MEMBER and len(view) > HELD_BYTES else bytes(view)
        for path, view in views.items()
        if path != MANIFEST
    }


def attachments(members: container.Members, manifest: Manifest) -> Mapping[str, memoryview]:
    """The attachments of a package by name."""
    return MappingProxyType({a.name: memoryview(members[a.path]) for a in manifest.attachments})


def _begun(data: memoryview, source: str | os.PathLike[str]) -> memoryview:
    """The bytes of a file that begins as a package. Raises ContainerError, with its path."""
    if data[:4] != container.LOCAL_MAGIC:
        raise ContainerError(
            f"{os.fspath(source)!r} is not a modelkit package, as mk.save writes one: a .mk file "
            "starts with a zip member"
        )
    return data


def open_bytes(source: Openable) -> memoryview:
    """A package as bytes; a file is mapped."""
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).toreadonly().cast("B")
    if isinstance(source, Reference):
        return memoryview(source.read())
    if not isinstance(source, str | os.PathLike):
        return memoryview(_read_all(source))
    # A pipe would be waited for, and a device could be set off by opening it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(source, flags)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ContainerError(f"{os.fspath(source)!r} is {_no_file(status)}")
        if status.st_size == 0:
            raise ContainerError(f"{os.fspath(source)!r} is empty, not a modelkit package")
        return _begun(memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ)), source)
    finally:
        os.close(handle)


def _no_file(status: os.stat_result) -> str:
    """What a place is that is no regular file, and what to do."""
    if stat.S_ISDIR(status.st_mode):
        return (
            "a folder; a package is one file, find the one of a registry by "
            "mk.Registry(folder).reference(name, alias)"
        )
    return "not a regular file; read a pipe and pass its file object"


def _read_all(file: Any) -> bytes:
    """The rest of a file object, which may give it in several parts."""
    parts: list[bytes] = []
    read = getattr(file, "read", None)
    while part := None if read is None else read():
        if not isinstance(part, bytes):
            read = None
            break
        parts.append(part)
    if read is None:
        raise TypeError(
            "a package is read from a path, bytes or a binary file object, not "
            f"{type(file).__name__}; mk.save writes a model as a package"
        )
    return b"".join(parts)


def read_manifest(members: Mapping[str, bytes | memoryview]) -> Manifest:
    """The manifest of a package, which lists the members that are there. Raises PackageError."""
    return _read_whole(members)[0]


def _read_whole(members: Mapping[str, bytes | memoryview]) -> tuple[Manifest, Options]:
    """The manifest, and its options as the runtime reads them. Raises PackageError."""
    paths = list(members)
    if not paths or paths[0] != MANIFEST:
        raise ContainerError(
            f"the first member must be {MANIFEST}; this is another kind of zip file"
        )
    manifest = Manifest.from_json(bytes(members[MANIFEST]))
    options = read_options(manifest)
    listed = [member.path for member in manifest.files]
    if listed != paths[1:]:
        odd = sorted(set(listed) ^ set(paths[1:])) or listed
        raise IntegrityError(f"the members and the manifest's files differ: {odd}", members=odd)
    check_members(manifest, listed)
    return replace(manifest, about=str(options or "")), options


def _start_hash(members: container.Members, files: Sequence[Member]) -> Callable[[], None]:
    """Hash members in a thread.

    The function that is returned waits for it, and raises what the thread raised: IntegrityError
    where a hash differs, and whatever kept it from reading a member.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            check_hashes(members, files)
        except BaseException as error:  # what was not checked is not trusted
            failures.append(error)

    def finish() -> None:
        thread.join()
        if failures:
            raise failures[0]

    if not files:
        return lambda: None
    thread = threading.Thread(target=run, name="modelkit-hash")
    thread.start()
    return finish


def check_hashes(members: Mapping[str, bytes | memoryview], files: Sequence[Member]) -> None:
    """Raise IntegrityError unless each member has the size and the hash of the manifest."""
    for member in files:
        data = members[member.path]
        got = hashlib.sha256(data).hexdigest()
        if len(data) != member.size or got != member.sha256:
            raise IntegrityError(
                f"member {member.path!r} has sha256 {got} and {len(data)} bytes, the manifest says "
                f"{member.sha256} and {member.size}: the file was changed or damaged",
                member=member.path,
            )
