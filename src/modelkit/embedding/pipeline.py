"""From texts to vectors: tokens, runs of the least cost, pooling, on the threads of the model."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.process import watch_forks
from modelkit.embedding.chunks import ALONE, ON_DEVICE, RunCosts, choose_runs
from modelkit.embedding.pooling import pad, pool, unit
from modelkit.embedding.recipe import Recipe
from modelkit.embedding.tokens import Tokens, windows
from modelkit.errors import SignatureError
from modelkit.model.model import PLAIN, Call, Model
from modelkit.runtimes.bulk import run_all

Part = tuple[range, list[Array]]  # the places of some texts, and their tokens


class Pipeline:
    """Turns texts into vectors, from any thread.

    `truncated` is the number of texts that were cut so far.
    """

    def __init__(self, model: Model, tokens: Tokens, recipe: Recipe) -> None:
        self.model = model
        self.tokens = tokens
        self.recipe = recipe
        placement = model.placement
        self._costs = RunCosts()
        if placement is not None and placement.device != "cpu":
            self._costs = ON_DEVICE
        if recipe.stable:
            self._costs = ALONE
        self._lock = threading.Lock()
        self._running = 0
        self.truncated = 0
        watch_forks(self)

    def tokenized(self, texts: list[str]) -> Iterator[Part]:
        """The tokens of texts that are about to run, some at a time, and their places."""
        for rows in windows(texts):
            ids, cut = self.tokens.read(texts[rows.start : rows.stop], rows)
            with self._lock:
                self.truncated += cut
            yield rows, ids

    def vectors(self, texts: int, parts: Iterable[Part], call: Call) -> Array:
        """The vectors of so many texts, float32 (n, d). One without a single token has zeros."""
        vectors = np.zeros((texts, self.recipe.dims[0]), np.float32)

        def run(places: list[int], rows: list[Array]) -> None:
            vectors[places] = self.pooled(rows, call)

        with self._lock:  # all who call share the threads of the model
            free = self.model.runs_at_once - 1 - self._running
            helpers = max(0, min(free, texts - 1))
            self._running += 1 + helpers
        try:
            run_all(run, self._runs(parts, 1 + helpers), helpers)
        finally:
            with self._lock:
                self._running -= 1 + helpers
        return vectors

    def _runs(self, parts: Iterable[Part], shares: int) -> Iterator[tuple[list[int], list[Array]]]:
        """Each run, as the places of its texts and their tokens."""
        if not self.recipe.independent:
            shares = 1  # vectors do not depend on the number of threads
        for window, ids in parts:
            for places in choose_runs(list(map(len, ids)), self._costs, shares):
                yield [window[i] for i in places], [ids[i] for i in places]

    def pooled(self, rows: Sequence[Array], call: Call = PLAIN) -> Array:
        """The vectors of texts that are run together, from their tokens."""
        recipe = self.recipe
        vectors = pool(*self._hidden(rows, call), recipe.pooling)[:, : recipe.dims[0]]
        return unit(vectors) if recipe.normalize else vectors

    def _hidden(self, rows: Sequence[Array], call: Call = PLAIN) -> tuple[Array, Array]:
        """A vector for each token, (texts, tokens, d), and the number of tokens of each text."""
        output = self.recipe.output
        feeds, lengths = pad(rows, self.recipe.graph.inputs, self.tokens.padding)
        return self.model._run(feeds, (output,), call)[output], lengths

    def probe(self) -> int:
        """The length of the graph's vectors.

        Raises SignatureError for a graph that does not give one a token.
        """
        (ids,) = self.tokens.ids(["a text"])
        try:
            shape = self._hidden([ids])[0].shape
        except Exception as error:
            raise SignatureError(
                f"the graph does not run on the tokens of a text: {error}"
            ) from error
        if len(shape) != 3 or shape[:2] != (1, len(ids)):
            raise SignatureError(
                f"output {self.recipe.output!r} has shape {shape} for {len(ids)} tokens, not a vector for each"
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
        """Begin again in the child of a fork, where whoever held a lock or ran does not live on."""
        self._lock = threading.Lock()
        self._running = 0


def least_cosine(left: Array, right: Array) -> float:
    """The least cosine between two lists of vectors, (n, d) each, pair by pair."""
    cosines = (unit(left) * unit(right)).sum(axis=1)
    zeros = ~left.any(axis=1) & ~right.any(axis=1)
    cosines[zeros] = 1  # two vectors of zeros are the same
    return float(cosines.min())
