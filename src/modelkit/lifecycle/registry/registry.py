"""The Registry: packages by name and version, and aliases that say which is current."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, final

from modelkit.errors import UsageError
from modelkit.lifecycle.registry import rules
from modelkit.lifecycle.registry.authors import announced, signed
from modelkit.lifecycle.registry.log import (
    CHAMPION,
    ROLLOUT,
    Alias,
    Entry,
    State,
    Underway,
    alias_of,
    log_of,
    underway,
)
from modelkit.lifecycle.registry.places import folder_of, registry_card
from modelkit.lifecycle.registry.releases import DIGEST, ModelVersion, Recorded
from modelkit.lifecycle.registry.rules import Judgement
from modelkit.lifecycle.registry.versions import Versions, check_pattern, release_of
from modelkit.model.access import Policy, check_access, check_policy
from modelkit.model.call import Action
from modelkit.model.identity import Identity
from modelkit.model.manifest import NAME_PATTERN, VERSION_PATTERN
from modelkit.model.model import Model
from modelkit.package.signing import Trust, check_signed, signatures_of
from modelkit.package.source import Openable, Reference, open_bytes
from modelkit.report.listing import Listing
from modelkit.store import open_store
from modelkit.store.log import Log
from modelkit.store.subfolder import Subfolder

Fields = Callable[[State], dict[str, Any]]  # of an entry; raises what forbids it


@final
class Registry:
    """Keeps packages by name and version; aliases say which is current.

        registry = mk.Registry("models")
        registry.register("churn.mk")
        registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="the first version")

    A version never changes. An alias changes by the next numbered entry of a log, which only one writer can
    make, so nobody overwrites what they have not seen, and the log is the history. A crash leaves the old or
    the new. Safe from any thread and process, and on several machines. Pickled as URL, trust and policy.

    Args:
        where: a folder, or the URL of a bucket (`s3://`, `gs://`, `az://`), with credentials from the environment.
        trust: keys that must have signed what is registered, loaded, fetched, referred to or given an alias.
        policy: who may "load", "export" (`fetch`, `reference`) and "set_alias" (it, `start_rollout`, `decide_rollout`,
            `retire`), as `Guarded` takes it; others get AccessDenied. A Rollout asks once, when it is made.

    Raises:
        UsageError: if `where` is a file, or a URL of another kind.
        MissingExtraError: if it is a bucket, and obstore is not installed.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        trust: Trust | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._policy = None if policy is None else check_policy(policy)
        self._store = open_store(where)
        self._versions = Versions(self._store, trust)
        self._logs: dict[str, Log[State, Entry]] = {}

    @property
    def url(self) -> str:
        """The absolute path of the folder, or the URL of the bucket."""
        return self._store.url

    def register(
        self, package: Openable, *, verdict: Judgement | None = None, parents: Sequence[str] = ()
    ) -> ModelVersion:
        """Keep a package under its name and version, for ever.

        The signatures in the file `PATH.sig` are kept too. Registering the same package again adds
        newer ones, and a verdict where there was none.

        Args:
            package: a path, the bytes of a package, or a binary file object.
            verdict: the verdict of a gate on this model; now, or later by registering again.
            parents: the versions or digests that it was made from.

        Raises:
            PackageError: for anything but a package, for a damaged one, and for lacking signatures.
            Conflict: if the version is there with another package, verdict or other parents.
            IntegrityError: if the registry holds it already, and it was damaged there.
            UsageError: if its version is "champion".
            RegistryError: if an alias has the version's name, or the verdict is of another model.
            TypeError: if `parents` are not texts, or `verdict` is no verdict.
        """
        rules.check_judgement(verdict)
        data = memoryview(bytes(open_bytes(package)))  # what is checked is what is kept
        record = b"" if verdict is None else verdict.to_json().encode()
        release = release_of(data, parents, record)
        check_signed(self._versions.trust, release.digest, package)
        signatures = signatures_of(package, release.digest)
        if verdict is not None:
            rules.check_candidate(verdict, release)
        self._take_name(release)
        return self._versions.add(release, data, record, signatures)

    def version(self, name: str, which: str = CHAMPION) -> ModelVersion:
        """What is known of a version, named by itself or by an alias. Raises NotFound."""
        version = self._version(name, which)
        release = self._versions.read(name, version)
        if release is None:
            self._versions.miss(name, which, version, self.aliases(name), gone=self.log(name).gone)
        return release

    def reference(self, name: str, which: str = CHAMPION) -> Reference:
        """A picklable reference to one version, for other processes and machines.

        An alias is resolved now. `mk.load` and `mk.Scorer` take what is returned, and ask no policy.
        Raises NotFound, and UntrustedError where signatures are lacking.
        """
        return self._versions.reference(self._allowed("export", name, which))

    def load(self, name: str, which: str = CHAMPION, **options: Any) -> Model:
        """Open a version, named by itself or by an alias.

        Args:
            name: the name of the model.
            which: a version, or an alias.
            options: arguments of `mk.load`, such as `device`; a joblib package needs the same ones as there.

        Raises:
            NotFound: for an unknown version.
            PackageError, DeviceError: as `mk.load` does.
        """
        return self._versions.open(self._allowed("load", name, which), options)

    def _open_followed(self, name: str, version: str, options: Mapping[str, Any]) -> Model:
        """As `load`, for a Rollout, which was allowed to follow when it was made."""
        return self._versions.open(self.version(name, version), options)

    def fetch(
        self, name: str, which: str = CHAMPION, folder: str | os.PathLike[str] | None = None
    ) -> Path:
        """The path of a verified package on this machine.

        Args:
            name: the name of the model.
            which: a version, or an alias.
            folder: where to put it; by default it stays in the folder it is in, or goes to `~/.cache/modelkit`.

        Raises:
            NotFound: for an unknown version.
            IntegrityError, UntrustedError: if the package was changed, or lacks signatures.
        """
        return self._versions.fetch(self._allowed("export", name, which), folder)

    def _allowed(self, action: Action, name: str, which: str) -> ModelVersion:
        """A version with which the policy, if there is one, lets the caller do this. Raises AccessDenied."""
        release = self.version(name, which)
        if self._policy is not None:
            check_access(self._policy, action, Identity(name, release.version, release.digest))
        return release

    def names(self) -> tuple[str, ...]:
        """The names of the models, in the order of the alphabet."""
        return self._versions.names()

    def versions(self, name: str) -> Listing[ModelVersion]:
        """Every version of a model, the first registered first, as a table. Raises NotFound without one."""
        found = self._versions.all(name)
        return Listing(sorted(found, key=lambda release: (release.at, release.version)))

    def aliases(self, name: str) -> Mapping[str, Alias]:
        """What each alias of a model names."""
        return dict(self.state(name).aliases)

    def generation(self, name: str) -> int:
        """The number of the last entry of a model's log; 0 without one."""
        return self.state(name).generation

    def history(self, name: str, alias: str | None = None) -> Listing[Entry]:
        """Every entry of a model's log as a table, the oldest first, or those that set one alias."""
        return Listing(each for each in self.log(name).entries() if alias in (None, each.alias))

    def set_alias(
        self,
        name: str,
        alias: str,
        version: str,
        *,
        expected: str | int | None,
        reason: str,
        force: bool = False,
        verdict: Judgement | None = None,
    ) -> Alias:
        """Let an alias name another version, if it still is what you saw.

        Args:
            name: the name of the model.
            alias: such as "champion".
            version: the version it shall name.
            expected: the version that it names now; or the generation of the entry that set it,
                which also notices a change to another version and back; None for a new alias.
            reason: why, for the history.
            force: set "champion" to a version although a rollout of it was rolled back.
            verdict: of a gate against the alias: a promotion, about both models, and of the same
                generation, so of several gates against one champion one wins.

        Raises:
            Conflict: if it was set since you, or the verdict, saw it; if the version was retired or rolled back.
            NotFound, UntrustedError: for an unknown version; for one without signatures, as `trust` asks.
            UsageError: if the alias cannot be a name, the version is an alias, or the reason is empty.
            RegistryError: for the name of a version, a verdict on something else, or a lost log.
            TypeError: if `expected` is something else, such as a bool, or `verdict` is no verdict.
        """
        check_pattern(rules.ALIAS_PATTERN, "alias", alias)
        self._check_version(name, version)
        self._versions.reference(self.version(name, version))
        registered = self._versions.of(name)

        def fields(state: State) -> dict[str, Any]:
            found = rules.alias_fields(
                state, name, alias, version, expected=expected, registered=registered, force=force
            )
            judged = rules.judged_by(verdict, alias, version, state, partial(self.version, name))
            return {**found, "about": judged}

        return alias_of(self._write(name, version, reason, fields))

    def state(self, name: str) -> State:
        """Everything that holds now for a model: its aliases, and the rollout under way."""
        return self.log(name).state()

    def start_rollout(
        self,
        name: str,
        candidate: str,
        policy: Recorded,
        *,
        reason: str,
        force: bool = False,
        verdict: Judgement | None = None,
    ) -> Underway:
        """Put a version on trial: every `Rollout` that follows this registry learns of it.

        Args:
            name: the name of the model.
            candidate: the version.
            policy: a `RolloutPolicy`.
            reason: why, for the history.
            force: begin although the version was rolled back before.
            verdict: of a gate of this version against "champion", as `set_alias` takes it.

        Raises:
            Conflict: if a rollout is under way, the version was retired or rolled back, or the
                alias was set since the verdict.
            RegistryError: if the verdict is about something else, or no promotion.
            NotFound: for an unknown version, and without a champion.
            UsageError: if the version cannot answer in place of the champion, with every reason.
            TypeError: for anything but a policy.
        """
        if not hasattr(policy, "stages"):  # other values have a record as well
            raise TypeError(f"policy is a mk.RolloutPolicy, not {policy!r:.80}")
        release = self._allowed("set_alias", name, candidate)
        record = policy.to_json()

        def fields(state: State) -> dict[str, Any]:
            champion = rules.check_start(state, name, release.version, force=force)
            self._versions.check_fits(self.version(name, champion), release)
            judged = rules.judged_by(
                verdict, CHAMPION, release.version, state, partial(self.version, name)
            )
            return {"kind": ROLLOUT, "about": {"champion": champion, "policy": record, **judged}}

        return underway(self._write(name, release.version, reason, fields))

    def decide_rollout(
        self,
        name: str,
        rollout: Underway,
        decision: str,
        *,
        reason: str,
        about: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Write down what becomes of a rollout. Whoever is first decides.

        A promotion lets the alias "champion" name the candidate, in the same entry.

        Args:
            name: the name of the model.
            rollout: as it was when this was decided.
            decision: "advance", "rollback", "promote" or "hold".
            reason: why, for the history.
            about: the evidence that led to it, by name.

        Raises:
            Conflict: if the rollout has ended by now, or is in another stage.
        """
        self._allowed("set_alias", name, rollout.candidate)
        fields = partial(
            rules.decision_fields, name=name, rollout=rollout, decision=decision, about=about or {}
        )
        return self._write(name, rollout.candidate, reason, fields)

    def rollout_folder(self, name: str, rollout: Underway) -> Subfolder:
        """Where those who run a rollout keep what they count."""
        check_pattern(NAME_PATTERN, "name", name)
        folder = folder_of(rollout.generation, rollout.id)
        return Subfolder(self._store, f"models/{name}/rollouts/{folder}")

    def retraining_folder(self, name: str) -> Subfolder:
        """Where the retrainings of a model keep what they did."""
        check_pattern(NAME_PATTERN, "name", name)
        return Subfolder(self._store, f"models/{name}/retraining")

    def hold_out_folder(self, digest: str) -> Subfolder:
        """Where the gates on labelled rows of this digest are counted."""
        check_pattern(DIGEST, "digest", digest)
        return Subfolder(self._store, f"holdouts/{digest}")

    def retire(self, name: str, version: str, *, reason: str) -> None:
        """Refuse a version any further alias; it stays, and opens by its version.

        Raises:
            Conflict: if an alias names it, or a rollout tries it.
            NotFound, UsageError: for an unknown version, and for an alias.
        """
        self._check_version(name, version)
        fields = partial(rules.retirement_fields, name=name, version=version)
        self._write(name, version, reason, fields)

    def keep(self, name: str, version: str, key: str, data: bytes) -> None:
        """Keep bytes beside a version, such as a report, once.

        Raises:
            Conflict, NotFound: if there are other bytes under this key; for an unknown version.
            UsageError: if the key is "verdict.json", which `register` keeps.
            TypeError: for anything but bytes.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            kind = type(data).__name__
            raise TypeError(f"what is kept is bytes, as of report.to_json().encode(), not {kind}")
        self._versions.keep(self.version(name, version), key, data)

    def kept(self, name: str, version: str, key: str) -> bytes:
        """What was kept beside a version. Raises NotFound."""
        return self._versions.kept(self.version(name, version), key)

    def log(self, name: str) -> Log[State, Entry]:
        """The log of a model: what was decided, and what holds now."""
        check_pattern(NAME_PATTERN, "name", name)
        return self._logs.get(name) or self._logs.setdefault(name, log_of(self._store, name))

    def _write(self, name: str, version: str, reason: str, fields: Fields) -> Entry:
        """Add an entry about a version, with the fields that it has by what holds; asks no policy."""
        entry = self.log(name).append(
            lambda state: {"version": version, **fields(state), **signed(reason)}
        )
        return announced(name, entry)

    def _version(self, name: str, which: str) -> str:
        """The version that an alias names, or the version itself."""
        alias = self.state(name).aliases.get(which)
        return check_pattern(VERSION_PATTERN, "version", which) if alias is None else alias.version

    def _check_version(self, name: str, version: str) -> None:
        """Raise NotFound for a version that is not there, and UsageError for an alias."""
        check_pattern(VERSION_PATTERN, "version", version)
        release = self._allowed("set_alias", name, version)
        if release.version != version:
            raise UsageError(f"{version!r} is an alias: pass {release.version!r}, which it names")

    def _take_name(self, release: ModelVersion) -> None:
        """Write down that no alias gets the name of a version; raise an error if one has it."""
        name, version = release.name, release.version
        if rules.could_be_alias(version) and version not in self.state(name).names:
            reason = "a version has this name, so no alias gets it"
            fields = partial(rules.name_fields, name=name, version=version)
            self._write(name, version, reason, fields)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Registry, trust=self._versions.trust, policy=self._policy), (self.url,)

    def __repr__(self) -> str:
        return f"Registry({self.url!r})"

    def _repr_html_(self) -> str:
        return registry_card(self.url, {name: self.aliases(name) for name in self.names()})
