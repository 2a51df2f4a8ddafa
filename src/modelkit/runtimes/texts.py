"""Run a model over texts: Python counts the terms, and the graph computes the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from time import monotonic
from typing import Any, final

import numpy as np

from modelkit.errors import ClosedError, DeadlineExceeded
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import InnerProperties
from modelkit.runtimes.bulk import Gathered, run_all
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.packaged import NOT_PACKAGED, Packaged, reopening
from modelkit.runtimes.terms.terms import Terms
from modelkit.runtimes.terms.vectorizer import Texts, counts_of
from modelkit.signature.refusing import REFUSED, check_refused
from modelkit.signature.signature import Feeds, Signature

# Of one run: the most rows, and the most rows times the letters of the longest text.
RUN_ROWS = 256
RUN_LETTERS = 1 << 22
LETTERS = 512  # that cost as much as a row, times the sizes of terms: more than most rows have
DENSE_BYTES = 1 << 24  # of one run, where the graph makes a column of each term


@final
class TextModel(InnerProperties, Model):
    """A Model that counts the terms of texts and runs an ONNX graph on the counts.

    Args:
        graph: the serialised ModelProto.
        signature: what the model takes and gives: texts, and whatever else is beside them.
        texts: what is done to the texts.
        terms: of each of its vectorizers, in their order.
        packaged: the package this model was loaded from.
        options: as for `OnnxModel`.
    """

    __slots__ = ("_inner", "_most", "_origin", "_sizes", "_terms", "_texts", "signature")

    _inner: OnnxModel
    signature: Signature

    def __init__(
        self,
        graph: bytes | memoryview,
        signature: Signature,
        texts: Texts,
        terms: Sequence[Terms],
        *,
        packaged: Packaged = NOT_PACKAGED,
        **options: Any,
    ) -> None:
        self._inner = OnnxModel(
            graph, texts.graph(signature), packaged=packaged._replace(origin=None), **options
        )
        self.signature = signature
        self._texts = texts
        self._terms = tuple(terms)
        self._origin = packaged.origin
        # The sizes of the terms that are made of a text, in all.
        self._sizes = Counter[str]()
        for vectorizer in texts.vectorizers:
            least, most = vectorizer.ngrams
            self._sizes[vectorizer.column] += most - least + 1
        self._most = RUN_ROWS
        if texts.dense:
            wide = 8 * sum(len(each) for each in terms)
            self._most = max(1, min(RUN_ROWS, DENSE_BYTES // wide))

    def _prepare(self, feeds: Feeds) -> tuple[Feeds, int]:
        """The rows, and what they cost: one each, or more for long texts."""
        letters = 0
        for column, sizes in self._sizes.items():
            letters += sizes * sum(map(len, feeds[column][:, 0]))
        return feeds, max(self.signature.count(feeds), letters // LETTERS)

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        rows = len(next(iter(feeds.values())))
        if rows == 0:
            if self.closed:
                raise ClosedError("the model was closed; load it again to use it")
            return self.signature.empty(outputs)
        reasons = self.signature.refusals
        wanted = (*outputs, REFUSED) if reasons else outputs
        answers = self._run_parts(feeds, wanted, rows, call)
        if reasons:
            check_refused(answers.pop(REFUSED), reasons)
        return answers

    def _run_parts(self, feeds: Feeds, outputs: tuple[str, ...], rows: int, call: Call) -> Outputs:
        """Run the graph on some rows at a time, and count the terms of the next ones meanwhile."""
        if rows == 1:
            return self._inner._run(self._counted(feeds, 0, 1, call), outputs, call)
        gathered = Gathered(rows)

        def run(start: int, stop: int, counted: Feeds) -> None:
            gathered.put(start, stop, self._inner._run(counted, outputs, call).items())

        # Python counts the terms of one part while the graph runs on those before it.
        parts = (
            (start, stop, self._counted(feeds, start, stop, call))
            for start, stop in self._parts(feeds, rows)
        )
        helpers = 0 if rows <= self._most or self._inner.placement.threads == 1 else 1
        run_all(run, parts, helpers)
        return gathered.answers(outputs)

    def _parts(self, feeds: Feeds, rows: int) -> Iterator[tuple[int, int]]:
        """Start and stop of each run; a long text runs with few others."""
        lengths = np.ones(rows, np.int64)
        for column in {vectorizer.column for vectorizer in self._texts.vectorizers}:
            lengths = np.maximum(lengths, [len(text) for text in feeds[column][:, 0]])
        start = 0
        longest = 0
        for row, length in enumerate(lengths.tolist()):
            longest = max(longest, length)
            size = row + 1 - start
            if size > 1 and (size > self._most or size * longest > RUN_LETTERS):
                yield start, row
                start = row
                longest = length
        yield start, rows

    def _counted(self, feeds: Feeds, start: int, stop: int, call: Call) -> Feeds:
        """The feeds of the graph for the rows from `start` to `stop`. Raises DeadlineExceeded."""
        check = bool if call.deadline is None else partial(_check_time, call.deadline)
        made = {name: feeds[name][start:stop] for name in self._texts.passed}
        for at, terms in enumerate(self._terms):
            texts = feeds[terms.vectorizer.column][start:stop, 0].tolist()
            for spec, array in zip(counts_of(at), terms.count(texts, check), strict=True):
                made[spec.name] = array
        return made

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("texts", str(self._texts))]

    def close(self) -> None:
        """Release the graph; later calls raise ClosedError."""
        self._inner.close()

    __reduce__ = reopening


def _check_time(deadline: float) -> None:
    if monotonic() >= deadline:
        raise DeadlineExceeded(
            "the deadline passed while the terms of texts were counted", deadline=deadline
        )
