"""Records each answer: who got it from which version, and hashes of what went in and came out.

The hashes are keyed, by a key for each subject: an unkeyed hash of a row of few values is found by trying
all of them. Without its key, no record can be linked to a subject or to a row any more.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.json import to_plain
from modelkit.errors import AuditError, RegistryError, SignatureError, UsageError
from modelkit.lifecycle.rollout.answering import SignedAnswers
from modelkit.model.identity import identity_of
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import Wrapper, check_is_model, has_several_versions, layer_of
from modelkit.serving.guarded import check_outside
from modelkit.store.folder import DiskFolder, flush_folder

KEY_BYTES = 32
Record = Callable[[Mapping[str, Any]], None]


def keyed_hash(key: bytes, purpose: bytes, *parts: bytes) -> str:
    """The BLAKE2b of some data under a key, in hex; of each purpose another one."""
    return hashlib.blake2b(b"".join(parts), digest_size=32, key=key, person=purpose).hexdigest()


def canonical(tensors: Mapping[str, Array]) -> Iterator[bytes]:
    """Tensors as bytes: the same for equal names, dtypes, shapes and values, and for no others."""
    for name in sorted(tensors):
        array = tensors[name]
        dtype = array.dtype.str
        if array.dtype.kind == "f" and np.isnan(array).any():  # of which there are many
            array = np.where(np.isnan(array), np.nan, array)
        data = array.tobytes()
        if array.dtype.kind in "OU":  # texts, as JSON in UTF-8
            dtype = "texts"
            plain = to_plain(array.astype(object))
            data = json.dumps(plain, ensure_ascii=False).encode("utf-8", "surrogatepass")
        yield f"{name!a} {dtype} {array.shape} {len(data)}\n".encode()
        yield data


@final
class Subjects:
    """The keys of subjects: one file each, in a folder that only its owner reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = DiskFolder(str(folder))

    def key(self, subject: str | None) -> bytes:
        """The key of a subject, a new one where there is none; None is who is not named."""
        name = "nobody" if subject is None else _file_of(subject)
        try:
            while (key := self._files.read(name)) is None:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                self._files.create(name, secrets.token_bytes(KEY_BYTES))
        except (OSError, RegistryError) as error:
            raise AuditError(f"the key of a subject cannot be read: {error}") from error
        if len(key) != KEY_BYTES:
            raise AuditError(f"{self._files.path(name)} is damaged: a key has {KEY_BYTES} bytes")
        return key

    def forget(self, subject: str) -> bool:
        """Remove the key of a subject from the disk; returns whether there was one."""
        file = self._folder / _file_of(subject)
        try:
            file.unlink()
        except FileNotFoundError:
            return False
        flush_folder(file.parent)
        return True


def _file_of(subject: str) -> str:
    found = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{found[:2]}/{found}"  # so that no folder gets too long


@final
class Answers(Wrapper):
    """A Model whose answers are recorded before the caller gets them; see `AuditLog.answers`."""

    __slots__ = ("_outputs", "_record", "_several", "_subjects")

    def __init__(self, model: Model, record: Record, subjects: Subjects, *, outputs: bool) -> None:
        check_is_model(model, "AuditLog.answers")
        if layer_of(model, Answers) is not None:
            raise UsageError("the answers of this model are recorded already")
        check_outside(model, "audit.answers")
        super().__init__(model)
        self._record = record
        self._subjects = subjects
        self._outputs = outputs
        self._several = has_several_versions(model)

    @property
    def unobserved(self) -> Model:
        """The Model that answers without a record, since the rows that an explanation tries are not calls."""
        return self._inner.unobserved

    def _around(self, inner: Model) -> Model:
        if inner is self._inner:
            return self
        return Answers(inner, self._record, self._subjects, outputs=self._outputs)

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        asked = self._asked(X, call)
        return self._recorded(*asked, self._inner._call(X, outputs, call))

    async def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        asked = self._asked(X, call)
        return self._recorded(*asked, await self._inner._acall(X, outputs, call))

    def _asked(self, X: object, call: Call) -> tuple[bytes, dict[str, Any]]:
        """The key of the subject, and what is recorded of it and of the rows."""
        key = self._subjects.key(call.key)
        # By this, who has the key finds the records of the subject.
        about: dict[str, Any] = {
            "subject": None if call.key is None else keyed_hash(key, b"subject")
        }
        try:
            # A Rollout coerces the rows by the signature of the version that it chooses.
            about["input"] = keyed_hash(key, b"input", *canonical(self.signature.coerce(X)))
        except SignatureError:  # as the call does, unless one of several versions takes them
            about["input"] = None
        return key, about

    def _recorded(self, key: bytes, about: dict[str, Any], answers: Outputs) -> Outputs:
        if isinstance(answers, SignedAnswers):
            served_by = answers.served_by
        elif self._several:
            raise AuditError(
                "a layer between the audit log and the Rollout hides which version answered; put it "
                "inside the Rollout, by wrap=, or return the answers as they come"
            )
        else:
            served_by = identity_of(self._inner)
        if self._outputs:
            about["outputs"] = answers
        else:
            about["output"] = keyed_hash(key, b"output", *canonical(answers))
        self._record({**served_by._asdict(), **about})
        return answers
