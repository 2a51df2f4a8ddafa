"""From texts or pairs to vectors: tokens, runs of the least cost, pooling, on the threads of the model."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.process import watch_forks
from modelkit._internal.progress import counted_off
from modelkit.embedding.chunks import ALONE, ON_DEVICE, RunCosts, choose_runs
from modelkit.embedding.pooling import pad, pool, unit
from modelkit.embedding.recipe import Measurements, Recipe
from modelkit.embedding.tokens import Tokens, windows
from modelkit.errors import SignatureError
from modelkit.model.model import PLAIN, Call, Model
from modelkit.runtimes.bulk import run_all

PROVEN_TEXTS = 16  # that show whether vectors depend on the texts beside them
Part = tuple[range, list[Array]]  # the places of some texts, and their tokens


class Pipeline:
    """Turns texts into vectors, from any thread; the texts of a reranker are pairs of texts.

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

    def tokenized(self, texts: list[Any]) -> Iterator[Part]:
        """The tokens of texts that are about to run, some at a time, and their places."""
        parts = [*windows(texts)]
        blocks = counted_off(parts, "embed", "block") if len(parts) > 1 else parts
        for rows in blocks:
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

        Raises SignatureError for a graph that does not give one a token, or a text.
        """
        (ids,) = self.tokens.ids(self.recipe.made_up(1))
        try:
            shape = self._hidden([ids])[0].shape
            whole = (1,) if self.recipe.pooling == "none" else (1, len(ids))
        except Exception as error:
            raise SignatureError(
                f"the graph does not run on the tokens of a text: {error}"
            ) from error
        if shape[:-1] != whole:
            raise SignatureError(
                f"output {self.recipe.output!r} has shape {shape} for {len(ids)} tokens of a text, "
                f"not {(*whole, 'd')}"
            )
        return int(shape[-1])

    def measure(self, positions: int | None) -> None:
        """Check the longest text, and whether vectors depend on each other, for the recipe.

        Raises SignatureError.
        """
        self.check_longest(positions)
        if self.recipe.stable:
            return
        try:
            alone, _ = self.prove(PROVEN_TEXTS)
        except Exception as error:
            raise SignatureError(
                f"the graph does not run on {PROVEN_TEXTS} texts at once; pass stable=True, which "
                f"runs every text alone: {error}"
            ) from error
        self.recipe = replace(self.recipe, measured=Measurements(alone))

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
        (ids,) = self.tokens.ids(self.recipe.made_up(1))
        return self.pooled([np.resize(ids, (self.recipe.max_tokens, *ids.shape[1:]))])

    def prove(self, count: int) -> tuple[float, float]:
        """Compare the vectors of so many texts alone with the vectors of one run of all.

        Returns their closeness and the largest absolute difference.
        """
        ids = [row for row in self.tokens.ids(self.recipe.made_up(count)) if len(row)]
        alone = np.concatenate([self.pooled([row]) for row in ids])
        together = alone if self.recipe.stable else self.pooled(ids)
        return self.recipe.closeness(alone, together), float(np.abs(alone - together).max())

    def after_fork(self) -> None:
        """Begin again in the child of a fork, where whoever held a lock or ran does not live on."""
        self._lock = threading.Lock()
        self._running = 0
