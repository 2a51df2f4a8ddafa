"""The chain of an audit log: each line holds a hash of all lines before it; pure.

A line is one JSON object. Its last field, `hash`, is the SHA-256 of the hash of the line before, in hex,
and of all bytes of the line before this field. Some records are marks: of these, the field before it may
be a signature, by Ed25519, of `DOMAIN`, that other hash, and all bytes before the signature. Construction:
Schneier and Kelsey, Secure Audit Logs to Support Computer Forensics (1999), with signatures in place of
keys that evolve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Self, final

from modelkit._internal.json import parse_json
from modelkit.package.keys import verifies

START = "0" * 64  # the hash before the first line
DOMAIN = b"modelkit audit 1\0"
HASH = b',"hash":"'
SIGNATURE = b',"signature":"'
CHECKPOINT = "audit.checkpoint"  # the events of marks; no class of events has a dot in its name
CLOSED = "audit.closed"
NO_RECORD = (ValueError, TypeError, AttributeError, RecursionError)


@final
@dataclass(frozen=True)
class AuditRecord:
    """One record of an audit log.

    Attributes:
        log: the log that it stands in, of one process.
        number: its place there, from 1.
        at: when it was made, in ISO 8601 and UTC, by the clock of its machine.
        principal: who asked, or None.
        event: the kind of event in small letters, "audit.answer" and "audit.forgotten". Marks
            are "audit.checkpoint", of which one is the first record, and "audit.closed".
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
    before = previous.encode()
    if sign is not None:
        body += SIGNATURE + sign(DOMAIN + before + body).hex().encode() + b'"'
    own = hashlib.sha256(before + body).hexdigest()
    return body + HASH + f'{own}"}}\n'.encode(), own


def read_line(log: str, line: bytes) -> AuditRecord:
    """The record of a line, whatever stands before it. Raises one of `NO_RECORD` for anything else."""
    return AuditRecord(log, **parse_json(line.decode()))


@final
class Chain:
    """Follows a log from its first line until one does not follow.

    Args:
        log: the id of the log.
        keys: the 32 bytes of public keys, one of which must have signed every mark; empty to check
            no signature.

    Attributes:
        last: the last record that follows; before the first one, of number 0.
        mark: the last mark; records after it are not signed.
        marks: the lines of all marks.
        problem: why the line after `last` does not follow; "" where none is.
        torn: whether a line without an end comes last, as of a process that was killed.
    """

    def __init__(self, log: str, keys: Collection[bytes]) -> None:
        self.last = self.mark = AuditRecord(log, 0, "", None, "", {}, START)
        self.marks: set[bytes] = set()
        self.problem = ""
        self.torn = False
        self._keys = keys

    def read(self, lines: Iterable[bytes]) -> Self:
        """Follow all lines of the log, each with its end."""
        try:
            for line in lines:
                self._read(line)
        except NO_RECORD as error:
            self.problem = f"record {self.last.number + 1} of the log {self.last.log}: {error}"
        return self

    def _read(self, line: bytes) -> None:
        last = self.last
        if self.torn or last.event == CLOSED:
            raise ValueError("it comes after the end of the log")
        body, _, _ = line.rpartition(HASH)
        expected, _ = linked(last.hash, body)
        if line != expected:
            if line.endswith(b"\n") or line[:-1] == expected[:-1]:
                raise ValueError(
                    "it does not follow from those before: it was changed or moved, or records "
                    "before it were changed or removed"
                )
            self.torn = True
            return
        record = read_line(last.log, line)
        is_mark = record.event in (CHECKPOINT, CLOSED)
        if record.number != last.number + 1 or not (is_mark or last.number):
            raise ValueError(f"it says that it is record {record.number}, {record.event}")
        if is_mark:
            self._check_mark(record, body)
            self.marks.add(line)
            self.mark = record
        self.last = record

    def _check_mark(self, mark: AuditRecord, body: bytes) -> None:
        if mark.fields.get("log") != mark.log:
            raise ValueError(f"it is of the log {mark.fields.get('log')}")
        signed = DOMAIN + self.last.hash.encode() + body.rpartition(SIGNATURE)[0]
        signature = bytes.fromhex(mark.signature)
        if self._keys and not any(verifies(key, signature, signed) for key in self._keys):
            name = mark.fields.get("key")
            raise ValueError(
                f"it is signed by none of the keys that you passed; it names the key {name}"
            )
