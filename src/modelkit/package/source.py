"""Where a package is read from, what it says about itself, and whether its bytes are those it names."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

from modelkit.errors import ContainerError, IntegrityError
from modelkit.model.manifest import Manifest, Member
from modelkit.package import container
from modelkit.package.contents import MANIFEST, Options, check_members, is_sealed, read_options


class Reference(ABC):
    """Says where a package is, for other processes and machines too: it is pickled as that."""

    @abstractmethod
    def read(self) -> bytes:
        """The package; the same at each call."""

    def signatures(self) -> bytes | None:
        """What the file of its signatures holds, as `mk.sign` writes it; None where there is none."""
        return None


Openable = Reference | str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]


def inspect(source: Openable) -> Manifest:
    """Read what a package says about itself, without hashing its content or running anything.

        mk.inspect("churn.mk").signature

    Args:
        source: a path, the bytes of a package, or a binary file object, as `load` takes it.

    Returns:
        The manifest, with name, version, signature, digest and metadata.

    Raises:
        PackageError: for anything but a package, and one whose manifest cannot be read.
        OSError: for a file that cannot be read.
    """
    return read_manifest(container.read_zip(open_bytes(source)))[0]


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
        data = memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(handle)
    if data[:4] != container.LOCAL_MAGIC:
        raise ContainerError(
            f"{os.fspath(source)!r} is not a modelkit package, as mk.save writes one: a .mk file "
            "starts with a zip member"
        )
    return data


def _no_file(status: os.stat_result) -> str:
    """What stands in place of a regular file, and what to do."""
    if stat.S_ISDIR(status.st_mode):
        return (
            "a folder, and a package is one file: take it from a registry by "
            "mk.Registry(folder).reference(name, alias), or save a folder of weights first, by "
            "mk.save(mk.TextEncoder.from_directory(folder), path)"
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


def read_manifest(members: Mapping[str, bytes | memoryview]) -> tuple[Manifest, Options]:
    """The manifest of a package, which lists the members that are there, and its options as the runtime reads them.

    Raises PackageError.
    """
    paths = list(members)
    if not paths or paths[0] != MANIFEST:
        raise ContainerError(
            f"the first member must be {MANIFEST}; this is another kind of zip file"
        )
    manifest = Manifest.from_json(bytes(members[MANIFEST]))
    options = read_options(manifest)
    listed = [member.path for member in manifest.files]
    there = paths[1 + is_sealed(paths) :]
    if listed != there:
        odd = sorted(set(listed) ^ set(there)) or listed
        raise IntegrityError(f"the members and the manifest's files differ: {odd}", members=odd)
    check_members(manifest, listed)
    return replace(manifest, about=str(options or "")), options


def read_verified(data: memoryview) -> tuple[Manifest, dict[str, memoryview]]:
    """The manifest of a package, and its members, whose hashes were found right.

    Of a sealed package, the checksums of its ciphertext: the hashes are of what is within.
    """
    members = container.read_zip(data)
    manifest, _ = read_manifest(members)
    if is_sealed(members):
        container.read_zip(data, checked=len(members))
    else:
        check_hashes(members, manifest.files)
    return manifest, members


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


def check_digest(
    manifest: Manifest, digest: str | Collection[str] | None, source: object = None
) -> None:
    """Raise IntegrityError if the package has another digest than those that were asked for.

    `source` is where the package was read, for the message.
    """
    if digest is not None and manifest.digest not in plain_digests(digest):
        given = [digest] if isinstance(digest, str) else [*digest]
        asked = (
            f"the {given[0]} that was" if len(given) == 1 else f"one of the {len(given)} that were"
        )
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
