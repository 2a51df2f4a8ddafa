"""The two models of a gate, opened from wherever they are."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, final

from modelkit.errors import UsageError
from modelkit.lifecycle.registry.registry import Registry
from modelkit.model.manifest import Manifest
from modelkit.model.model import Model
from modelkit.model.wrapper import has_several_versions
from modelkit.package.load import load
from modelkit.package.source import Openable

REGISTERED = "registry:"


@final
@dataclass(frozen=True, eq=False)
class Judged:
    """A model that a gate judges.

    Attributes:
        model: it.
        manifest: of its package.
        alias: the alias of a registry that named it, or "".
        generation: the number of the entry by which the alias did; None without an alias.
    """

    model: Model
    manifest: Manifest
    alias: str = ""
    generation: int | None = None

    @property
    def named(self) -> str:
        """Name and version."""
        return f"{self.manifest.name} {self.manifest.version}"


def open_judged(
    source: Model | Openable, *, registry: Registry | None, unseal: Any, stack: ExitStack, what: str
) -> Judged:
    """A model that is open already, or that is opened and closed by the stack.

    `unseal` is for the versions of the registry. Raises UsageError, and what `mk.load` and a Registry raise.
    """
    if not isinstance(registry, Registry | None):
        raise TypeError(f"registry is a mk.Registry, not {registry!r:.80}")
    alias = ""
    generation = None
    if isinstance(source, Model):
        if has_several_versions(source):
            raise UsageError(
                f"the {what} is a Rollout, of several versions, and a Verdict is about two: pass the "
                'package of one, or registry= and a text such as "registry:churn@champion"'
            )
        model = source
    elif isinstance(source, str) and source.startswith(REGISTERED):
        name, _, which = source.removeprefix(REGISTERED).partition("@")
        if registry is None or not name or not which:
            raise UsageError(
                f"{source!r} is read as registry:NAME@ALIAS or registry:NAME@VERSION, such as "
                "registry:churn@champion, and needs registry=mk.Registry(...)"
            )
        known = registry.aliases(name).get(which)
        if known is not None:
            alias = which
            which = known.version
            generation = known.generation
        model = stack.enter_context(registry.load(name, which, unseal=unseal))
    else:
        model = stack.enter_context(load(source))
    if model.manifest is None:
        raise UsageError(
            f"the {what} is of no package, so a Verdict could not say what it is about: save it, and "
            "pass the path, or the Model that mk.load gives for it"
        )
    return Judged(model, model.manifest, alias, generation)
