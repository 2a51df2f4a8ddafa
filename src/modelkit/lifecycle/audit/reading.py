"""Reads the folder of an audit log: what was recorded, and whether anything was changed since."""

from __future__ import annotations

import heapq
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, final

from modelkit._internal import fields
from modelkit.lifecycle.audit.chain import CLOSED, AuditRecord, Chain, read_line
from modelkit.package.keys import public_key

FILE = re.compile(r"([0-9TZ]{16}-[0-9]+-[0-9a-f]{16})\.[0-9]{6}\.jsonl")
SUBJECTS = "subjects"  # the folder of their keys
BLOCK = 1 << 16  # bytes of a log that are in memory at once


@final
@dataclass(frozen=True)
class AuditReport:
    """What a check of an audit log found.

    Attributes:
        logs: the number of logs, one a process.
        records: the number of records that follow from each other.
        problems: what cannot be where nothing was changed, in a sentence each.
        notes: what an auditor should know of, such as a log that its process did not close.
    """

    logs: int
    records: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    __repr__ = fields.brief

    def __str__(self) -> str:
        found = f"{len(self.problems):,} problems" if self.problems else "no change was found"
        lines = [f"{self.records:,} records of {self.logs:,} logs: {found}"]
        lines += [f"problem: {problem}" for problem in self.problems]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def file_name(log: str, part: int) -> str:
    """The name of a file of a log; parts are counted from 1."""
    return f"{log}.{part:06d}.jsonl"


def read_folder(folder: str | os.PathLike[str]) -> Iterator[AuditRecord]:
    """The records of all processes, merged by their times; each process's records stay in their order.

    It checks nothing: see `verify`. Raises ValueError or TypeError for a line that is not a record, and
    OSError if the folder is missing.
    """
    logs, _ = _files(Path(folder))
    return heapq.merge(*(_records(*each) for each in logs.items()), key=attrgetter("at"))


def _records(log: str, paths: Sequence[Path]) -> Iterator[AuditRecord]:
    for line in _lines(paths):
        if line.endswith(b"\n"):  # and is not torn
            yield read_line(log, line)


def verify_folder(
    folder: str | os.PathLike[str], keys: Iterable[Any] = (), checkpoints: Iterable[str] = ()
) -> AuditReport:
    """Whether anything in the folder of an audit log was changed, moved or removed.

    Any change is found but these, which a chain alone cannot show: that an end was cut, or a whole log
    removed, needs a checkpoint that you kept elsewhere; that everything was rewritten needs that, or a key.

    Args:
        folder: of an AuditLog; its processes may go on writing.
        keys: public Ed25519 keys in the forms of `AuditLog`; every checkpoint must be signed with one
            of them. Without keys, no signature is checked.
        checkpoints: lines that `checkpoint` gave.

    Raises:
        UsageError: for anything but a public key of Ed25519.
        OSError: if the folder is missing.
        MissingExtraError: for keys, if cryptography is not installed.
    """
    known = [public_key(key, "ed25519").public_bytes_raw() for key in keys]
    logs, problems = _files(Path(folder))
    if not logs:
        problems.append(f"{os.fspath(folder)!r} is not the folder of an audit log")
    chains = [Chain(log, known).read(_lines(paths)) for log, paths in logs.items()]
    problems += [chain.problem for chain in chains if chain.problem]
    marks = {line for chain in chains for line in chain.marks}
    problems += [
        f"the checkpoint {text:.60}... is not there: records up to it were removed or replaced"
        for text in checkpoints
        if f"{text.strip()}\n".encode("ascii", "replace") not in marks
    ]
    notes = [f"{chain.last.log}: {note}" for chain in chains for note in _notes(chain)]
    if not known:
        notes.append(
            "no signature was checked: anyone who may write to the folder could have rewritten all of it"
        )
    records = sum(chain.last.number for chain in chains)
    return AuditReport(len(logs), records, tuple(problems), tuple(notes))


def _files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each log in their order, and what is wrong with what is there."""
    logs: dict[str, list[Path]] = defaultdict(list)
    problems = []
    for path in sorted(folder.iterdir()):
        named = FILE.fullmatch(path.name)
        if named and path.is_file():
            logs[named[1]].append(path)
        elif path.name != SUBJECTS:
            problems.append(f"{path.name!r} is not of an audit log: give that a folder of its own")
    for log, paths in logs.items():
        names = [path.name for path in paths]
        if names != [file_name(log, part) for part in range(1, len(names) + 1)]:
            problems.append(
                f"a file of the log {log} is gone: there are {len(names)}, up to {names[-1]}"
            )
    return logs, problems


def _lines(paths: Sequence[Path]) -> Iterator[bytes]:
    """The lines of files, of which none stays open: a folder may hold a log for thousands of processes."""
    for path in paths:
        place = 0
        lines = [b"\n"]
        # What follows a torn line was written while it was read.
        while lines and lines[-1].endswith(b"\n"):
            with path.open("rb") as file:
                file.seek(place)
                lines = file.readlines(BLOCK)
                place = file.tell()
            yield from lines


def _notes(chain: Chain) -> Iterator[str]:
    last, mark = chain.last, chain.mark
    if chain.torn:
        yield "the last line is torn, as of a process that was killed or is writing"
    if last.event != CLOSED:
        yield (
            f"it was not closed after record {last.number:,}: its process goes on or was killed, or "
            "the end was cut, which a checkpoint kept elsewhere would show"
        )
    if mark.signature and mark.number < last.number:
        yield f"no signature covers what follows record {mark.number:,} yet"
    if mark.fields.get("lost"):
        yield f"{mark.fields['lost']} records could not be written, as on a full disk"
