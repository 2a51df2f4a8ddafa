"""What a walk through a serialised ONNX model found, as values."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property

from modelkit.package import operators, sizes
from modelkit.package.operators import Constant

DOMAINS = frozenset({"", "ai.onnx.ml", "com.microsoft"})
LOOPS = frozenset({b"Loop", b"Scan"})


@dataclass
class Scan:
    """What a walk through a graph found.

    Attributes:
        metadata: the keys of the model's metadata.
        domains: the domains of operators; an operator set that is declared and not used says
            nothing.
        external: location, offset and length of each tensor outside the graph.
        constants: initializers, and what operators of the name Constant give, by name.
        types: the data types by name that a graph declares of its own values.
        inputs: of the graph and its subgraphs, and whether its shape is known to vary.
        nodes: all operators.
        parts: the attributes of all operators, and the graphs in these.
        folding: what of the constants is computed at load.
        graph: the model, written again from what was checked: what a runtime is given.
    """

    metadata: set[str]
    domains: set[str] = field(default_factory=set)
    external: list[tuple[str, int, int]] = field(default_factory=list)
    constants: dict[bytes, list[Constant]] = field(default_factory=lambda: defaultdict(list))
    types: dict[bytes, set[int]] = field(default_factory=dict)
    inputs: dict[bytes, bool] = field(default_factory=dict)
    nodes: list[operators.Node] = field(default_factory=list)
    parts: int = 0
    folding: sizes.Folding = sizes.Folding(0, costly=False)  # noqa: RUF009
    graph: bytes = b""

    @cached_property
    def sources(self) -> Counter[bytes]:
        """How many values there are of a name: several where subgraphs have names of their own."""
        found = Counter(
            name for node in self.nodes if not node.is_constant for name in node.outputs
        )
        found.update({name: len(several) for name, several in self.constants.items()})
        found.update(self.inputs.keys())
        return found

    @cached_property
    def known(self) -> dict[bytes, Constant]:
        """The constants whose name nothing else has."""
        return {name: each[0] for name, each in self.constants.items() if self.sources[name] == 1}

    @property
    def endless(self) -> bool:
        """Whether a run may never end, or take long whatever its rows are."""
        return self.folding.costly or any(node.name in LOOPS for node in self.nodes)

    @cached_property
    def beyond(self) -> list[str]:
        """The domains of the operators that a caller has to allow."""
        strange = self.domains - DOMAINS
        if any(map(operators.is_rare, self.nodes)):
            strange.add(operators.MICROSOFT)
        return sorted(strange)
