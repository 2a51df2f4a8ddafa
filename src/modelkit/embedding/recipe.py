"""How a text becomes a vector: what a TextEncoder does around its graph, as a value."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from numbers import Integral

from modelkit._internal.fields import SURROGATE, freeze
from modelkit.errors import SignatureError
from modelkit.signature.signature import Signature
from modelkit.signature.spec import Column, TensorSpec

POOLINGS = ("mean", "cls", "last", "max")
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
TEXT = "text"
EMBEDDING = "embedding"
# The most tokens of a text, and numbers of a vector, that a file may state.
MOST_NUMBERS = 1 << 17
# The least cosine, between a text's vector alone and in a batch, that counts as the same vector.
INDEPENDENT = 0.9999


@dataclass(frozen=True)
class Measurements:
    """What was measured of an encoder, which decides no vector.

    `alone` is the least cosine between the vector of a text alone and in a batch, None before it
    was measured; `reference` that to the reference vectors, None without any.
    """

    alone: float | None = None
    reference: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How a TextEncoder makes vectors.

    `graph` is the signature of the graph over tokens, and `output` its output with a vector for
    each token. `dims` are the lengths a vector may be cut to, the whole one first. `on_long` says
    what becomes of a text of more than `max_tokens`. `stable` runs every text alone. All but what
    was `measured` decides the vectors.

    Raises SignatureError for what fits no graph or is not known.
    """

    graph: Signature
    output: str
    pooling: str
    normalize: bool
    dims: tuple[int, ...]
    max_tokens: int
    on_long: str = "truncate"
    stable: bool = False
    roles: dict[str, str] = field(default_factory=dict)
    measured: Measurements = Measurements()

    def __post_init__(self) -> None:
        freeze(self, "dims")
        _check_known("pooling", self.pooling, POOLINGS)
        _check_known("on_long", self.on_long, ("truncate", "error"))
        for name, flag in (("normalize", self.normalize), ("stable", self.stable)):
            if type(flag) is not bool:
                raise SignatureError(f"{name} is True or False, not {flag!r}")
        for role, prefix in self.roles.items():
            strings = isinstance(role, str) and isinstance(prefix, str)
            if not strings or SURROGATE.search(role + prefix):
                raise SignatureError(
                    "roles are prefixes by name, both strings of valid Unicode; got "
                    f"{role!r}: {prefix!r}"
                )
        _check_tokens(self.graph)
        if self.output not in self.graph.output_names:
            raise SignatureError(
                f"the graph has no output {self.output!r}; it has {list(self.graph.output_names)}"
            )
        if type(self.max_tokens) is not int or not 1 <= self.max_tokens <= MOST_NUMBERS:
            raise SignatureError(
                f"max_tokens is an integer from 1 to {MOST_NUMBERS:,}, not {self.max_tokens!r}"
            )
        _check_dims(self.dims)
        _check_vectors(self.graph, self.output, self.dims[0])

    @property
    def signature(self) -> Signature:
        """Texts in, vectors out."""
        return Signature(
            (TensorSpec(TEXT, "string", ("batch", 1), (Column(TEXT, "string"),)),),
            (TensorSpec(EMBEDDING, "float32", ("batch", self.dims[0])),),
        )

    @property
    def independent(self) -> bool:
        """Whether a vector was shown not to depend on the texts it is made with."""
        alone = self.measured.alone
        return self.stable or (alone is not None and alone >= INDEPENDENT)

    def cut(self, dims: int | None) -> int:
        """The length of the vectors that are asked for.

        Raises SignatureError for one that is not declared.
        """
        if dims is None:
            return self.dims[0]
        if isinstance(dims, bool) or not isinstance(dims, Integral) or dims not in self.dims:
            raise SignatureError(
                f"dims={dims!r} is not one of the lengths {list(self.dims)} of this encoder"
            )
        return int(dims)

    def prefix(self, role: str | None) -> str:
        """The text that is put before a text in this role.

        Raises SignatureError for one that is not declared.
        """
        if role is None:
            return ""
        if not isinstance(role, str) or role not in self.roles:
            known = f"it has {list(self.roles)}" if self.roles else "it has none"
            raise SignatureError(f"role {role!r} is not one of this encoder's: {known}")
        return self.roles[role]

    def canonical(self) -> bytes:
        """The fields that make a difference to vectors, as bytes that are the same anywhere."""
        told = (
            self.output,
            self.pooling,
            self.normalize,
            self.dims,
            self.max_tokens,
            self.stable,
            self.roles,
        )
        return json.dumps(told, sort_keys=True).encode()

    def __str__(self) -> str:
        parts = [
            f"{self.pooling} of {self.output!r}",
            "normalised" if self.normalize else "not normalised",
            f"{' or '.join(map(str, self.dims))} dimensions",
            f"at most {self.max_tokens} tokens"
            + (", longer texts are an error" if self.on_long == "error" else ""),
        ]
        if self.roles:
            roles = ", ".join(f"{name} {prefix!r}" for name, prefix in self.roles.items())
            parts.append(f"roles {roles}")
        if self.stable:
            parts.append("every text is run alone")
        alone, reference = self.measured.alone, self.measured.reference
        if alone is not None:
            same = "do not depend" if alone >= INDEPENDENT else "DEPEND"
            parts.append(f"vectors {same} on the texts beside them (least cosine {alone:.7f})")
        if reference is not None:
            parts.append(f"least cosine to reference vectors {reference:.5f}")
        return "; ".join(parts)


def _is_token_input(spec: TensorSpec) -> bool:
    named = len(spec.shape) == 2 and all(isinstance(size, str) for size in spec.shape)
    return spec.name in TOKEN_INPUTS and spec.dtype in ("int64", "int32") and named


def _check_known(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise SignatureError(f"{name} is one of {list(known)}, not {value!r}")


def _check_tokens(graph: Signature) -> None:
    """Raise SignatureError for a graph that takes anything but tokens, or not all it needs of them."""
    odd = [spec for spec in graph.inputs if not _is_token_input(spec)]
    if odd or not {"input_ids", "attention_mask"} <= {spec.name for spec in graph.inputs}:
        raise SignatureError(
            "a graph over tokens takes input_ids and attention_mask, and may take "
            "token_type_ids and position_ids, each int64 or int32 of two named dimensions; "
            f"this one takes {graph}"
        )


def _check_dims(dims: tuple[int, ...]) -> None:
    whole = all(type(size) is int and 1 <= size <= MOST_NUMBERS for size in dims)
    if not dims or not whole or list(dims) != sorted({*dims}, reverse=True):
        raise SignatureError(
            f"dims are integers from 1 to {MOST_NUMBERS:,}, the largest first; got {dims}"
        )


def _check_vectors(graph: Signature, output: str, largest: int) -> None:
    """Raise SignatureError where an output is not a vector of at least `largest` numbers a token."""
    (spec,) = [spec for spec in graph.outputs if spec.name == output]
    width = spec.shape[-1] if len(spec.shape) == 3 else 0
    if spec.dtype not in ("float32", "float16") or (isinstance(width, int) and width < largest):
        raise SignatureError(f"output {spec} is not a vector of {largest} numbers for each token")
