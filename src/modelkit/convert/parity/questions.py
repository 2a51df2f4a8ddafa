"""Questions to a source and to the Model of its graph, and what is said where their answers differ."""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.progress import step
from modelkit.convert.asking import allowed_to_fail
from modelkit.convert.parity.causes import RANDOM, likely_cause
from modelkit.convert.parity.compare import Differences, compare, merge, tolerance
from modelkit.convert.parity.rows import at, count, spread
from modelkit.convert.source import Columns, Source, is_native
from modelkit.errors import BatchError, DeviceError, GraphError, ParityError, SignatureError
from modelkit.model.model import Model
from modelkit.signature.signature import Signature

FEW_ROWS = 64  # of the example, that questions are made of
ONE_BY_ONE = 8  # rows that both must refuse
OPERATOR = re.compile(r"while running (\w+) node")  # as onnxruntime names the one that fails


@dataclasses.dataclass
class Questions:
    """A source and the Model of its graph, asked the same rows; `total` sums up what agreed.

    `rows` is the example by column. `signature` is what was learned of the columns, None before
    that.
    """

    source: Source
    model: Model
    rows: Columns
    total: Differences
    signature: Signature | None = None

    @cached_property
    def few(self) -> Columns:
        """Few rows of the example."""
        found: Columns = spread(self.rows, FEW_ROWS)
        return found

    def agree_on_example(self, places: Array) -> None:
        """Add the differences on rows of the example at some places, as they came, to the total.

        Raises ParityError where they pass the tolerance.
        """
        rows = at(self.source.rows, places)
        number = len(places)
        where = f"{number} row{'' if number == 1 else 's'} of the example"
        step(where)
        assert self.source.truth is not None  # for the type checker: see `prove_parity`
        truth = self.source.truth(rows)
        try:
            got = self.model.run(rows)
        except (DeviceError, GraphError):
            raise
        except Exception as error:
            if isinstance(error, SignatureError) and not error.rows:
                raise
            failing = OPERATOR.search(str(error))
            operator = f" in its operator {failing[1]}" if failing else ""
            raise ParityError(
                f"{self._what()} fails{operator} on {where}, which {self.source.against} answers; "
                f"nothing was saved{self._advice()}"
            ) from error
        found = compare(truth, got, *tolerance(self.source), self.source.scales)
        self.refuse(found, f"{where}, first on row {places[np.argmax(found.wrong)]}")
        merge(self.total, found)

    def agree_beyond(self, rows: Columns | None, where: str) -> int:
        """Compare rows that the example does not hold, if there are any; gives their number.

        It is 0 where the source refuses them. Raises ParityError.
        """
        if rows is None:
            return 0
        step(where)
        found = self.ask(rows)
        if found is None:
            self.refuse_alike(rows, where)
            return 0
        self.refuse(found, where)
        merge(self.total, found)
        return count(rows)

    def refuse_alike(self, rows: Columns, where: str) -> None:
        """Compare rows some of which the source refuses: the graph has to refuse these and no others.

        Rows that the signature refuses are not asked about. Raises ParityError.
        """
        if is_native(self.source) or self.source.by_dtype:
            return
        try:
            if self.signature is not None:
                self.signature.coerce(rows)
            self.model.run(rows)
            refused: tuple[int, ...] = ()
        except BatchError:
            return
        except SignatureError as error:
            refused = error.rows
            if not refused:
                return
        for row in refused[:ONE_BY_ONE]:
            if self.ask(at(rows, [row])) is not None:
                raise self._unlike(f"{self._what()} refuses {where}", "answers")
        others = np.setdiff1d(np.arange(count(rows)), refused)
        if not len(others):
            return
        found = self.ask(at(rows, others))
        if found is None:
            raise self._unlike(f"{self._what()} answers {where}", "refuses with an error")
        self.refuse(found, where)

    def _unlike(self, graph: str, verb: str) -> ParityError:
        """The error where one of the two refuses rows and the other answers them."""
        return ParityError(
            f"{graph}, which {self.source.against} {verb}; nothing was saved{self._advice()}"
        )

    def ask(self, rows: Columns) -> Differences | None:
        """Differences on rows; None if the source refuses them, or they are missing integers."""
        try:
            assert self.source.truth is not None  # for the type checker: see `prove_parity`
            with allowed_to_fail():
                truth = self.source.truth(self.source.form(rows))
        except Exception:  # any refusal of the source counts
            return None
        try:
            got = self.model.run(rows)
        except Exception as error:
            if isinstance(error, SignatureError) and not error.rows:
                return None  # of an estimator as it is: its integers have no missing value
            # The graph fails, or refuses rows, where its source answers.
            return Differences(np.inf, np.inf, wrong=np.ones(count(rows), bool))
        return compare(truth, got, *tolerance(self.source), self.source.scales)

    def refuse(self, found: Differences, where: str) -> None:
        """Raise ParityError for differences beyond the tolerance."""
        if found.agree:
            return
        rtol, _ = tolerance(self.source)
        flips = f", {found.flips} labels flipped" if found.flips else ""
        raise ParityError(
            f"{self._what()} disagrees with {self.source.against} on {where}: largest relative difference "
            f"{found.max_rel:.2g} (allowed {rtol:g}){flips}; nothing was saved{self._advice()}",
            parity=found,
        )

    def _what(self) -> str:
        return "the pickled model" if is_native(self.source) else "the converted graph"

    def _advice(self) -> str:
        """The likely cause where source and graph part, and what to try."""
        ways = [likely_cause(self.source, self.rows, self.agrees)]
        if is_native(self.source):
            ways.append("a model must answer any number of rows, one alone too")
        elif self.source.prefixes and ways[0] != RANDOM:  # of an estimator
            ways.append("or use format='joblib'" if ways[0] else "use format='joblib'")
        ways = [way for way in ways if way]
        return f": {'; '.join(ways)}" if ways else ""

    def agrees(self, rows: Columns) -> bool:
        """Whether source and graph answer some rows alike."""
        found = self.ask(rows)
        return found is not None and found.agree
