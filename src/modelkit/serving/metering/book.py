"""The book of this process: what every Meter has counted, by name, version and digest of a model.

Counts belong to these three and not to a Meter, so that a model that is loaded again, by a swap or
a rollback, goes on counting. What the last Meter of a version has counted stays for as long as it is
among the last `KEPT_VERSIONS` of its name, so that a scrape after a swap still sees the end of the old one.

A Model without a manifest has the name of its class, no version and no digest. Nothing says that
another Model of that class is the same one, so that its counts go with its Meter; but in a folder,
where a name is all that processes have in common, they belong to the name.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from modelkit._internal.process import watch_forks
from modelkit.model.identity import Identity, identity_of
from modelkit.model.model import Model
from modelkit.serving.metering.ledger import Ledger, Read, read_folder
from modelkit.serving.metering.totals import KEPT_VERSIONS, OF_A_MODEL, MeterTotals, totals_of

if TYPE_CHECKING:
    from modelkit.serving.metering.folder import SharedFolder


@final
@dataclass(frozen=True)
class Counted:
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


@final
@dataclass(eq=False)
class _Account:
    identity: Identity
    ledger: Ledger
    meters: weakref.WeakSet[Model] = field(default_factory=weakref.WeakSet)

    def is_of(self, identity: Identity, folder: SharedFolder | None) -> bool:
        """Whether a new Meter of this identity goes on counting here."""
        return (
            self.identity == identity and self.ledger.folder is folder and self.outlives_its_meters
        )

    @property
    def outlives_its_meters(self) -> bool:
        return bool(self.identity.digest) or self.ledger.folder is not None


def enter(meter: Model, folder: SharedFolder | None) -> Ledger:
    """The Ledger that a new Meter counts in; raises UsageError where the folder cannot be used."""
    identity = identity_of(meter)
    with _book.lock:
        _book.sweep()
        if folder is not None:
            folder.begin((OF_A_MODEL, *identity))
        account = _book.find(identity, folder)
        account.meters.add(meter)
        return account.ledger


def meters(name: str) -> list[Model]:
    """The Meters of this name that are alive."""
    with _book.lock:
        of_name = [account for account in _book.alive if account.identity.name == name]
        return [meter for account in of_name for meter in account.meters]


def is_shared(name: str) -> bool:
    """Whether a Meter of this name counts together with those of other processes."""
    with _book.lock:
        of_name = [account for account in _book.alive if account.identity.name == name]
        return any(account.ledger.folder is not None for account in of_name)


def counted(*names: str, read: Read = read_folder) -> list[Counted]:
    """What was counted of the models of these names; a folder is read once for all of them.

    First come those that have a Meter, then the last that were retired. In a folder these are the
    models of all processes; raises UsageError where it cannot be read.
    """
    with _book.lock:
        _book.sweep()
        alive = [account for account in _book.alive if account.identity.name in names]
        retired = [account for account in _book.retired if account.identity.name in names]
    found = _Found({})
    for account in (*alive, *retired):
        found.add(account.identity, account.ledger.own_totals(), retired=account in retired)
    for folder in {account.ledger.folder for account in (*alive, *retired)}:
        if folder is not None:
            for label, kept in read(folder).items():
                if label[0] == OF_A_MODEL and label[1] in names:
                    found.add(
                        Identity(*label[1:]), totals_of(kept.sums), retired=bool(kept.retired)
                    )
    return list(found.by_identity.values())


@dataclass
class _Found:
    by_identity: dict[Identity, Counted]

    def add(self, identity: Identity, totals: MeterTotals, *, retired: bool) -> None:
        """Add what was counted in one place; a model is retired if it is so everywhere."""
        before = self.by_identity.get(identity)
        if before is not None:
            totals = before.totals + totals
            retired = before.retired and retired
        self.by_identity[identity] = Counted(*identity, totals, retired)


class _Book:
    """Both lists are in the order in which the accounts began, or were retired."""

    def __init__(self) -> None:
        self.alive: list[_Account] = []
        self.retired: list[_Account] = []
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """A child shows nothing that was retired before it began."""
        # Taken again by the thread that has it: the garbage collector may run a finalizer anywhere.
        self.lock = threading.RLock()
        self.retired = []

    def find(self, identity: Identity, folder: SharedFolder | None) -> _Account:
        """The account that goes on, or a new one."""
        accounts = (*self.alive, *self.retired)
        found = next((one for one in accounts if one.is_of(identity, folder)), None)
        if found is None:
            found = _Account(identity, Ledger((OF_A_MODEL, *identity), folder))
        if found in self.retired:
            self.retired.remove(found)
        if found not in self.alive:
            self.alive.append(found)
        return found

    def sweep(self) -> None:
        """Retire the accounts whose last Meter is gone, and forget all but the last of a name."""
        gone = [account for account in self.alive if not account.meters]
        self.alive = [account for account in self.alive if account.meters]
        for account in gone:
            account.ledger.retire()
        self.retired += [account for account in gone if account.outlives_its_meters]
        for name in {account.identity.name for account in gone}:
            of_name = [account for account in self.retired if account.identity.name == name]
            for account in of_name[:-KEPT_VERSIONS]:
                self.retired.remove(account)


_book = _Book()
