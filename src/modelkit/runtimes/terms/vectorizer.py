"""How a vectorizer treats a text, as values that a manifest can hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from modelkit.errors import SignatureError
from modelkit.runtimes.terms.patterns import compiled
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec

ANALYZERS = ("word", "char", "char_wb")
ACCENTS = ("ascii", "unicode")
SUMS = ("counts", "signed", "present")
MAX_BUCKETS = 1 << 31  # the most columns that a hash of 32 bits tells apart
MAX_NGRAM = 100  # words or characters of a term; a file that says more is not believed


@dataclass(frozen=True)
class Vectorizer:
    """How the texts of one column become terms, as scikit-learn's vectorizers do it.

    Attributes:
        column: the input of the model that holds the texts.
        analyzer: what terms are made of: "word", "char", or "char_wb" for characters within words.
        ngrams: the least and the most of these in a term.
        lowercase: whether texts are turned into lower case.
        accents: how accents are taken off, "ascii" or "unicode"; None leaves them.
        token_pattern: the expression that finds words; None where terms are made of characters.
        buckets: the number of columns that a hash of each term chooses from; None where a
            vocabulary lists the terms.
        sums: what a column of hashed terms holds: their "counts", their counts with the sign of
            each hash ("signed"), or 1 where a term is there ("present").

    Raises SignatureError for unknown values, and for an expression that could run away.
    """

    column: str
    analyzer: str
    ngrams: tuple[int, ...]
    lowercase: bool
    accents: str | None
    token_pattern: str | None
    buckets: int | None = None
    sums: str = "counts"

    def __post_init__(self) -> None:
        if self.analyzer not in ANALYZERS:
            raise SignatureError(f"analyzer is one of {list(ANALYZERS)}, not {self.analyzer!r}")
        if self.accents is not None and self.accents not in ACCENTS:
            raise SignatureError(f"accents is None or one of {list(ACCENTS)}, not {self.accents!r}")
        if not _are_ngrams(self.ngrams):
            raise SignatureError(
                f"ngrams are the least and the most, from 1 to {MAX_NGRAM}; got {self.ngrams}"
            )
        if (self.token_pattern is None) != (self.analyzer != "word"):
            raise SignatureError(
                f"a token_pattern finds words, and the analyzer is {self.analyzer!r}"
            )
        if self.buckets is not None and not 1 <= self.buckets < MAX_BUCKETS:
            raise SignatureError(f"buckets are from 1 to {MAX_BUCKETS - 1}, not {self.buckets}")
        if self.sums not in SUMS:
            raise SignatureError(f"sums is one of {list(SUMS)}, not {self.sums!r}")
        if self.token_pattern is not None:
            compiled(self.token_pattern)

    def __str__(self) -> str:
        least, most = self.ngrams
        parts = [f"{self.analyzer} {least} to {most} of {self.column!r}"]
        if self.token_pattern is not None:
            parts.append(f"words are {self.token_pattern}")
        if self.lowercase:
            parts.append("in lower case")
        if self.accents is not None:
            parts.append(f"accents taken off ({self.accents})")
        if self.buckets is not None:
            parts.append(f"hashed into {self.buckets} columns")
        return ", ".join(parts)


def _are_ngrams(ngrams: tuple[int, ...]) -> bool:
    if len(ngrams) != 2:
        return False
    least, most = ngrams
    return 1 <= least <= most <= MAX_NGRAM


@dataclass(frozen=True)
class Texts:
    """The treatment of texts before a graph runs.

    The vectorizer at position i gives the graph the inputs `i.terms` and `i.counts`: for each row,
    the places in the vocabulary of the terms that its text holds, and how often; a term that occurs
    0 times fills up shorter rows. `passed` names the inputs of the model that the graph takes as
    they are. `dense` is whether the graph makes a column of each term, which takes memory.
    """

    vectorizers: tuple[Vectorizer, ...]
    passed: tuple[str, ...]
    dense: bool = True

    def graph(self, signature: Signature) -> Signature:
        """The signature of the graph inside a model of this `signature`. Raises SignatureError."""
        inputs = {spec.name: spec for spec in signature.inputs}
        unknown = [name for name in self.passed if name not in inputs]
        for vectorizer in self.vectorizers:
            spec = inputs.get(vectorizer.column)
            if spec is None or spec.dtype != "string" or spec.shape[1:] != (1,):
                unknown.append(vectorizer.column)
        if unknown or not self.vectorizers or signature.batch is None:
            raise SignatureError(
                f"texts are read from inputs of one column of strings, which {unknown} are not"
            )
        made: list[TensorSpec] = []
        for at in range(len(self.vectorizers)):
            made += counts_of(at)
        kept = [inputs[name] for name in self.passed]
        return Signature(
            (*kept, *made), signature.graph_outputs, signature.primary, signature.classes
        )

    def __str__(self) -> str:
        return "; ".join(map(str, self.vectorizers))


@cache
def counts_of(at: int) -> tuple[TensorSpec, TensorSpec]:
    """The inputs of a graph that the vectorizer at this position fills.

    Columns give inputs no name with a dot.
    """
    shape = ("batch", f"terms of {at}")
    terms = TensorSpec(f"{at}.terms", "int64", shape)
    counts = TensorSpec(f"{at}.counts", "float64", shape)
    return terms, counts
