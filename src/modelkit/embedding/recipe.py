"""What is done around a graph over tokens, as values: a Recipe makes vectors of texts, a PairRecipe scores of pairs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.fields import SURROGATE, freeze
from modelkit.embedding.pooling import unit
from modelkit.errors import SignatureError
from modelkit.signature.signature import Signature
from modelkit.signature.spec import Column, TensorSpec

POOLINGS = ("mean", "cls", "last", "max", "splade", "none")
ACTIVATIONS = ("sigmoid", "none")
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
QUERY = "query"
TEXT = "text"
EMBEDDING = "embedding"
SCORE = "score"
# The most tokens of a text, and numbers of a vector, that a file may state.
MOST_NUMBERS = 1 << 17
# Of texts that an encoder is proven on, and that `verify` replays.
EXAMPLE_WORDS = (
    "the of and river to model in a street number error is for that music with as on green was by "
    "table are engine from kitchen be this winter or an window at which request not were coffee "
    "return have has museum"
)
# The fields that decide no answer, and the graph, which has a digest of its own.
NOT_IDENTIFYING = ("graph", "on_long", "measured")
# The least closeness, of a row's answer alone and in a batch, that counts as the same answer.
INDEPENDENT = 0.9999


@dataclass(frozen=True)
class Measurements:
    """What was measured of an encoder or a reranker, which decides no answer.

    `alone` is the closeness of the answers to rows alone and in a batch, None before it was
    measured; `reference` that to reference answers, None without any. See `Recipe.closeness`.
    """

    alone: float | None = None
    reference: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How a TextEncoder makes vectors.

    `graph` is the signature of the graph over tokens, and `output` its output with a vector for
    each token, or with the finished vector of each text where `pooling` is "none". `dims` are the
    lengths a vector may be cut to, the whole one first. `on_long` says what becomes of a text of
    more than `max_tokens`. `stable` runs every text alone. All but what was `measured` decides the
    answers.

    Raises SignatureError for what fits no graph or is not known.
    """

    columns: ClassVar[tuple[str, ...]] = (TEXT,)
    answer: ClassVar = EMBEDDING
    words: ClassVar = ("text", "vectors", "least cosine")  # a row, its answers, their closeness

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
        if isinstance(self.dims, Integral | str):
            raise TypeError(
                f"dims is a list of lengths, the largest first, such as dims=[{self.dims}], not {self.dims!r}"
            )
        freeze(self, "dims")
        _check_known("pooling", self.pooling, POOLINGS)
        _check_known("on_long", self.on_long, ("truncate", "error"))
        for name, flag in (("normalize", self.normalize), ("stable", self.stable)):
            if type(flag) is not bool:
                raise SignatureError(f"{name} is True or False, not {flag!r}")
        roles = self.roles
        named = [*roles, *roles.values()] if isinstance(roles, Mapping) else [None]
        if not all(isinstance(each, str) and not SURROGATE.search(each) for each in named):
            raise SignatureError(
                "roles are prefixes by name, both strings of valid Unicode, such as "
                f"{{'query': 'query: '}}; got {roles!r:.80}"
            )
        object.__setattr__(self, "roles", dict(roles))
        _check_tokens(self.graph)
        if self.output not in self.graph.output_names:
            raise SignatureError(
                f"the graph lacks the output {self.output!r}; it has {list(self.graph.output_names)}"
            )
        if type(self.max_tokens) is not int or not 1 <= self.max_tokens <= MOST_NUMBERS:
            raise SignatureError(
                f"max_tokens is an integer from 1 to {MOST_NUMBERS:,}, not {self.max_tokens!r}"
            )
        _check_dims(self.dims)
        _check_vectors(self.graph, self.output, self.dims[0], self.pooling)

    @property
    def signature(self) -> Signature:
        """Texts in, vectors (n, d) out; or pairs in, and scores out."""
        inputs = [
            TensorSpec(name, "string", ("batch", 1), (Column(name, "string"),))
            for name in self.columns
        ]
        sizes = self.finished(np.empty((0, self.dims[0]), np.float32)).shape[1:]
        return Signature(tuple(inputs), (TensorSpec(self.answer, "float32", ("batch", *sizes)),))

    @property
    def around(self) -> dict[str, Any]:
        """What the verbs do before and after the model answers."""
        return {"roles": self.roles, "dims": self.dims, "normalize": self.normalize}

    @property
    def independent(self) -> bool:
        """Whether an answer was shown not to depend on the rows it is made with."""
        alone = self.measured.alone
        return self.stable or (alone is not None and alone >= INDEPENDENT)

    def closeness(self, left: Array, right: Array) -> float:
        """How close two lists of vectors are, (n, d): their least cosine, 1 if they are the same."""
        cosines = (unit(left) * unit(right)).sum(axis=1)
        zeros = ~left.any(axis=1) & ~right.any(axis=1)
        cosines[zeros] = 1  # two vectors of zeros are the same
        return float(cosines.min())

    def made_up(self, count: int) -> list[Any]:
        """Texts to prove the graph on."""
        return made_up(count, self.max_tokens)

    def finished(self, vectors: Array) -> Array:
        """The output, from the vectors (n, d) of pooling."""
        return vectors

    def cut(self, dims: int | None) -> int:
        """The length of the vectors that are asked for.

        Raises SignatureError for one that is not declared.
        """
        if dims is None:
            return self.dims[0]
        if isinstance(dims, bool) or not isinstance(dims, Integral) or dims not in self.dims:
            raise SignatureError(
                f"dims={dims!r} is not one of the lengths {list(self.dims)} of this encoder; "
                "name others by dims= when you make it"
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
        """The fields that make a difference to answers, as bytes that are the same anywhere."""
        deciding = [value for name, value in vars(self).items() if name not in NOT_IDENTIFYING]
        return json.dumps(deciding, sort_keys=True).encode()

    def steps(self) -> str:
        """How answers are made of what the graph gives."""
        return (
            f"{'finished vectors' if self.pooling == 'none' else self.pooling} of {self.output!r}; "
            f"{'' if self.normalize else 'not '}normalised; "
            f"{' or '.join(map(str, self.dims))} dimensions"
        )

    def __str__(self) -> str:
        row, answers, measure = self.words
        parts = [self.steps()]
        too_long = f", longer {row}s are an error" if self.on_long == "error" else ""
        parts.append(f"at most {self.max_tokens} tokens{too_long}")
        if self.roles:
            roles = ", ".join(f"{name} {prefix!r}" for name, prefix in self.roles.items())
            parts.append(f"roles {roles}")
        if self.stable:
            parts.append(f"every {row} is run alone")
        alone, reference = self.measured.alone, self.measured.reference
        if alone is not None:
            same = "do not depend" if alone >= INDEPENDENT else "DEPEND"
            parts.append(f"{answers} {same} on the {row}s beside them ({measure} {alone:.7f})")
        if reference is not None:
            parts.append(f"{measure} to reference {answers} {reference:.5f}")
        return "; ".join(parts)


@dataclass(frozen=True)
class PairRecipe(Recipe):
    """How a Reranker makes scores of pairs of texts.

    As `Recipe` with the pooling "none": `activation` makes the scores of the numbers that the graph
    gives for each pair, of which there are `dims[0]`.
    """

    columns: ClassVar = (QUERY, TEXT)
    answer: ClassVar = SCORE
    words: ClassVar = ("pair", "scores", "closeness")
    activation: str = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_known("activation", self.activation, ACTIVATIONS)

    def closeness(self, left: Array, right: Array) -> float:
        """How close two lists of scores are: 1 less their largest difference as a part of their range."""
        gap, spread = np.abs(left - right).max(axis=0), np.ptp(left, axis=0)
        return 1 - float(np.max(gap / np.maximum(spread, 1e-30)))

    def made_up(self, count: int) -> list[Any]:
        """Pairs of texts to prove the graph on; every other query is its text."""
        texts = made_up(count, self.max_tokens // 2)
        return [(texts[at - at % 2], text) for at, text in enumerate(texts)]

    def finished(self, vectors: Array) -> Array:
        """The scores, from the numbers (n, d) of the graph: (n,) if d is 1."""
        scores = sigmoid(vectors) if self.activation == "sigmoid" else vectors
        return scores[:, 0] if self.dims[0] == 1 else scores

    def steps(self) -> str:
        """How scores are made of what the graph gives."""
        return f"{self.dims[0]} of {self.output!r} a pair; activation {self.activation}"


def sigmoid(values: Array) -> Array:
    """1 / (1 + exp(-x)) of float32, without an overflow."""
    return np.asarray(np.exp(-np.logaddexp(np.float32(0), -values)))


def made_up(count: int, tokens: int) -> list[str]:
    """Texts of one word to `tokens` / 2 words, at most 64, in no order; always the same."""
    rng = np.random.default_rng(0)
    longest = max(1, min(tokens // 2, 64))
    sizes = rng.permutation(np.geomspace(1, longest, count).astype(int))
    return [" ".join(rng.choice(EXAMPLE_WORDS.split(), size)) for size in sizes]


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


def _check_vectors(graph: Signature, output: str, largest: int, pooling: str) -> None:
    """Raise SignatureError where an output is not a vector of at least `largest` numbers a token.

    Or a text, where nothing is pooled.
    """
    (spec,) = [spec for spec in graph.outputs if spec.name == output]
    rank, each = (2, "text") if pooling == "none" else (3, "token")
    width = spec.shape[-1] if len(spec.shape) == rank else 0
    if spec.dtype not in ("float32", "float16") or (isinstance(width, int) and width < largest):
        raise SignatureError(f"output {spec} is not a vector of {largest} numbers for each {each}")
