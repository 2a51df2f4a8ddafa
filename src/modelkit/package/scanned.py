"""What a walk through a serialised ONNX model found, as values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from modelkit.package import operators, sizes

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
LOOPS = frozenset({b"Loop", b"Scan"})

OpCall = tuple[bytes, bytes, bytes]  # domain, name and overload of an operator

# What a value is to the graph that holds it.
CONSTANT = "constant"
OPEN = "input of open shape"
CLOSED = "input of fixed shape"
INNER = "other"


class Told(NamedTuple):
    """What a tensor or another value told.

    `held` is its size, `values` its numbers where they are few, and `kind` its data type.
    """

    name: bytes
    held: sizes.Held
    values: list[float]
    kind: int
    role: str


NOTHING = sizes.Held(0, 0)
SUBGRAPH = Told(b"", NOTHING, [], 0, INNER)  # what a graph tells the attribute that holds it


@dataclass
class Scan:
    """What a walk through a graph found.

    Attributes:
        domains: those of operators and functions; an operator set that is declared and not used
            tells nothing.
        external: location, offset and length of each tensor outside the graph.
        metadata: the keys of the model's metadata.
        numbers: the numbers of small tensors by name.
        constants: data types and numbers of initializers by name.
        inputs: those of all graphs.
        declared: the messages that say of what type other values are.
        held: the sizes of initializers by name.
        open: the inputs of the model whose shape is not fixed.
        closed: all other inputs.
        sparse: the bytes of sparse tensors once they are dense.
        nodes: all operators.
        calls: the operators of the graph.
        functions: the operators of each function of the model.
        folding: what of the constants is computed at load.
    """

    domains: set[str] = field(default_factory=set)
    external: list[tuple[str, int, int]] = field(default_factory=list)
    metadata: set[str] = field(default_factory=set)
    numbers: dict[bytes, list[list[float]]] = field(default_factory=dict)
    constants: dict[bytes, list[tuple[int, list[float]]]] = field(default_factory=dict)
    inputs: list[Told] = field(default_factory=list)
    declared: list[memoryview] = field(default_factory=list)
    held: dict[bytes, sizes.Held] = field(default_factory=dict)
    open: set[bytes] = field(default_factory=set)
    closed: set[bytes] = field(default_factory=set)
    sparse: float = 0.0
    nodes: list[operators.Node] = field(default_factory=list)
    calls: list[OpCall] = field(default_factory=list)
    functions: dict[OpCall, Counter[OpCall]] = field(default_factory=dict)
    folding: sizes.Folding = field(default_factory=lambda: sizes.Folding(0, costly=False))

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


def decoded(text: bytes) -> str:
    """A text of the graph, whatever bytes it holds."""
    return text.decode("utf-8", "backslashreplace")
