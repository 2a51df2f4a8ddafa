"""From texts to vectors: tokens, runs of the least cost, pooling, on the threads of the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.process import watch_forks
from modelkit.embedding.chunks import RunCosts, choose_runs, fit_costs
from modelkit.embedding.pooling import pad, pool, unit
from modelkit.embedding.recipe import Recipe
from modelkit.embedding.tokens import Tokens, windows
from modelkit.errors import SignatureError
from modelkit.model.model import PLAIN, Call, Model
from modelkit.runtimes.bulk import run_all

# What runs cost is measured before the first call of this many texts.
MEASURED_TEXTS = 256
MEASURING_SECONDS = 0.25
MEASURED_WIDTH = 32  # tokens of a row
LARGEST_RUN = 16384  # tokens

Part = tuple[range, list[Array]]  # the places of some texts, and their tokens


class Pipeline:
    """Turns texts into vectors, from any thread.

    `costs` is what runs cost on this machine, None before that was measured.
    """

    __slots__ = (
        "__weakref__",
        "_dtypes",
        "_lock",
        "_model",
        "_names",
        "_running",
        "costs",
        "recipe",
        "threads",
        "tokens",
    )

    def __init__(self, model: Model, tokens: Tokens, recipe: Recipe) -> None:
        self._model = model
        self.tokens = tokens
        self.recipe = recipe
        self._names = tuple(spec.name for spec in recipe.graph.inputs)
        self._dtypes = tuple(spec.dtype for spec in recipe.graph.inputs)
        self.threads = model.runs_at_once
        self._lock = threading.Lock()
        self._running = 0
        self.costs: RunCosts | None = None
        watch_forks(self)

    def tokenized(self, texts: list[str]) -> Iterator[Part]:
        """The tokens of texts that are about to run, some at a time, and their places."""
        for rows in windows(texts):
            found = self.tokens.read([texts[row] for row in rows], rows)
            self.tokens.tally(found)
            yield rows, [its.ids for its in found]

    def vectors(self, texts: list[str], call: Call) -> Array:
        """The vectors of texts, float32 (n, d). A text without a single token has one of zeros."""
        return self._vectors(len(texts), self.tokenized(texts), call)

    def vectors_of(self, tokens: list[Array], call: Call) -> Array:
        """As `vectors`, for texts that were tokenized already."""
        parts = ((rows, tokens[rows.start : rows.stop]) for rows in windows(tokens))
        return self._vectors(len(tokens), parts, call)

    def _vectors(self, texts: int, parts: Iterable[Part], call: Call) -> Array:
        vectors = np.zeros((texts, self.recipe.dims[0]), np.float32)

        def run(places: list[int], rows: list[Array]) -> None:
            vectors[places] = self.pooled(rows, call)

        with self._lock:  # all who call share the threads of the model
            free = self.threads - 1 - self._running
            helpers = max(0, min(free, texts - 1))
            self._running += 1 + helpers
        try:
            run_all(run, self._runs(texts, parts, 1 + helpers), helpers)
        finally:
            with self._lock:
                self._running -= 1 + helpers
        return vectors

    def _runs(
        self, texts: int, parts: Iterable[Part], shares: int
    ) -> Iterator[tuple[list[int], list[Array]]]:
        """Each run, as the places of its texts and their tokens."""
        for window, ids in parts:
            held = [i for i, row in enumerate(ids) if len(row)]
            for chunk in self._chunks([ids[i] for i in held], texts, shares):
                places = [held[i] for i in chunk]
                yield [window[i] for i in places], [ids[i] for i in places]

    def _chunks(self, ids: list[Array], texts: int, shares: int) -> list[list[int]]:
        """The texts of each run, as places in `ids`; `texts` is the size of the whole call."""
        if self.recipe.stable:
            return [[i] for i in range(len(ids))]
        costs = self._costs_for(texts, ids)
        lengths = [len(row) for row in ids]
        return choose_runs(lengths, costs, shares if self.recipe.independent else 1)

    def pooled(self, rows: Sequence[Array], call: Call = PLAIN) -> Array:
        """The vectors of texts that are run together, from their tokens."""
        recipe = self.recipe
        feeds, lengths = pad(rows, self._names, self._dtypes, self.tokens.padding)
        hidden = self._model._run(feeds, (recipe.output,), call)[recipe.output]
        vectors = pool(hidden, lengths, recipe.pooling)[:, : recipe.dims[0]]
        return unit(vectors) if recipe.normalize else vectors

    def _costs_for(self, texts: int, ids: list[Array]) -> RunCosts:
        """What runs cost here, measured before the first large call if that can change no vector.

        It is not measured while others run, which would be measured with it.
        """
        free = self._running <= self.threads and texts >= MEASURED_TEXTS
        proven = self.recipe.alone is not None and self.recipe.independent
        if self.costs is None and free and proven:
            self.costs = self._measure(np.concatenate(ids))
        return self.costs or RunCosts()

    def _measure(self, ids: Array) -> RunCosts:
        """Time runs of twice the size each, until two in a row are hardly faster a token."""
        points: list[tuple[int, float]] = []
        best = 0.0
        dull = 0
        size = MEASURED_WIDTH
        end = time.perf_counter() + MEASURING_SECONDS
        while size <= LARGEST_RUN and dull < 2 and time.perf_counter() < end:
            rows = list(np.resize(ids, (size // MEASURED_WIDTH, MEASURED_WIDTH)))
            seconds = min(self._seconds(rows) for _ in range(3))
            points.append((size, seconds))
            speed = size / seconds
            dull = dull + 1 if speed < 1.05 * best else 0
            best = max(best, speed)
            size *= 2
        return fit_costs(points) if len(points) > 1 else RunCosts()

    def _seconds(self, rows: list[Array]) -> float:
        start = time.perf_counter()
        self.pooled(rows)
        return time.perf_counter() - start

    def probe(self) -> int:
        """The length of the graph's vectors.

        Raises SignatureError for a graph that does not give one a token.
        """
        output = self.recipe.output
        (ids,) = self.tokens.ids(["a text"])
        feeds, _ = pad([ids], self._names, self._dtypes, self.tokens.padding)
        try:
            shape = self._model._run(feeds, (output,), PLAIN)[output].shape
        except Exception as error:
            raise SignatureError(
                f"the graph does not run on the tokens of a text: {error}"
            ) from error
        if len(shape) != 3 or shape[:2] != (1, len(ids)):
            raise SignatureError(
                f"output {output!r} has shape {shape} for {len(ids)} tokens, not a vector for each"
            )
        return int(shape[2])

    def check_longest(self, positions: int | None) -> None:
        """Raise SignatureError where the graph does not take a text of `max_tokens` tokens.

        Args:
            positions: the number of positions for which the graph has a vector, None if that is
                not known: then a text of `max_tokens` is run. One is run too where `max_tokens` is
                close to it, for some models leave out the first few positions.
        """
        most = self.recipe.max_tokens
        if positions is not None and most > positions:
            raise SignatureError(
                f"the graph has {positions:,} positions, fewer than max_tokens={most:,}"
            )
        if positions is not None and most < positions - max(1, self.tokens.padding):
            return
        try:
            self.longest()
        except Exception as error:
            raise SignatureError(
                f"the graph does not run on a text of {most:,} tokens; pass max_tokens=, the most "
                "that it takes"
            ) from error

    def longest(self) -> Array:
        """The vector of a text of `max_tokens` tokens. Raises what the graph raises for it."""
        (ids,) = self.tokens.ids(["a text"])
        return self.pooled([np.resize(ids, self.recipe.max_tokens)])

    def prove(self, texts: list[str]) -> tuple[float, float]:
        """Compare the vectors of texts alone with those of one run of all.

        Returns the least cosine and the largest absolute difference.
        """
        ids = [row for row in self.tokens.ids(texts) if len(row)]
        alone = np.concatenate([self.pooled([row]) for row in ids])
        together = alone if self.recipe.stable else self.pooled(ids)
        return least_cosine(alone, together), float(np.abs(alone - together).max())

    def after_fork(self) -> None:
        """Begin anew in the child of a fork, where whoever held a lock or ran does not live on."""
        self._lock = threading.Lock()
        self._running = 0
        self.tokens.after_fork()


def least_cosine(left: Array, right: Array) -> float:
    """The least cosine between two lists of vectors, (n, d) each, pair by pair."""
    cosines = (unit(left) * unit(right)).sum(axis=1)
    zeros = ~left.any(axis=1) & ~right.any(axis=1)
    cosines[zeros] = 1  # two vectors of zeros are the same
    return float(cosines.min())
