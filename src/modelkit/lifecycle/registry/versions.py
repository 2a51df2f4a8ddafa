"""The versions in a store: packages that never change, and what is kept beside them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, NoReturn, final

from modelkit.errors import (
    Conflict,
    IntegrityError,
    NotFound,
    PackageError,
    RegistryError,
    UntrustedError,
    UsageError,
)
from modelkit.lifecycle.registry.authors import author, time_now
from modelkit.lifecycle.registry.places import nothing_there, removed
from modelkit.lifecycle.registry.releases import ModelVersion, parents_of, read_release
from modelkit.lifecycle.registry.rules import record_digest
from modelkit.model.manifest import NAME_PATTERN, VERSION_PATTERN, Manifest
from modelkit.model.model import Model
from modelkit.package import container
from modelkit.package.contents import is_sealed
from modelkit.package.load import load
from modelkit.package.signing import (
    PackageSignature,
    Trust,
    check_signed,
    copy_signatures,
    read_signatures,
    write_signatures,
)
from modelkit.package.source import (
    Reference,
    check_digest,
    inspect,
    open_bytes,
    plain_digests,
    read_verified,
)
from modelkit.package.write import write_file
from modelkit.report import html
from modelkit.signature.compatible import incompatibilities
from modelkit.store import open_store
from modelkit.store.store import Store

KEY_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERDICT = "verdict.json"
MOST_SIGNATURES = 1000  # of a package, each in a file of its own
SIGNATURE_BYTES = 4096


@final
class Versions:
    """The packages of a store, by name and version. Aliases are not known here."""

    def __init__(self, store: Store, trust: Trust | None = None) -> None:
        if not isinstance(trust, Trust | None):
            raise TypeError(f"trust is a mk.Trust of public keys, not {type(trust).__name__}")
        self._store = store
        self.trust = trust

    def names(self) -> tuple[str, ...]:
        """The names of the models, in the order of the alphabet."""
        return tuple(name for name in self._store.folders("models") if NAME_PATTERN.fullmatch(name))

    def of(self, name: str) -> list[str]:
        """The versions of a model, in the order of their names."""
        check_pattern(NAME_PATTERN, "name", name)
        files = self._store.names(f"models/{name}/versions")
        found = [file.removesuffix(".json") for file in files if file.endswith(".json")]
        return [version for version in found if VERSION_PATTERN.fullmatch(version)]

    def all(self, name: str) -> list[ModelVersion]:
        """What is known of each version of a model. Raises NotFound without one."""
        beside = {*self._store.folders(f"models/{name}/kept")}
        found = (self.read(name, version, alone=version not in beside) for version in self.of(name))
        there = [release for release in found if release is not None]
        if not there:
            names = self.names()
            why = f"{self._store.url} has no model {name!r}; it has: {html.some(names)}"
            raise NotFound(why if names else nothing_there(self._store.url), name=name, which="")
        return there

    def miss(
        self, name: str, which: str, version: str, aliases: Collection[str], *, gone: bool
    ) -> NoReturn:
        """Raise NotFound for a version, named by itself or by an alias, with what there is."""
        known = [*aliases, *self.of(name)]
        if not known:
            self.all(name)  # raises NotFound, with the models that there are
        why = f"{self._store.url} does not have {name}@{which}; it has: {html.some(known)}"
        if which in aliases or gone:
            why = removed(self._store.url, f"{name} {version}")
        raise NotFound(why, name=name, which=which)

    def read(self, name: str, version: str, *, alone: bool = False) -> ModelVersion | None:
        """What is known of a version; None where there is none.

        A verdict may have been kept beside it later, but not where it is `alone`.
        """
        path = _release_name(name, version)
        data = self._store.read(path)
        if data is None:
            return None
        release = read_release(data, path, name, version)
        if release.verdict or alone:
            return release
        added = self._store.read(_kept_name(name, version, VERDICT))
        return release if added is None else replace(release, verdict=record_digest(added))

    def add(
        self,
        release: ModelVersion,
        data: bytes | memoryview,
        record: bytes,
        signatures: Sequence[PackageSignature],
    ) -> ModelVersion:
        """Keep a package, with the record of its verdict; returns the release that is there.

        A release without a verdict gets this one, and its signatures are added to those there.
        Raises Conflict if another one is there.
        """
        if not self._store.create(_blob_name(release.digest), data):
            kept = BucketPackage(self._store.url, release).read()  # it is there, and whole
            if any(is_sealed(container.read_zip(memoryview(each))) for each in (kept, data)):
                raise Conflict(
                    f"{release.name} {release.version} is kept already, sealed otherwise or not at all, "
                    "and what a registry keeps never changes: save the package under a new version, and "
                    "seal it",
                    name=release.name,
                    release=release,
                )
        for each in signatures:
            signed = write_signatures([each])
            name = f"{hashlib.sha256(signed).hexdigest()}.json"
            self._create(f"{_signatures_name(release.digest)}/{name}", signed)
        if record:
            # By its digest, so that a writer who dies here leaves nothing in the way of another.
            self._create(_verdict_name(release.verdict), record)
        path = _release_name(release.name, release.version)
        if self._store.create(path, release.to_json().encode()):
            return release
        there = self.read(release.name, release.version)
        if there is None:
            raise RegistryError(f"{self._store.url}/{path} is taken, and cannot be read; remove it")
        _check_same(there, release)
        if not record or there.verdict:
            return there
        self._create(_kept_name(release.name, release.version, VERDICT), record)
        return replace(there, verdict=release.verdict)

    def reference(self, release: ModelVersion) -> Reference:
        """A picklable reference to a package. Raises UntrustedError for one without signatures."""
        package = BucketPackage(self._store.url, release)
        check_signed(self.trust, release.digest, package)
        return package

    def open(self, release: ModelVersion, options: Mapping[str, Any]) -> Model:
        """Open a package with options of `mk.load`.

        Raises IntegrityError for a release of another digest than the caller trusts, and
        UntrustedError for one without the signatures that they ask for.
        """
        package = self.reference(release)
        options = {**options}
        trusted = options.get("digest")
        if trusted is not None and release.digest not in plain_digests(trusted):
            raise IntegrityError(
                f"{release.name} {release.version} has digest {release.digest}, which is not among "
                "the digests that you trust (digest=), so it is not opened. Add it there once "
                "the author of the package has given you this digest",
                expected=trusted,
                got=release.digest,
            )
        own = options.pop("trust", None)
        check_signed(own, release.digest, package)
        if own or self.trust:
            options["digest"] = trusted = release.digest
        path = self._store.path(_blob_name(release.digest))
        if path is None:
            return load(package, **options)
        manifest = inspect(path)
        _check_release(manifest, release, path)
        if manifest.runtime != "joblib" or trusted is not None:
            options["digest"] = release.digest
        return load(path, **options)

    def check_fits(self, champion: ModelVersion, candidate: ModelVersion) -> None:
        """Raise UsageError unless one version can answer in place of another; nothing is run."""
        ours, theirs = (inspect(self.reference(each)) for each in (champion, candidate))
        problems = incompatibilities(ours.signature, theirs.signature)
        if problems:
            raise UsageError(
                f"{theirs.name} {theirs.version} cannot answer in place of the champion, "
                f"{ours.version}: {'; '.join(problems)}",
                problems=problems,
            )

    def fetch(self, release: ModelVersion, folder: str | os.PathLike[str] | None) -> Path:
        """The path of a verified package on this machine, in a folder if one is given."""
        package = self.reference(release)
        path = self._store.path(_blob_name(release.digest))
        if path is not None and folder is None:
            _check_package(open_bytes(path), release, path)
            return Path(path)
        place = Path(folder) if folder is not None else Path.home() / ".cache" / "modelkit"
        target = place / f"{release.name}-{release.version}-{release.digest[:16]}.mk"
        if not _holds(target, release):
            write_file(target, package.read())
        copy_signatures(package, release.digest, target)
        return target

    def keep(self, release: ModelVersion, key: str, data: bytes) -> None:
        """Keep bytes beside a version, once. Raises Conflict if there are others."""
        if key == VERDICT:
            raise UsageError(
                f"{VERDICT!r} is the verdict that a version is registered with: to add it, register "
                "the same package again with verdict= (--verdict)"
            )
        check_pattern(KEY_PATTERN, "key", key)
        self._create(_kept_name(release.name, release.version, key), data)

    def keys(self, release: ModelVersion) -> list[str]:
        """The keys of what is kept beside a version."""
        return self._store.names(_kept_name(release.name, release.version, "").rstrip("/"))

    def kept(self, release: ModelVersion, key: str) -> bytes:
        """What was kept beside a version. Raises NotFound."""
        check_pattern(KEY_PATTERN, "key", key)
        path = _kept_name(release.name, release.version, key)
        if key == VERDICT and release.verdict:
            path = _verdict_name(release.verdict)
        data = self._store.read(path, most=inf)
        if data is None:
            raise NotFound(
                f"nothing was kept as {key!r} beside {release.name}@{release.version}",
                name=release.name,
                which=release.version,
            )
        return data

    def _create(self, path: str, data: bytes) -> None:
        if not self._store.create(path, data):
            raise Conflict(f"{path} is there with another content, and never changes")


@final
class BucketPackage(Reference):
    """The package of a release, in a bucket or a folder: a Model of a bucket is pickled as this."""

    def __init__(self, url: str, release: ModelVersion) -> None:
        self._url = url
        self._release = release

    def __repr__(self) -> str:
        release = self._release
        told = f"{release.name!r}, {release.version!r}, digest={release.digest!r}"
        return f"Reference({self._url!r}, {told})"

    def read(self) -> bytes:
        """The verified package. Raises NotFound and IntegrityError."""
        release = self._release
        data = open_store(self._url).read(_blob_name(release.digest), most=inf)
        if data is None:
            raise NotFound(
                f"the package of {release.name} {release.version} is gone from {self._url}",
                name=release.name,
                which=release.version,
            )
        _check_package(memoryview(data), release, self)
        return data

    def signatures(self) -> bytes | None:
        """All signatures of the package that were registered. Raises UntrustedError."""
        store = open_store(self._url)
        folder = _signatures_name(self._release.digest)
        names = store.names(folder)
        if len(names) > MOST_SIGNATURES:
            raise UntrustedError(
                f"{self._url}/{folder} has {len(names):,} files, and at most {MOST_SIGNATURES:,} are "
                "read; remove those that nobody needs"
            )
        found: list[PackageSignature] = []
        for name in names:
            path = f"{folder}/{name}"
            found += read_signatures(store.read(path, SIGNATURE_BYTES), f"{self._url}/{path}")
        return write_signatures(found) if found else None


def release_of(data: memoryview, parents: Sequence[str], record: bytes) -> ModelVersion:
    """The release of a package, which is verified, with the record of its verdict."""
    made_from = parents_of(parents)
    manifest, _ = read_verified(data)
    return ModelVersion(
        name=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        model_digest=manifest.model_digest,
        size=len(data),
        parents=made_from,
        verdict=record_digest(record),
        at=time_now(),
        actor=author(),
    )


def check_pattern(pattern: re.Pattern[str], what: str, text: str) -> str:
    """A text that fits a pattern. Raises UsageError for any other."""
    if not isinstance(text, str) or not pattern.fullmatch(text):
        need = f"match {pattern.pattern}" if isinstance(text, str) else "be a string"
        raise UsageError(f"{what} {text!r:.80} must {need}")
    return text


def _release_name(name: str, version: str) -> str:
    return f"models/{name}/versions/{version}.json"


def _kept_name(name: str, version: str, key: str) -> str:
    """The name of the file of what is kept beside a version."""
    return f"models/{name}/kept/{version}/{key}"


def _verdict_name(digest: str) -> str:
    """The name of the file of a verdict."""
    return f"blobs/sha256/{digest}.verdict.json"


def _check_same(there: ModelVersion, asked: ModelVersion) -> None:
    """Raise Conflict unless what is there has all that is asked for; a verdict may be added."""
    for field in ("digest", "parents", "verdict"):
        found = getattr(there, field)
        wanted = getattr(asked, field)
        if wanted and wanted != found and (found or field != "verdict"):
            raise Conflict(
                f"{there.name} {there.version} is registered with {field} "
                f"{found!r}, not {wanted!r}, by {there.actor} at "
                f"{there.at}: versions never change; register it as it was, or give the package a "
                "new version",
                name=there.name,
                release=there,
            )


def _signatures_name(digest: str) -> str:
    """The name of the folder of the signatures of a package."""
    return f"signatures/{digest}"


def _blob_name(digest: str) -> str:
    """The name of the file of a package in a store."""
    return f"blobs/sha256/{digest}.mk"


def _check_release(manifest: Manifest, release: ModelVersion, source: object) -> None:
    """Raise IntegrityError for a package of another digest, name or version than its release."""
    check_digest(manifest, release.digest, source)
    if (manifest.name, manifest.version) != (release.name, release.version):
        raise IntegrityError(
            f"the release {release.name} {release.version} names the package of {manifest.name} "
            f"{manifest.version}, digest {manifest.digest}: its file was changed; put it back, from "
            "a copy of the registry",
            expected=release.digest,
            got=manifest.digest,
        )


def _holds(path: Path, release: ModelVersion) -> bool:
    """Whether a file is the package of a release, in clear: a sealed one may be for others."""
    try:
        data = open_bytes(path)
        sealed = is_sealed(_check_package(data, release, path))
    except (FileNotFoundError, PackageError):
        return False
    return not sealed and len(data) == release.size


def _check_package(
    data: memoryview, release: ModelVersion, source: object
) -> Mapping[str, memoryview]:
    """The members of a package. Raises IntegrityError unless it is the package of the release."""
    manifest, members = read_verified(data)
    _check_release(manifest, release, source)
    return members
