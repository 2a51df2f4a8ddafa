"""Add attachments to a package that exists, without touching its model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from modelkit._internal import npz
from modelkit.errors import IntegrityError, UsageError
from modelkit.model.golden import BACKGROUND, encode_rows
from modelkit.model.manifest import Attachment, Manifest, check_metadata
from modelkit.package import container
from modelkit.package.contents import is_sealed
from modelkit.package.source import check_digest, open_bytes, read_verified
from modelkit.package.write import member_of, write_package
from modelkit.signature.signature import Signature, coerce_as

SUFFIXES = {npz.MEDIA_TYPE: ".npz", "application/json": ".json"}  # of a member, by media type


class Attachable(Protocol):
    """A value that names and encodes itself as an attachment, such as a Profile."""

    def to_attachment(self, signature: Signature | None = None) -> tuple[str, str, bytes]:
        """Name, media type and bytes, checked against the signature of the model."""


class BoundAttachable(Attachable, Protocol):
    """An Attachable that is about one model, such as an Evaluation."""

    @property
    def model_digest(self) -> str:
        """The `model_digest` of the package that it is about."""


@dataclass(frozen=True)
class NewAttachment:
    """An attachment on its way into a package; only its maker knows what its bytes mean."""

    name: str
    media_type: str
    data: bytes

    @property
    def path(self) -> str:
        """The path of its member."""
        return self.name + SUFFIXES.get(self.media_type, ".bin")


def attach(
    path: str | os.PathLike[str],
    *,
    profile: Attachable | None = None,
    background: object = None,
    evaluation: BoundAttachable | None = None,
    metadata: dict[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    digest: str | None = None,
) -> Manifest:
    """Add a profile, a background, an Evaluation or metadata to an existing package.

        mk.attach("churn.mk", evaluation=mk.evaluate("churn.mk", X_test, y_test))

    The model is neither converted nor run again, and every other member is copied byte by byte. An
    attachment of the same name is replaced. The file appears whole or not at all, as with `save`.
    The package gets a new `digest`; its `model_digest` stays.

    Args:
        path: the package.
        profile: a `Profile` that `Monitor` compares served rows with.
        background: rows that explanations are relative to. They are stored as they are: whoever can
            read the package can read these rows.
        evaluation: how good the model of this package is, from `evaluate`.
        metadata: JSON values by name, which are added to the manifest's or replace them.
        out: where to write the result; by default it replaces the file at `path`.
        digest: the digest that the package must have before.

    Returns:
        The new manifest.

    Raises:
        TypeError: if there is nothing to attach.
        PackageError: if the package cannot be read; its subclass IntegrityError if it is damaged or
            has another digest, or if the evaluation is of another model.
        SignatureError: if the model does not take the rows of the background.
        UsageError: if the profile has other columns than the model takes, the metadata are not JSON,
            or the package is sealed: attach before you seal.
    """
    if all(value is None for value in (profile, background, evaluation, metadata)):
        raise TypeError(
            "attach takes at least one of profile=, background=, evaluation= and metadata="
        )
    manifest, members = _open_whole(path, digest)
    added = new_attachments(manifest.signature, profile=profile, background=background)
    added += _about(manifest, evaluation)
    kept = check_metadata(manifest.metadata | check_metadata({} if metadata is None else metadata))
    changed = with_attachments(replace(manifest, metadata=kept), members, added)
    return write_package(path if out is None else out, changed, members)


def _about(manifest: Manifest, bound: BoundAttachable | None) -> list[NewAttachment]:
    """The attachment of a value about this model. Raises IntegrityError for one about another."""
    if bound is None:
        return []
    if bound.model_digest != manifest.model_digest:
        theirs = bound.model_digest[:12] or "no package"
        raise IntegrityError(
            f"the {type(bound).__name__} is of the model of {theirs}, and this package holds "
            f"{manifest.model_digest[:12]}: make it with the Model that mk.load gives for this one"
        )
    return [NewAttachment(*bound.to_attachment(manifest.signature))]


def _open_whole(
    path: str | os.PathLike[str], digest: str | None
) -> tuple[Manifest, container.Members]:
    """The manifest of a package and its other members, whose hashes were found right.

    They are copies: Windows replaces no file that is mapped.
    """
    manifest, found = read_verified(open_bytes(path))
    if is_sealed(found):
        raise UsageError(
            f"{os.fspath(path)!r} is sealed: attach to the package that it was made of, and seal the "
            "result"
        )
    check_digest(manifest, digest, path)
    members: container.Members = {each.path: bytes(found[each.path]) for each in manifest.files}
    return manifest, members


def new_attachments(
    signature: Signature, *, profile: Attachable | None, background: object
) -> list[NewAttachment]:
    """The attachments of these, where they are not None.

    Raises SignatureError and UsageError for those that do not fit the model, TypeError for a profile
    that is none.
    """
    added = []
    if background is not None:
        rows = encode_rows(coerce_as(signature, background, "background="), {})
        added.append(NewAttachment(BACKGROUND, npz.MEDIA_TYPE, rows))
    if profile is not None:
        if not hasattr(profile, "to_attachment"):
            kind = type(profile).__name__
            raise TypeError(f"profile= is a Profile, as mk.Profile.fit makes it, not {kind}")
        added.append(NewAttachment(*profile.to_attachment(signature)))
    return added


def with_attachments(
    manifest: Manifest, members: container.Members, added: Iterable[NewAttachment]
) -> Manifest:
    """The manifest with these attachments, whose bytes are put into `members`.

    An attachment takes the place of one of the same name, or comes last.
    """
    attachments = {attachment.name: attachment for attachment in manifest.attachments}
    files = {member.path: member for member in manifest.files}
    for new in added:
        old = attachments.get(new.name)
        path = new.path if old is None else old.path
        attachments[new.name] = Attachment(new.name, path, new.media_type)
        files[path] = member_of(path, new.data)
        members[path] = new.data
    return replace(manifest, files=tuple(files.values()), attachments=tuple(attachments.values()))
