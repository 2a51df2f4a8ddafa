"""The book of this process: what every Meter has counted, by name, version and digest of a model.

Counts belong to these three and not to a Meter, so that a model that is loaded again, by a swap or
a rollback, goes on counting. What the last Meter of a version has counted stays for as long as it is
among the last `KEPT` of its name, so that a scrape after a swap still sees the end of the old one.

A Model without a manifest has the name of its class, no version and no digest, and its counts go
with its Meter: nothing says that another Model of that class is the same one.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, final

from modelkit import forks
from modelkit.metering.ledger import Ledger
from modelkit.metering.totals import Totals, sum_of
from modelkit.model import Model

if TYPE_CHECKING:
    from modelkit.metering.meter import Meter

KEPT = 3  # versions of a name that are still shown after their last Meter is gone


class Identity(NamedTuple):
    """What tells the counts of one model from those of another."""

    name: str
    version: str
    digest: str


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
    totals: Totals
    retired: bool


@final
@dataclass(eq=False)
class _Account:
    identity: Identity
    ledger: Ledger
    meters: weakref.WeakSet[Meter] = field(default_factory=weakref.WeakSet)


def identity_of(model: Model) -> Identity:
    """The name, version and digest of the package of a Model; of its class if it has none."""
    manifest = model.manifest
    if manifest is None:
        return Identity(type(model.base).__name__, "", "")
    return Identity(manifest.name, manifest.version, manifest.digest)


def enter(meter: Meter) -> Ledger:
    """The Ledger that a new Meter counts in."""
    identity = identity_of(meter)
    with _book.lock:
        _book.sweep()
        account = _book.find(identity)
        if account is None:
            account = _Account(identity, Ledger())
        _book.retired = [old for old in _book.retired if old is not account]
        if account not in _book.alive:
            _book.alive.append(account)
        account.meters.add(meter)
        return account.ledger


def meters(name: str) -> list[Meter]:
    """The Meters of this name that are alive."""
    with _book.lock:
        of_name = [account for account in _book.alive if account.identity.name == name]
        return [meter for account in of_name for meter in account.meters]


def counted(name: str) -> list[Counted]:
    """What was counted of the models of a name: those that have a Meter, then the last retired."""
    with _book.lock:
        _book.sweep()
        alive = [account for account in _book.alive if account.identity.name == name]
        retired = [account for account in _book.retired if account.identity.name == name]
    return [*_grouped(alive, retired=False), *_grouped(retired, retired=True)]


def _grouped(accounts: list[_Account], *, retired: bool) -> list[Counted]:
    """Models without a manifest have accounts of their own, and are shown together by name."""
    found: dict[Identity, list[Totals]] = {}
    for account in accounts:
        found.setdefault(account.identity, []).append(account.ledger.totals())
    return [Counted(*identity, sum_of(each), retired) for identity, each in found.items()]


class _Book:
    """Both lists are in the order in which the accounts began, or were retired."""

    def __init__(self) -> None:
        self.alive: list[_Account] = []
        self.retired: list[_Account] = []
        self.after_fork()
        forks.watch(self)

    def after_fork(self) -> None:
        """A child shows nothing that was retired before it began."""
        # Taken again by the thread that has it: the garbage collector may run a finalizer anywhere.
        self.lock = threading.RLock()
        self.retired = []

    def find(self, identity: Identity) -> _Account | None:
        """The account that goes on, if there is one."""
        if not identity.digest:
            return None
        accounts = (*self.alive, *self.retired)
        return next((one for one in accounts if one.identity == identity), None)

    def sweep(self) -> None:
        """Retire the accounts whose last Meter is gone, and forget all but the last of a name."""
        gone = [account for account in self.alive if not account.meters]
        self.alive = [account for account in self.alive if account.meters]
        self.retired += [account for account in gone if account.identity.digest]
        for name in {account.identity.name for account in gone}:
            of_name = [account for account in self.retired if account.identity.name == name]
            for account in of_name[:-KEPT]:
                self.retired.remove(account)


_book = _Book()
