"""From texts to vectors: tokens, runs that cost the least, pooling; on the threads that the model has."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from modelkit.cast import Array
from modelkit.embedding.chunks import Costs, choose, fit
from modelkit.embedding.pooling import pad, pool, unit
from modelkit.embedding.tokens import Tokens, windows
from modelkit.errors import SignatureError
from modelkit.forks import watch
from modelkit.model import PLAIN, Model
from modelkit.recipe import Recipe
from modelkit.runtimes.bulk import run_all

LARGE = 256  # texts of a call that is worth measuring first what runs cost here
MEASURED, WIDTH, MOST = 0.25, 32, 16384  # seconds for that, tokens of a row, and of the largest run


class Pipeline:
    """What turns texts into vectors, from any thread.

    `costs` is what runs cost here, None until that was measured.
    """

    __slots__ = (
        "__weakref__",
        "_dtypes",
        "_lock",
        "_model",
        "_names",
        "_running",
        "_threads",
        "costs",
        "recipe",
        "tokens",
    )

    def __init__(self, model: Model, tokens: Tokens, recipe: Recipe) -> None:
        self._model, self.tokens, self.recipe = model, tokens, recipe
        self._names = tuple(spec.name for spec in recipe.graph.inputs)
        self._dtypes = tuple(spec.dtype for spec in recipe.graph.inputs)
        self._threads = model.runs_at_once
        self._lock, self._running = threading.Lock(), 0
        self.costs: Costs | None = None
        watch(self)

    def tokenized(self, texts: list[str]) -> Iterator[tuple[range, list[Array]]]:
        """The tokens of texts that are about to run, some at a time, and their places in `texts`."""
        for rows in windows(texts):
            found = self.tokens.read([texts[row] for row in rows], rows)
            self.tokens.tally(found)
            yield rows, [its.ids for its in found]

    def vectors(self, texts: list[str]) -> Array:
        """The vectors of texts, float32 (n, d). A text without a single token has one of zeros."""
        return self._vectors(len(texts), self.tokenized(texts))

    def vectors_of(self, tokens: list[Array]) -> Array:
        """As `vectors`, for texts that were tokenized already."""
        parts = ((rows, [tokens[row] for row in rows]) for rows in windows(tokens))
        return self._vectors(len(tokens), parts)

    def _vectors(self, texts: int, parts: Iterable[tuple[range, list[Array]]]) -> Array:
        vectors = np.zeros((texts, self.recipe.dims[0]), np.float32)

        def run(places: list[int], rows: list[Array]) -> None:
            vectors[places] = self.pooled(rows)

        with self._lock:  # all who call share the threads of the model
            helpers = max(0, min(self._threads - 1 - self._running, texts - 1))
            self._running += 1 + helpers
        try:
            run_all(run, self._runs(texts, parts, 1 + helpers), helpers)
        finally:
            with self._lock:
                self._running -= 1 + helpers
        return vectors

    def _runs(
        self, texts: int, parts: Iterable[tuple[range, list[Array]]], shares: int
    ) -> Iterator[tuple[list[int], list[Array]]]:
        """What to run, as the places of texts and the tokens there."""
        for window, ids in parts:
            held = [i for i, row in enumerate(ids) if len(row)]
            if self.recipe.stable:
                chunks = [[i] for i in range(len(held))]
            else:
                costs = self._costs_for(texts, ids)
                lengths = [len(ids[i]) for i in held]
                chunks = choose(lengths, costs, shares if self.recipe.independent else 1)
            for chunk in chunks:
                places = [held[i] for i in chunk]
                yield [window[i] for i in places], [ids[i] for i in places]

    def pooled(self, rows: Sequence[Array]) -> Array:
        """The vectors of texts that are run together, from their tokens."""
        recipe = self.recipe
        feeds, lengths = pad(rows, self._names, self._dtypes, self.tokens.padding)
        hidden = self._model._run(feeds, (recipe.output,), PLAIN)[recipe.output]
        vectors = pool(hidden, lengths, recipe.pooling)[:, : recipe.dims[0]]
        return unit(vectors) if recipe.normalize else vectors

    def _costs_for(self, texts: int, ids: list[Array]) -> Costs:
        """What runs cost here, measured before the first large call if that can change no vector.

        Not while others run, which would be measured with it.
        """
        free = self._running <= self._threads and texts >= LARGE
        if (
            self.costs is None
            and free
            and self.recipe.alone is not None
            and self.recipe.independent
        ):
            self.costs = self._measure(np.concatenate(ids))
        return self.costs or Costs()

    def _measure(self, ids: Array) -> Costs:
        points: list[tuple[int, float]] = []
        clock, best, dull, size = time.perf_counter, 0.0, 0, WIDTH
        end = clock() + MEASURED
        while size <= MOST and dull < 2 and clock() < end:
            rows, fastest = list(np.resize(ids, (size // WIDTH, WIDTH))), np.inf
            for _ in range(3):
                start = clock()
                self.pooled(rows)
                fastest = min(fastest, clock() - start)
            points.append((size, fastest))
            dull = dull + 1 if size / fastest < 1.05 * best else 0
            best, size = max(best, size / fastest), 2 * size
        return fit(points) if len(points) > 1 else Costs()

    def probe(self) -> int:
        """The length of the graph's vectors.

        Raises SignatureError for a graph that does not give one a token.
        """
        (ids,), output = self.tokens.ids(["a text"]), self.recipe.output
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
            positions: the places for which the graph has a vector, None where that cannot be told:
                then a text of that length is run. One is run too where it comes close to them, for
                some models leave out the first few.
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
        """The vector of a text of `max_tokens` tokens; raises what the graph raises where these are too many."""
        return self.pooled([np.resize(self.tokens.ids(["a text"])[0], self.recipe.max_tokens)])

    def prove(self, texts: list[str]) -> tuple[float, float]:
        """The least cosine, and the largest difference, between the vectors of texts alone and all in one run."""
        ids = [row for row in self.tokens.ids(texts) if len(row)]
        alone = np.concatenate([self.pooled([row]) for row in ids])
        together = alone if self.recipe.stable else self.pooled(ids)
        return least_cosine(alone, together), float(np.abs(alone - together).max())

    def after_fork(self) -> None:
        """Begin anew in the child of a fork, where whoever held a lock or ran does not live on."""
        self._lock, self._running = threading.Lock(), 0
        self.tokens.after_fork()


def least_cosine(left: Array, right: Array) -> float:
    """The least cosine between the vectors at each place."""
    cosines = (unit(left) * unit(right)).sum(axis=1)
    cosines[~left.any(axis=1) & ~right.any(axis=1)] = 1  # two vectors of zeros are the same
    return float(cosines.min())
