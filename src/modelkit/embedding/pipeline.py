"""From texts to vectors: tokens, runs of the least cost, pooling, on the threads of the model."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from modelkit.cast import Array
from modelkit.embedding.chunks import RunCosts, choose_runs, fit_costs
from modelkit.embedding.pooling import pad, pool, unit
from modelkit.embedding.tokens import Tokenized, Tokens, windows
from modelkit.errors import SignatureError
from modelkit.forks import watch
from modelkit.model import PLAIN, Model
from modelkit.recipe import Recipe
from modelkit.runtimes.bulk import run_all

# Texts whose tokens are kept between being counted and being run, and the tokens of all of them.
READY_TEXTS = 4096
READY_TOKENS = 1 << 20
SHORT = 256  # letters of a text that is kept with them
# What runs cost is measured before the first call of this many texts.
MEASURED_TEXTS = 256
MEASURING_SECONDS = 0.25
MEASURED_WIDTH = 32  # tokens of a row
LARGEST_RUN = 16384  # tokens


class Pipeline:
    """Turns texts into vectors, from any thread.

    `costs` is what runs cost on this machine, None before that was measured.
    """

    __slots__ = (
        "__weakref__",
        "_dtypes",
        "_held",
        "_lock",
        "_model",
        "_names",
        "_ready",
        "_running",
        "_threads",
        "costs",
        "recipe",
        "tokens",
    )

    def __init__(self, model: Model, tokens: Tokens, recipe: Recipe) -> None:
        self._model = model
        self.tokens = tokens
        self.recipe = recipe
        self._names = tuple(spec.name for spec in recipe.graph.inputs)
        self._dtypes = tuple(spec.dtype for spec in recipe.graph.inputs)
        self._threads = model.runs_at_once
        self._lock = threading.Lock()
        self._running = 0
        self._ready: dict[str | bytes, Tokenized] = {}
        self._held = 0  # tokens of these
        self.costs: RunCosts | None = None
        watch(self)

    def count(self, texts: list[str]) -> int:
        """The tokens of these texts, which are kept for the run that follows if they are few."""
        total = 0
        for rows in windows(texts):
            if len(texts) > READY_TEXTS:
                found = self.tokens.read([texts[row] for row in rows], rows)
            else:
                found = self._known(texts, rows)
            total += sum(len(its.ids) for its in found)
        return total

    def _known(
        self,
        texts: list[str],
        rows: range,
    ) -> list[Tokenized]:
        """The tokens of some of the texts, from now on kept."""
        keys = [_key(texts[row]) for row in rows]
        with self._lock:
            known = {key: self._ready[key] for key in keys if key in self._ready}
        unknown: dict[str | bytes, int] = {}
        for key, row in zip(keys, rows, strict=True):
            if key not in known:
                unknown.setdefault(key, row)
        places = list(unknown.values())
        try:
            found = self.tokens.read([texts[row] for row in places], places)
        except SignatureError:
            # This names every row, those that occur twice as well.
            self.tokens.read([texts[row] for row in rows], rows)
            raise
        new = dict(zip(unknown, found, strict=True))
        self._keep(new)
        known |= new
        return [known[key] for key in keys]

    def _keep(self, new: dict[str | bytes, Tokenized]) -> None:
        """Keep tokens, and forget the oldest: calls that expired or were cancelled never run."""
        with self._lock:
            for key, its in new.items():
                if key not in self._ready:
                    self._ready[key] = its
                    self._held += len(its.ids)
            while len(self._ready) > READY_TEXTS or self._held > READY_TOKENS:
                oldest = next(iter(self._ready))
                self._held -= len(self._ready.pop(oldest).ids)

    def vectors(self, texts: list[str]) -> Array:
        """The vectors of texts, float32 (n, d). A text without a single token has one of zeros."""
        vectors = np.zeros((len(texts), self.recipe.dims[0]), np.float32)

        def run(places: list[int], rows: list[Array]) -> None:
            vectors[places] = self.pooled(rows)

        with self._lock:  # all who call share the threads of the model
            helpers = max(0, min(self._threads - 1 - self._running, len(texts) - 1))
            self._running += 1 + helpers
        try:
            run_all(run, self._runs(texts, 1 + helpers), helpers)
        finally:
            with self._lock:
                self._running -= 1 + helpers
        return vectors

    def _runs(
        self,
        texts: list[str],
        shares: int,
    ) -> Iterator[tuple[list[int], list[Array]]]:
        """Each run, as places in `texts` and the tokens there."""
        for window in windows(texts):
            ids = self._take(texts, window)
            held = [i for i, row in enumerate(ids) if len(row)]
            for chunk in self._chunks([ids[i] for i in held], len(texts), shares):
                places = [held[i] for i in chunk]
                yield [window[i] for i in places], [ids[i] for i in places]

    def _chunks(
        self,
        ids: list[Array],
        texts: int,
        shares: int,
    ) -> list[list[int]]:
        """The texts of each run, as places in `ids`; `texts` is the size of the whole call."""
        if self.recipe.stable:
            return [[i] for i in range(len(ids))]
        costs = self._costs_for(texts, ids)
        lengths = [len(row) for row in ids]
        return choose_runs(lengths, costs, shares if self.recipe.independent else 1)

    def _take(
        self,
        texts: list[str],
        rows: range,
    ) -> list[Array]:
        """The tokens of texts that are about to run, no longer kept."""
        keys = [_key(texts[row]) for row in rows] if self._ready else []
        known = self._forget(keys)
        if known:
            unknown = [row for key, row in zip(keys, rows, strict=True) if key not in known]
            rest = iter(self.tokens.read([texts[row] for row in unknown], unknown))
            found = [known.get(key) or next(rest) for key in keys]
        else:
            found = self.tokens.read([texts[row] for row in rows], rows)
        self.tokens.tally(found)
        return [its.ids for its in found]

    def _forget(self, keys: list[str | bytes]) -> dict[str | bytes, Tokenized]:
        """Take those of the texts that are kept."""
        known: dict[str | bytes, Tokenized] = {}
        with self._lock:
            for key in keys:
                if key in self._ready:
                    known[key] = self._ready.pop(key)
                    self._held -= len(known[key].ids)
        return known

    def pooled(self, rows: Sequence[Array]) -> Array:
        """The vectors of texts that are run together, from their tokens."""
        recipe = self.recipe
        feeds, lengths = pad(
            rows,
            self._names,
            self._dtypes,
            self.tokens.padding,
        )
        hidden = self._model._run(feeds, (recipe.output,), PLAIN)[recipe.output]
        vectors = pool(hidden, lengths, recipe.pooling)[:, : recipe.dims[0]]
        return unit(vectors) if recipe.normalize else vectors

    def _costs_for(self, texts: int, ids: list[Array]) -> RunCosts:
        """What runs cost here, measured before the first large call if that can change no vector.

        It is not measured while others run, which would be measured with it.
        """
        free = self._running <= self._threads and texts >= MEASURED_TEXTS
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
        feeds, _ = pad(
            [ids],
            self._names,
            self._dtypes,
            self.tokens.padding,
        )
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
            said = " ".join(str(error).split())
            raise SignatureError(
                f"the graph does not run on a text of {most:,} tokens: {said}; pass max_tokens=, "
                "the most it takes"
            ) from error

    def longest(self) -> Array:
        """The vector of a text of `max_tokens` tokens. Raises what the graph raises for it."""
        return self.pooled([np.resize(self.tokens.ids(["a text"])[0], self.recipe.max_tokens)])

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


def _key(text: str) -> str | bytes:
    """The key of a text whose tokens are kept: a digest for a long one, which is not kept itself."""
    if len(text) <= SHORT:
        return text
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
