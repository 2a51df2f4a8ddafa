"""From texts to vectors: tokens, runs that cost the least, pooling; on the threads that the model has."""

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

READY, READY_TOKENS = (
    4096,
    1 << 20,
)  # texts whose tokens are kept between being counted and being run, and all tokens
SHORT = 256  # letters of a text that is kept with them
LARGE = 256  # texts of a call that is worth measuring first what runs cost here
MEASURED, WIDTH, MOST = 0.25, 32, 16384  # seconds for that, tokens of a row, and of the largest run


class Pipeline:
    """What turns texts into vectors, from any thread.

    `costs` is what runs cost here, None until that was measured.
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
        self._model, self.tokens, self.recipe = model, tokens, recipe
        self._names = tuple(spec.name for spec in recipe.graph.inputs)
        self._dtypes = tuple(spec.dtype for spec in recipe.graph.inputs)
        self._threads = model.runs_at_once
        self._lock, self._running = threading.Lock(), 0
        self._ready: dict[str | bytes, Tokenized] = {}
        self._held = 0  # tokens of these
        self.costs: RunCosts | None = None
        watch(self)

    def count(self, texts: list[str]) -> int:
        """The tokens of these texts, which are kept for the run that follows where they are few enough."""
        if len(texts) > READY:
            parts = (
                self.tokens.read([texts[row] for row in rows], rows) for rows in windows(texts)
            )
            return sum(len(found.ids) for part in parts for found in part)
        return sum(len(found.ids) for rows in windows(texts) for found in self._known(texts, rows))

    def _known(self, texts: list[str], rows: range) -> list[Tokenized]:
        """The tokens of some of the texts, from now on kept."""
        keys = [_key(texts[row]) for row in rows]
        with self._lock:
            known = {key: self._ready[key] for key in keys if key in self._ready}
        unknown = {
            key: row
            for key, row in zip(reversed(keys), reversed(rows), strict=True)
            if key not in known
        }
        try:
            found = self.tokens.read([texts[row] for row in unknown.values()], [*unknown.values()])
        except SignatureError:
            self.tokens.read(
                [texts[row] for row in rows], rows
            )  # names every row, those that occur twice as well
            raise
        new = dict(zip(unknown, found, strict=True))
        with self._lock:
            for key, its in new.items():
                if key not in self._ready:
                    self._ready[key] = its
                    self._held += len(its.ids)
            while (
                len(self._ready) > READY or self._held > READY_TOKENS
            ):  # never run: they expired, or were cancelled
                self._held -= len(self._ready.pop(next(iter(self._ready))).ids)
        known |= new
        return [known[key] for key in keys]

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

    def _runs(self, texts: list[str], shares: int) -> Iterator[tuple[list[int], list[Array]]]:
        """What to run, as places in `texts` and the tokens there."""
        for window in windows(texts):
            ids = self._take(texts, window)
            held = [i for i, row in enumerate(ids) if len(row)]
            if self.recipe.stable:
                chunks = [[i] for i in range(len(held))]
            else:
                costs = self._costs_for(len(texts), ids)
                chunks = choose_runs(
                    [len(ids[i]) for i in held], costs, shares if self.recipe.independent else 1
                )
            for chunk in chunks:
                places = [held[i] for i in chunk]
                yield [window[i] for i in places], [ids[i] for i in places]

    def _take(self, texts: list[str], rows: range) -> list[Array]:
        """The tokens of texts that are about to run, no longer kept."""
        known: dict[str | bytes, Tokenized] = {}
        keys = [_key(texts[row]) for row in rows] if self._ready else []
        with self._lock:
            for key in keys:
                if key in self._ready:
                    known[key] = self._ready.pop(key)
                    self._held -= len(known[key].ids)
        if known:
            unknown = [row for key, row in zip(keys, rows, strict=True) if key not in known]
            rest = iter(self.tokens.read([texts[row] for row in unknown], unknown))
            found = [known.get(key) or next(rest) for key in keys]
        else:
            found = self.tokens.read([texts[row] for row in rows], rows)
        self.tokens.tally(found)
        return [its.ids for its in found]

    def pooled(self, rows: Sequence[Array]) -> Array:
        """The vectors of texts that are run together, from their tokens."""
        recipe = self.recipe
        feeds, lengths = pad(rows, self._names, self._dtypes, self.tokens.padding)
        hidden = self._model._run(feeds, (recipe.output,), PLAIN)[recipe.output]
        vectors = pool(hidden, lengths, recipe.pooling)[:, : recipe.dims[0]]
        return unit(vectors) if recipe.normalize else vectors

    def _costs_for(self, texts: int, ids: list[Array]) -> RunCosts:
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
        return self.costs or RunCosts()

    def _measure(self, ids: Array) -> RunCosts:
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
        return fit_costs(points) if len(points) > 1 else RunCosts()

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
            said = " ".join(str(error).split())
            raise SignatureError(
                f"the graph does not run on a text of {most:,} tokens: {said}; pass max_tokens=, "
                "the most it takes"
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


def _key(text: str) -> str | bytes:
    """What stands for a text among those that are ready: of a long one a digest, so that it is not kept itself."""
    if len(text) <= SHORT:
        return text
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
