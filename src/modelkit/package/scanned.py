"""What a walk through a serialised ONNX model found, as values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from modelkit.package import operators, sizes

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
LOOPS = frozenset({b"Loop", b"Scan"})

OpCall = tuple[bytes, bytes, bytes]  # domain, name and overload of an operator


@dataclass
class Scan:
    """What a walk through a graph found.

    Attributes:
        metadata: the keys of the model's metadata.
        domains: those of operators and functions; an operator set that is declared and not used
            tells nothing.
        external: location, offset and length of each tensor outside the graph.
        numbers: the numbers of small tensors by name.
        constants: data types and numbers of initializers by name.
        types: the data types that the graph declares of inputs and other values, by name.
        held: the sizes of initializers by name.
        open: the inputs of the model whose shape is not fixed.
        closed: all other inputs.
        sparse: the bytes of sparse tensors once they are dense.
        nodes: all operators.
        calls: the operators of the graph.
        functions: the operators of each function of the model.
        folding: what of the constants is computed at load.
        graph: the model, written anew from what was checked: what a runtime is given.
    """

    metadata: set[str]
    domains: set[str] = field(default_factory=set)
    external: list[tuple[str, int, int]] = field(default_factory=list)
    numbers: dict[bytes, list[list[float]]] = field(default_factory=dict)
    constants: dict[bytes, list[tuple[int, list[float]]]] = field(default_factory=dict)
    types: dict[bytes, set[int]] = field(default_factory=dict)
    held: dict[bytes, sizes.Held] = field(default_factory=dict)
    open: set[bytes] = field(default_factory=set)
    closed: set[bytes] = field(default_factory=set)
    sparse: float = 0.0
    nodes: list[operators.Node] = field(default_factory=list)
    calls: list[OpCall] = field(default_factory=list)
    functions: dict[OpCall, Counter[OpCall]] = field(default_factory=dict)
    folding: sizes.Folding = field(default_factory=lambda: sizes.Folding(0, costly=False))
    graph: bytes = b""

    def hold(self, name: bytes, kind: int, held: sizes.Held, numbers: list[float]) -> None:
        """Note a constant: its data type, its size and its numbers."""
        self.held[name] = sizes.larger(held, self.held.get(name))
        self.constants.setdefault(name, []).append((kind, numbers))

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
