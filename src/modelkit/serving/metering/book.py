"""The book of this process: what every Meter has counted, by name, version and digest of a model.

Counts belong to these three and not to a Meter, so a model that is loaded again, by a swap or
a rollback, goes on counting. What the last Meter of a version has counted stays for as long as it is
among the last `KEPT_VERSIONS` of its name, so a scrape after a swap still sees the end of the old
one.

A Model without a manifest has the name of its class, no version and no digest. Nothing says that
another Model of that class is the same one, so that its counts go with its Meter; but in a folder,
where a name is all that processes have in common, they belong to the name.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from modelkit._internal.process import watch_forks
from modelkit.model.identity import Identity, identity_of
from modelkit.model.model import Model
from modelkit.serving.metering.ledger import Ledger, Read, counted_by, read_folder
from modelkit.serving.metering.totals import (
    OF_A_MODEL,
    Label,
    LabelCounts,
    MeterTotals,
    totals_of,
    without_the_old,
)

if TYPE_CHECKING:
    from modelkit.serving.metering.folder import SharedFolder


@final
@dataclass(frozen=True)
class VersionCounts:
    """What was counted of one version of a model.

    Attributes:
        name: the name in the manifest, or of the class of a Model without one.
        version: the version in the manifest, or "".
        digest: the digest of the package, or "".
        totals: what was counted.
        retired: whether no Meter of that version is alive.
    """

    name: str
    version: str
    digest: str
    totals: MeterTotals
    retired: bool


def enter(meter: Model, folder: SharedFolder | None) -> Ledger:
    """The Ledger that a new Meter counts in; raises UsageError where the folder cannot be used."""
    label = (OF_A_MODEL, *identity_of(meter))
    with _book.lock:
        _book.sweep()
        if folder is not None:
            folder.begin(label)
        ledger = _book.find(label, folder)
        of_ledger = _book.meters.get(ledger, weakref.WeakSet())
        of_ledger.add(meter)
        # Another dict, since a handler of signals may come in where this one is gone through.
        _book.meters = {**_book.meters, ledger: of_ledger}
        ledger.retired = 0
        return ledger


def meters(name: str) -> list[Model]:
    """The Meters of this name that are alive."""
    with _book.lock:
        return [meter for ledger in _book.of(name) for meter in _book.meters[ledger]]


def is_shared(name: str) -> bool:
    """Whether a Meter of this name counts together with Meters of other processes."""
    with _book.lock:
        return any(not each.retired and each.folder is not None for each in _book.of(name))


def counted(*names: str, read: Read = read_folder) -> list[VersionCounts]:
    """What was counted of the models of these names; a folder is read once for all of them.

    First come those that have a Meter, then the last that were retired. In a folder these are the
    models of all processes; raises UsageError where it cannot be read.
    """
    with _book.lock:
        _book.sweep()
        ledgers = _book.of(*names)
    return [
        VersionCounts(*Identity(*label[1:]), totals_of(kept.sums), bool(kept.retired))
        for label, kept in counted_by(ledgers, read).items()
        if label[0] == OF_A_MODEL and label[1] in names
    ]


def _outlives(ledger: Ledger) -> bool:
    """Whether later Meters of its model use this Ledger too."""
    *_, digest = ledger.label
    return digest != "" or ledger.folder is not None


class _Book:
    """The Ledgers of models, in the order in which they began, each with its Meters that are alive."""

    def __init__(self) -> None:
        self.meters: dict[Ledger, weakref.WeakSet[Model]] = {}
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """A child shows nothing that was retired before it began."""
        # Taken again by the thread that has it: the garbage collector may run a finalizer anywhere.
        self.lock = threading.RLock()
        self._keep([ledger for ledger in self.meters if not ledger.retired])

    def _keep(self, ledgers: Sequence[Ledger]) -> None:
        self.meters = {ledger: self.meters[ledger] for ledger in ledgers}

    def of(self, *names: str) -> list[Ledger]:
        """The Ledgers of these names, those in use first, and then in the order of retirement."""
        of_names = [ledger for ledger in self.meters if ledger.label[1] in names]
        return sorted(of_names, key=lambda ledger: ledger.retired)

    def find(self, label: Label, folder: SharedFolder | None) -> Ledger:
        """The Ledger that goes on, or a new one."""
        for ledger in self.meters:
            if ledger.label == label and ledger.folder is folder and _outlives(ledger):
                return ledger
        return Ledger(label, folder)

    def sweep(self) -> None:
        """Retire the Ledgers whose last Meter is gone, and forget all but the last of a name."""
        for ledger, meters in self.meters.items():
            if not meters and not ledger.retired:
                ledger.retire()
        known = [each for each in self.meters if not each.retired or _outlives(each)]
        shown = without_the_old({each.label: LabelCounts([], each.retired) for each in known})
        self._keep([ledger for ledger in known if not ledger.retired or ledger.label in shown])


_book = _Book()
