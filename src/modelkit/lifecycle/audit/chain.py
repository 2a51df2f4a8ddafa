"""The chain of an audit log: each line holds a hash of all lines before it; pure.

A line is one JSON object. Its last field, `hash`, is the SHA-256 of the hash of the line before, in hex,
and of all bytes of the line before this field. Some records are marks: of these, the field before it may
be a signature, by Ed25519, of `DOMAIN`, that other hash, and all bytes before the signature. Construction:
Schneier and Kelsey, Secure Audit Logs to Support Computer Forensics (1999), with signatures in place of
keys that evolve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self, final

from modelkit._internal.json import parse_json
from modelkit.package.keys import verifies

START = "0" * 64  # the hash before the first line
DOMAIN = b"modelkit audit 1\0"
HASH = b',"hash":"'
SIGNATURE = b',"signature":"'
BEGAN = "audit.began"  # the events of marks; no class of events has a dot in its name
CHECKPOINT = "audit.checkpoint"
ROTATED = "audit.rotated"
CLOSED = "audit.closed"
NO_RECORD = (ValueError, TypeError, AttributeError, RecursionError)
MARKS = (BEGAN, CHECKPOINT, ROTATED, CLOSED)


@final
@dataclass(frozen=True)
class AuditRecord:
    """One record of an audit log.

    Attributes:
        log: the log that it stands in, of one process.
        number: its place there, from 1.
        at: when it was made, in ISO 8601 and UTC, by the clock of its machine.
        principal: who asked, or None.
        event: the kind of event in small letters, "audit.answer" and "audit.forgotten"; those of
            marks are "audit.began", "audit.checkpoint", "audit.rotated" and "audit.closed".
        fields: the fields of the event, as values of JSON.
        hash: of this record and all before it.
        signature: of a mark of a log that is signed.
    """

    log: str
    number: int
    at: str
    principal: str | None
    event: str
    fields: dict[str, Any]
    hash: str
    signature: str = ""


def linked(
    previous: str, body: bytes, sign: Callable[[bytes], bytes] | None = None
) -> tuple[bytes, str]:
    """A line and its hash, from the hash before and the JSON of a record without its last brace."""
    if sign is not None:
        signature = sign(DOMAIN + previous.encode() + body).hex()
        body += SIGNATURE + f'{signature}"'.encode()
    own = _hash(previous, body)
    return body + HASH + f'{own}"}}\n'.encode(), own


def _hash(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode() + body).hexdigest()


def read_line(log: str, line: bytes) -> AuditRecord:
    """The record of a line, whatever stands before it. Raises one of `NO_RECORD` for anything else."""
    return AuditRecord(log, **parse_json(line.decode()))


@final
class Chain:
    """Follows a log from its first line until one does not follow.

    Args:
        log: the id of the log.
        keys: the 32 bytes of public keys by id, one of which every mark must be signed with; none
            to check no signature.

    Attributes:
        last: the last record that follows from those before it; its number is 0 before the first.
        problem: why the next line does not follow; "" where all do.
        torn: whether a line without an end comes last, as of a process that was killed.
        marks: the lines of the marks.
        last_mark: the last one; no signature covers the records after it.
    """

    def __init__(self, log: str, keys: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.log = log
        self.last = self.last_mark = AuditRecord(log, 0, "", None, "", {}, START)
        self.problem = ""
        self.torn = False
        self.marks: set[bytes] = set()
        self._keys = keys

    def read(self, lines: Iterable[bytes]) -> Self:
        """Follow all lines of the log, each with its end."""
        try:
            for line in lines:
                self._read(line)
        except NO_RECORD as error:
            self.problem = f"record {self.last.number + 1} of the log {self.log}: {error}"
        return self

    def _read(self, line: bytes) -> None:
        if self.torn or self.last.event == CLOSED:
            raise ValueError("it comes after the end of the log")
        body, _, rest = line.rpartition(HASH)
        own = _hash(self.last.hash, body)
        ending = f'{own}"}}\n'.encode()
        if rest != ending:
            if line.endswith(b"\n") or rest[:-1] == ending[:-1]:
                raise ValueError(
                    "it does not follow from those before: it was changed or moved, or records "
                    "before it were changed or removed"
                )
            self.torn = True
            return
        record = read_line(self.log, line)
        if record.number != self.last.number + 1 or (record.event == BEGAN) != (record.number == 1):
            raise ValueError(f"it says that it is record {record.number}, {record.event}")
        if record.event in MARKS:
            self._check_mark(record, body)
            self.marks.add(line)
            self.last_mark = record
        self.last = record

    def _check_mark(self, mark: AuditRecord, body: bytes) -> None:
        if mark.fields.get("log") != self.log:
            raise ValueError(f"it is of the log {mark.fields.get('log')}")
        if not self._keys:
            return
        name = str(mark.fields.get("key") or "none")
        if name not in self._keys:
            raise ValueError(
                f"it is signed with the key {name}, and the keys that you passed are "
                f"{', '.join(self._keys)}"
            )
        signed = DOMAIN + self.last.hash.encode() + body.rpartition(SIGNATURE)[0]
        if not verifies(self._keys[name], bytes.fromhex(str(mark.signature)), signed):
            raise ValueError(f"its signature is not by the key {name}")
