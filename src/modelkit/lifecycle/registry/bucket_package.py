"""Where the package of a release is, and whether it still is that package."""

from __future__ import annotations

from math import inf
from typing import final

from modelkit.errors import IntegrityError, NotFound
from modelkit.lifecycle.registry.releases import ModelVersion
from modelkit.model.manifest import Manifest
from modelkit.package import container
from modelkit.package.contents import MANIFEST
from modelkit.package.load import Reference, check_hashes, read_manifest
from modelkit.store import open_store


@final
class BucketPackage(Reference):
    """The package of a release in a bucket: a Model that was loaded from it is pickled as this."""

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
        data = open_store(self._url).read(blob_name(release.digest), most=inf)
        if data is None:
            raise NotFound(
                f"the package of {release.name} {release.version} is gone from {self._url}",
                name=release.name,
                which=release.version,
            )
        check_package(memoryview(data), release)
        return data


def blob_name(digest: str) -> str:
    """The name of the file of a package in a store."""
    return f"blobs/sha256/{digest}.mk"


def check_named(manifest: Manifest, release: ModelVersion) -> None:
    """Raise IntegrityError for a package of another name or version than its release."""
    if (manifest.name, manifest.version) != (release.name, release.version):
        raise IntegrityError(
            f"the release {release.name} {release.version} names the package of {manifest.name} "
            f"{manifest.version}, digest {manifest.digest}: its file was changed; put it back, from "
            "a copy of the registry",
            expected=release.digest,
            got=manifest.digest,
        )


def check_package(data: memoryview, release: ModelVersion) -> None:
    """Raise IntegrityError unless these are the bytes of the package."""
    members = container.read_zip(data)
    manifest = read_manifest(members)
    if manifest.digest != release.digest:
        raise IntegrityError(
            f"the package of {release.name} {release.version} has digest {manifest.digest}, and "
            f"was registered with {release.digest}",
            expected=release.digest,
            got=manifest.digest,
        )
    check_named(manifest, release)
    check_hashes({path: data for path, data in members.items() if path != MANIFEST}, manifest.files)
