"""The audit log: events, and answers where you ask for them, in files that show tampering."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar, final

from modelkit import events
from modelkit._internal.json import to_plain
from modelkit._internal.process import watch_exit, watch_forks
from modelkit.errors import AuditError, ClosedError, UsageError
from modelkit.lifecycle.audit.answers import Answers, Subjects
from modelkit.lifecycle.audit.chain import CHECKPOINT, CLOSED, START, linked
from modelkit.lifecycle.audit.reading import SUBJECTS, file_name, read_folder, verify_folder
from modelkit.model.access import principal
from modelkit.model.model import Model
from modelkit.package.keys import key_id, private_key
from modelkit.store.folder import flush_folder

T = TypeVar("T")
RECORDED = (
    events.Loaded,
    events.Signed,
    events.AliasSet,
    events.Judged,
    events.Swapped,
    events.Decided,
    events.Retraining,
    events.Denied,
)
# Who may write to the folder cannot lead a file elsewhere, by a link of its name.
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
APPEND |= getattr(os, "O_NOFOLLOW", 0)
ENCODER = json.JSONEncoder(allow_nan=False, default=to_plain, separators=(",", ":"))
OWN = 0o600  # read and written by the owner alone


@final
class AuditLog:
    """Records what happens in this process, in files that show whether they were changed since.

        with mk.AuditLog("audit", key="audit.pem") as audit:
            served = audit.answers(mk.load("churn.mk"))
            served.predict(X, key="customer 17")

    It records the events Loaded, Signed, AliasSet, Judged, Swapped, Decided, Retraining and Denied; for
    others, `mk.events.subscribe(audit.record, kind)`. A record has the time, the principal (see
    `mk.acting_as`), the event and its fields, and no value of a row. Each process writes a log of its own,
    the child of a fork from its first record on, and all may share the folder. Safe from any thread,
    from a handler of a signal and from a finalizer; a record waits only while another thread
    writes. Between records nothing runs.

    Each line holds a hash of all lines before it. Every so many records, where a file ends, and on closing,
    a checkpoint is signed and the file is flushed to the disk. A record is handed to the kernel at once:
    it outlives the process, however that ends, but not a power cut before the next checkpoint.

    **A record that cannot be written**, as on a full disk: `answers` raises AuditError, so that nobody gets
    an answer that was not recorded. An event has happened already: the logger `modelkit` says once that a
    listener failed, and the next checkpoint says how many records were lost.

    Args:
        folder: where the files are; nothing else may lie there.
        key: the private Ed25519 key that signs checkpoints: the path of a PEM file, "env:NAME", the bytes of
            PEM, or a key. Without it, anyone who may write to the folder can rewrite all of it.
        checkpoint_every: the number of records from one checkpoint to the next.
        rotate_bytes: the size from which a new file is begun; the chain goes on there.
        fsync_each: whether each record is flushed to the disk: it outlives a power cut, and takes as long
            as the disk does.

    Raises:
        UsageError: if the folder or the key cannot be used, or checkpoints are due every 0 records.
        MissingExtraError: for a key, if cryptography is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        key: Any = None,
        *,
        checkpoint_every: int = 1000,
        rotate_bytes: int = 1 << 26,
        fsync_each: bool = False,
    ) -> None:
        if checkpoint_every < 1:
            raise UsageError(f"checkpoint_every is a number from 1, not {checkpoint_every!r}")
        self._folder = Path(folder).absolute()
        self._key = None if key is None else private_key(key, "ed25519")
        self._checkpoint_every = checkpoint_every
        self._rotate_bytes = rotate_bytes
        self._fsync_each = fsync_each
        self._closed = False
        self._file, self._size = -1, 0  # a handle, and the bytes of whole records in the file
        self.after_fork()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._subjects = Subjects(self._folder / SUBJECTS)
            self._alone(self._make_ready)
        except (OSError, AuditError) as error:
            raise UsageError(f"{str(folder)!r} cannot hold an audit log: {error}") from error
        self._stop = events.subscribe(self.record, *RECORDED)
        watch_forks(self)
        watch_exit(self)

    def after_fork(self) -> None:
        """Begin a log of this process, with its first record."""
        self._close_file()
        now = datetime.now(UTC)
        self._log = f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}-{secrets.token_hex(8)}"
        self._part = 0  # the number of the file
        self._number = 0  # of the last record
        self._hash = START  # of the last record
        self._torn = False  # whether the file may end with a part of a record
        self._lost = 0
        self._lock = threading.RLock()
        self._writing = False  # by the thread that has the lock
        self._waiting: deque[Callable[[], bytes]] = deque()  # what came while this thread wrote

    def record(self, event: Any) -> None:
        """Record an event, as of `mk.events`. This is a listener: `mk.events.subscribe(audit.record, kind)`.

        Raises AuditError if it cannot be written, and TypeError for fields that JSON cannot express.
        """
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        for name, value in values.items():
            if not isinstance(value, str):  # as most are, and `to_plain` takes a microsecond each
                values[name] = to_plain(value)
        self._add(type(event).__name__.lower(), values)

    def answers(self, model: Model, *, outputs: bool = False) -> Model:
        """A Model whose answers are recorded, before the caller gets them, by hashes.

        Each record has the name, version and digest of the model (of a Rollout: of the version that
        answered), keyed hashes of the rows as the signature coerces them, of the outputs, and of the
        subject: the `key=` of the call. Calls that raise are not answers. Put it directly inside
        `Guarded`. The record is written by the thread, or event loop, that answers.

        Args:
            model: the Model.
            outputs: whether the outputs themselves are recorded, in place of their hash.

        Raises:
            UsageError: if its answers are recorded already.
            AuditError: from a call whose record cannot be written.
        """
        record = partial(self._add, "audit.answer", must=True)
        return Answers(model, record, self._subjects, outputs=outputs)

    def forget(self, subject: str) -> bool:
        """Remove the key of a subject, the `key=` of its calls; returns whether there was one.

        The files stay as they are, and pass `verify`, but nobody can link a record to the subject, or compare
        its hashes with a row, any more. Copies of the key, as in a backup, are yours to remove; outputs that were
        recorded themselves stay.

        Raises:
            AuditError: if the erasure cannot be recorded; the key is gone all the same.
            OSError: if the key cannot be removed.
            TypeError: for what is not a text.
        """
        if not isinstance(subject, str):
            raise TypeError(
                f"a subject is a text, the key= of its calls, not {type(subject).__name__}"
            )
        known = self._subjects.forget(subject)
        if known:
            self._add("audit.forgotten", {}, must=True)
        return known

    def checkpoint(self) -> str:
        """Sign what was recorded until now, flush it to the disk, and give a line to keep elsewhere.

        `verify(checkpoints=[line])` finds whether anything up to there was removed, the end included.

        Raises AuditError if it cannot be written, and ClosedError after `close`.
        """
        return self._alone(partial(self._mark, CHECKPOINT))

    read = staticmethod(read_folder)
    verify = staticmethod(verify_folder)

    def close(self) -> None:
        """Write the last checkpoint, and record nothing more. Closing twice is fine.

        Calls of `answers` raise ClosedError from then on. Raises AuditError if it cannot be written.
        """
        self._stop()
        with self._lock:
            try:
                if self._number and not self._closed:
                    self._alone(partial(self._mark, CLOSED))
            finally:
                self._closed = True
                self._close_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def at_exit(self) -> None:
        """Close it when the interpreter ends."""
        with suppress(AuditError):  # that the end was not written is what a reader sees
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AuditLog belongs to its process; make one in each, in the same folder")

    # Writing.

    def _add(self, event: str, values: Mapping[str, Any], *, must: bool = False) -> None:
        """Add a record; `must` where it has to be written before this returns."""
        write = partial(self._write, event, values, principal())
        with self._lock:
            if self._writing and not must:
                self._waiting.append(write)  # of a signal's handler, or a finalizer, in this thread
            else:
                self._alone(write)

    def _alone(self, step: Callable[[], T]) -> T:
        """Do a step that writes, and then write what came meanwhile in this thread."""
        with self._lock:
            if self._closed:
                raise ClosedError("the audit log was closed, so nothing can be recorded any more")
            if self._writing:
                raise AuditError(
                    "a handler of a signal, or a finalizer, wants what has to wait for the record "
                    "that its own thread is writing: an answer that is recorded, or a checkpoint"
                )
            try:
                self._writing = True
                self._make_ready()
                result = step()
                while self._waiting and not self._closed:
                    self._waiting.popleft()()
                return result
            except OSError as error:
                self._lost += 1
                raise AuditError(
                    f"a record cannot be written to the audit log in {self._folder}: {error}"
                ) from error
            finally:
                self._writing = False

    def _make_ready(self) -> None:
        """Have a log that has begun, a file that takes more, and a checkpoint where one is due."""
        if self._size > self._rotate_bytes:
            self._mark(CHECKPOINT)
            self._close_file()
        if self._file < 0:
            part = self._part + 1
            path = self._folder / file_name(self._log, part)
            self._part, self._file = part, os.open(path, APPEND, OWN)
            flush_folder(self._folder)
        if self._number % self._checkpoint_every == 0:  # the first record is one
            self._mark(CHECKPOINT)

    def _mark(self, event: str) -> str:
        """Write a checkpoint; returns its line."""
        key = None if self._key is None else key_id(self._key.public_key())
        values = {"log": self._log, "key": key, "lost": self._lost}
        line = self._write(event, values, None, mark=True)
        self._closed |= event == CLOSED  # so that nothing comes after it
        return line.decode().strip()

    def _write(
        self, event: str, values: Mapping[str, Any], who: str | None, *, mark: bool = False
    ) -> bytes:
        """Write a record. It stays whole or is cut away again, wherever this is interrupted."""
        if self._torn:
            os.ftruncate(self._file, self._size)
            self._torn = False
        seen = os.fstat(self._file)
        if seen.st_nlink == 0 or seen.st_size != self._size:
            raise OSError(f"somebody removed or changed {file_name(self._log, self._part)}")
        number = self._number + 1
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        record = {"number": number, "at": at, "principal": who, "event": event, "fields": values}
        sign = self._key.sign if mark and self._key else None
        line, own = linked(self._hash, ENCODER.encode(record)[:-1].encode(), sign)
        self._torn = True
        if os.write(self._file, line) < len(line):
            raise OSError("the disk took only a part of it")
        if mark or self._fsync_each:
            os.fsync(self._file)
        size = self._size + len(line)
        # In one statement, within which Python handles no signal.
        self._size, self._number, self._hash, self._torn = size, number, own, False
        return line

    def _close_file(self) -> None:
        file, self._file, self._size = self._file, -1, 0
        if file >= 0:
            os.close(file)
