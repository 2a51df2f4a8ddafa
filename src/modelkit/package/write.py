"""Put the file of a package, or a copy of one, in place in a single step."""

from __future__ import annotations

import hashlib
import os
from errno import ENOENT
from pathlib import Path

from modelkit.errors import PackageError, UsageError
from modelkit.model.manifest import Manifest, Member
from modelkit.package import container
from modelkit.package.contents import MANIFEST, WEIGHTS_MEMBER

OTHER_FORMATS = (".onnx", ".pkl", ".pickle", ".joblib")


def write_package(
    path: str | os.PathLike[str], manifest: Manifest, members: container.Members
) -> Manifest:
    """Write manifest and members as one file, and return the manifest with its digest.

    `members` are all others than the manifest, by path, in the order of `manifest.files`.
    """
    raw = manifest.to_json()
    written = Manifest.from_json(raw)  # one that no reader takes is not written
    replace_file(Path(path), {MANIFEST: raw, **members})
    return written


def member_of(path: str, data: bytes | memoryview) -> Member:
    """What the manifest says of a member."""
    return Member(path, len(data), hashlib.sha256(data).hexdigest())


def replace_file(path: Path, members: container.Members) -> None:
    """Write beside the target, flush to disk, and rename over it.

    A reader sees the old file or the new one. A symbolic link stays, and the file that it names is
    the target. Raises PackageError for a file that nobody may write, as in a registry.
    """
    import tempfile  # a process that only loads does without

    from modelkit.store.folder import flush_folder

    check_target(path)
    path = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in container.write_zip(members, aligned=frozenset({WEIGHTS_MEMBER})):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp gives 0600, and a package is for others to read.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_file(target: Path, data: bytes) -> None:
    """Write a copy in one step: whoever opens it sees all of it or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{os.urandom(16).hex()}.tmp"
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Refuse a name of another format, a folder that is not there, and a file that nobody may write.

    Raises UsageError, FileNotFoundError and PackageError for these.
    """
    if path.suffix.lower() in OTHER_FORMATS:
        raise UsageError(
            f"{str(path)!r} has the suffix of another format, but a package is a zip file, which "
            f"readers of {path.suffix} cannot open: write {path.stem + '.mk'!r}"
        )
    path = Path(os.path.realpath(path))
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(
            ENOENT, "the folder to write the package to does not exist", str(folder)
        )
    if path.exists() and not path.stat().st_mode & 0o222:
        raise PackageError(
            f"{str(path)!r} is read-only, as the files of a registry are, which never change; write "
            "to another path, under a new version"
        )
