"""The parity check: no package is written before its graph has been compared with its source.

What the parity check learns becomes part of the signature: a column is nullable only if source and graph
agree on rows where it is missing, whatever the example happened to hold.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.convert.asking import allowed_to_fail
from modelkit.convert.parity.causes import RANDOM, likely_cause
from modelkit.convert.parity.columns import Questions, is_native, learn, with_columns
from modelkit.convert.parity.compare import (
    Answers,
    Differences,
    agree,
    compare,
    merge,
    scales_of,
    tolerance,
)
from modelkit.convert.parity.invariance import LARGEST, batch_invariance
from modelkit.convert.parity.probes import (
    at_thresholds,
    between,
    enlarged,
    has_trees,
    in_other_sizes,
    not_finite,
    other_times,
)
from modelkit.convert.parity.rows import Rows, Table, Tensors, rows_of
from modelkit.convert.parity.strange import texts_of_terms, with_texts
from modelkit.convert.source import Source
from modelkit.errors import (
    BatchError,
    ConversionError,
    DeviceError,
    GraphError,
    ParityError,
    SignatureError,
)
from modelkit.model.manifest import Parity
from modelkit.model.model import Model
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import TensorSpec

MAX_ROWS = 2048
MAX_ROWS_OF_TREES = 16_384
FEW_ROWS = 64  # of the example, that probes are made of
NEARBY = (2.0, 4.0)
FAR = 1e4
OPERATOR = re.compile(r"while running (\w+) node")  # as onnxruntime names the one that fails
NOT_FINITE = (np.nan, np.inf, -np.inf)
ONE_BY_ONE = 8  # rows that both must refuse
FURTHER_SIZES = (1, 3, 17)  # numbers of rows for which source and graph are compared as well


def open_signature(signature: Signature) -> Signature:
    """The signature with all columns nullable and open, to feed the graph what the parity check wants."""
    return with_columns(
        signature,
        lambda column: dataclasses.replace(column, nullable=True, categories=None, finite=False),
    )


def prove_parity(
    source: Source, build: Callable[[Signature], Model], feeds: Feeds | None
) -> tuple[Signature, Parity]:
    """Compare a graph with its source and return the signature that holds, with the figures.

    Args:
        source: the graph and what it came from.
        build: makes a Model of the graph with a given signature.
        feeds: rows to measure batch invariance on where the source brings none.

    Raises:
        ParityError: if the graph disagrees with its source.
        ConversionError: if a column's categories cannot be told, or the signature refuses a row of
            the example.
    """
    signature = source.signature
    figures: dict[str, Any] = {}
    total = Differences()
    with build(open_signature(signature)) as model:
        if source.truth is not None:
            check_takes_example(source, model.signature)
            rows = rows_of(source.rows).spread(MAX_ROWS)
            scales = scales_of(source.truth(rows.raw), source.distances)
            source = dataclasses.replace(source, scales=scales)
            signature, figures = _Comparison(source, model, total).compare(rows)
            feeds = model.signature.coerce(rows.raw)
            check_takes_example(source, signature)
        sizes, batch_max_abs, invariant = batch_invariance(source, model, feeds)
        count = 0 if feeds is None else model.signature.count(feeds)
    rtol, atol = tolerance(source)
    parity = Parity(
        against=source.against,
        rows=count,
        missing_rows=0,
        batch_sizes=sizes,
        rtol=rtol,
        atol=atol,
        max_abs=total.max_abs,
        max_rel=total.max_rel,
        label_flips=total.flips,
        ties=total.ties,
        batch_max_abs=batch_max_abs,
        batch_invariant=invariant,
    )
    return signature, dataclasses.replace(parity, **figures)


def check_takes_example(source: Source, signature: Signature) -> None:
    """Raise ConversionError if a package with this signature would refuse its own example."""
    try:
        signature.coerce(source.rows)
        if source.given is not None:
            signature.coerce(source.given)
    except SignatureError as error:
        said = "\n  ".join(error.problems[:5])
        raise ConversionError(
            "nothing was saved, for the package would refuse rows of its own example:\n  "
            f"{said}\nThe source takes "
            "them, but it was not shown to answer other rows like them, or the graph answers "
            "those otherwise; leave "
            f"such rows out of the example, or change the step that reads this column",
            problems=error.problems,
        ) from error


def _marked(spec: TensorSpec, *, finite: bool) -> TensorSpec:
    """A tensor, or its columns, marked as taking finite numbers only, or any."""
    if not spec.columns:
        return dataclasses.replace(spec, finite=finite)
    columns = [dataclasses.replace(column, nullable=not finite) for column in spec.columns]
    return dataclasses.replace(spec, columns=tuple(columns))


@dataclasses.dataclass
class _Comparison:
    """A source and the Model of its graph, asked the same rows; `total` sums up what agreed.

    `signature` is what was learned of the columns, None before that.
    """

    source: Source
    model: Model
    total: Differences
    signature: Signature | None = None

    def compare(self, rows: Rows) -> tuple[Signature, dict[str, Any]]:
        """The signature that holds, and figures of a Parity.

        Raises ParityError where source and graph disagree on the rows of the example, or on rows
        that an application may well have.
        """
        for size in (MAX_ROWS, *FURTHER_SIZES):
            self._agree_on_example(rows.spread(size))
        every = rows_of(self.source.rows)
        # Few rows meet the thresholds of trees.
        if len(every) > MAX_ROWS and has_trees(self.source.proto):
            self._agree_on_example(every.spread(MAX_ROWS_OF_TREES))
        few = rows_of(self.source.rows).spread(FEW_ROWS)
        signature = self.source.signature
        missing_rows = 0
        if isinstance(few, Table):
            signature, missing_rows = self._learn(few)
            self.signature = signature
        if isinstance(few, Tensors):
            signature = self._refusing_not_finite(signature, few)
        text_rows = self._agree_on_texts(few)
        threshold_rows = self._agree_on_probes(rows, few)
        large, large_rows = self._far(few)
        return signature, {
            "missing_rows": missing_rows,
            "text_rows": text_rows,
            "threshold_rows": threshold_rows,
            "large_rows": large_rows,
            "large_max_rel": min(large.max_rel, LARGEST),
            "large_flips": large.flips,
        }

    def _agree_on_example(self, rows: Rows) -> None:
        """Add the differences on some rows of the example to the total.

        Raises ParityError where they pass the tolerance.
        """
        where = f"{len(rows)} row{'' if len(rows) == 1 else 's'} of the example"
        truth = self._truth(rows)
        try:
            got = self.model.run(rows.raw)
        except (DeviceError, GraphError):
            raise
        except Exception as error:
            if isinstance(error, SignatureError) and not error.rows:
                raise
            failing = OPERATOR.search(str(error))
            at = f" in its operator {failing[1]}" if failing else ""
            raise ParityError(
                f"{self._what()} fails{at} on {where}, which {self.source.against} answers; "
                f"nothing was saved{self._advice()}"
            ) from error
        found = compare(truth, got, *tolerance(self.source), self.source.scales)
        self._refuse(found, where)
        merge(self.total, found)

    def _learn(self, few: Table) -> tuple[Signature, int]:
        """The signature with each column as the two take it, and the number of rows with gaps."""
        example = rows_of(self.source.rows)
        assert isinstance(example, Table)  # `few` are some of them
        return learn(
            Questions(
                self.source, self._ask, self._refuse, self._refuse_alike, self.total, few, example
            )
        )

    def _agree_on_probes(self, rows: Rows, few: Rows) -> int:
        """Compare rows that the example lacks; gives the number of those at thresholds."""
        if isinstance(few, Tensors):
            self._agree_on_sizes(few)
            self._agree_on_indices(few)
        threshold_rows = self._agree_beyond(
            at_thresholds(self.source.proto, self.source.signature, few),
            "rows with values equal to a threshold of its trees, or next to one",
        )
        for scale in NEARBY:  # not far: there, probabilities that come to 1.0 may hide a label
            where = f"rows {scale:g} times those of the example"
            self._agree_beyond(enlarged(few, scale), where)
        # They have no direction, and nothing to be divided by.
        self._agree_beyond(few.zeroed(), "rows of zeros")
        # There trees split, behind a scaler too.
        halfway = "rows with values halfway between those of the example"
        self._agree_beyond(between(rows), halfway)
        where = "rows of times at full hours and at the ends of months, or next to these"
        self._agree_beyond(other_times(few), where)
        return threshold_rows

    def _agree_on_sizes(self, few: Tensors) -> None:
        """Compare rows whose free sizes are others than those of the example.

        Raises ParityError.
        """
        for dim, size, rows in in_other_sizes(few, self.source.signature):
            self._agree_beyond(rows, f"rows of which {dim!r} is {size}")

    def _agree_on_indices(self, few: Tensors) -> None:
        """Compare rows with -1 for whole numbers, which a table of torch does not have.

        Raises ParityError.
        """
        for name, array in few.raw.items():
            if array.dtype.kind == "i":
                changed = array.copy()
                changed[:1] = -1
                self._agree_beyond(few.with_tensor(name, changed), f"rows with -1 in {name!r}")

    def _agree_on_texts(self, few: Rows) -> int:
        """Compare texts of the model's own terms with strange characters; gives their number.

        Raises ParityError.
        """
        if not isinstance(few, Table):
            return 0
        names = [spec.name for spec in self.source.signature.inputs for _ in spec.columns]
        asked = 0
        for terms in self.source.terms:
            column = terms.vectorizer.column
            texts = texts_of_terms(terms.known)
            where = f"texts with unusual characters in column {column!r}"
            asked += self._agree_beyond(with_texts(few, names.index(column), texts), where)
        return asked

    def _agree_beyond(self, rows: Rows | None, where: str) -> int:
        """Compare rows that the example does not hold, if there are any; gives their number.

        It is 0 where the source refuses them. Raises ParityError.
        """
        found = None if rows is None else self._ask(rows)
        if rows is None:
            return 0
        if found is None:
            self._refuse_alike(rows, where)
            return 0
        self._refuse(found, where)
        merge(self.total, found)
        return len(rows)

    def _refuse_alike(self, rows: Rows, where: str) -> None:
        """Compare rows some of which the source refuses: the graph has to refuse these and no others.

        Rows that the signature refuses are not asked about. Raises ParityError.
        """
        if is_native(self.source) or self.source.by_dtype:
            return
        try:
            if self.signature is not None:
                self.signature.coerce(rows.raw)
            self.model.run(rows.raw)
            refused: tuple[int, ...] = ()
        except BatchError:
            return
        except SignatureError as error:
            refused = error.rows
            if not refused:
                return
        for row in refused[:ONE_BY_ONE]:
            if self._ask(rows.at([row])) is not None:
                raise self._unlike(f"{self._what()} refuses {where}", "answers")
        others = np.setdiff1d(np.arange(len(rows)), refused)
        if not len(others):
            return
        found = self._ask(rows.at(others))
        if found is None:
            raise self._unlike(f"{self._what()} answers {where}", "refuses with an error")
        self._refuse(found, where)

    def _unlike(self, graph: str, verb: str) -> ParityError:
        """The error where one of the two refuses rows and the other answers them."""
        return ParityError(
            f"{graph}, which {self.source.against} {verb}; nothing was saved{self._advice()}"
        )

    def _far(self, few: Rows) -> tuple[Differences, int]:
        """Differences on rows far beyond the example, and the number of these rows.

        They are recorded, not refused: few models mean anything there.
        """
        beyond = enlarged(few, FAR)
        found = None if beyond is None else self._ask(beyond)
        if beyond is None or found is None:
            return Differences(), 0
        return found, len(beyond)

    def _refusing_not_finite(self, signature: Signature, few: Tensors) -> Signature:
        """The signature, with each tensor marked that must be finite for the two to agree."""
        inputs = []
        for spec in signature.inputs:
            floats = "float" in spec.dtype and few.raw[spec.name].size > 0
            finite = floats and not self._agrees_if_not_finite(few, spec.name)
            inputs.append(_marked(spec, finite=finite))
        return dataclasses.replace(signature, inputs=tuple(inputs))

    def _agrees_if_not_finite(self, few: Tensors, name: str) -> bool:
        """Whether the two agree on NaN and infinities, at several numbers of rows."""
        for value in NOT_FINITE:
            strange = not_finite(few, name, value)
            for size in (FEW_ROWS, *FURTHER_SIZES):
                found = self._ask(strange.at(slice(size)))
                if found is None or not agree(found, *tolerance(self.source)):
                    return False
        return True

    def _ask(self, rows: Rows) -> Differences | None:
        """Differences on rows; None if the source refuses them, or they are missing integers."""
        try:
            with allowed_to_fail():
                truth = self._truth(rows)
        except Exception:  # any refusal of the source counts
            return None
        try:
            got = self.model.run(rows.raw)
        except SignatureError as error:
            if error.rows:  # by the graph, where its source answers
                return Differences(max_abs=np.inf, max_rel=np.inf)
            return None  # of an estimator as it is: its integers have no missing value
        except Exception:  # the graph fails where its source answers
            return Differences(max_abs=np.inf, max_rel=np.inf)
        return compare(truth, got, *tolerance(self.source), self.source.scales)

    def _truth(self, rows: Rows) -> Answers:
        """The answers of the source."""
        assert self.source.truth is not None  # for the type checker: see `prove_parity`
        return self.source.truth(rows.raw)

    def _refuse(self, found: Differences, where: str) -> None:
        """Raise ParityError for differences beyond the tolerance."""
        rtol, atol = tolerance(self.source)
        if agree(found, rtol, atol):
            return
        raise ParityError(
            f"{self._what()} disagrees with {self.source.against} on {where}: largest relative difference "
            f"{found.max_rel:.2g} (allowed {rtol:g}), {found.flips} labels flipped; nothing was "
            f"saved{self._advice()}",
            parity=found,
        )

    def _what(self) -> str:
        return "the pickled model" if is_native(self.source) else "the converted graph"

    def _advice(self) -> str:
        """The likely cause where source and graph part, and what to try."""
        ways = [likely_cause(self.source, self._agrees)]
        if is_native(self.source):
            ways.append("a model must answer any number of rows, one alone too")
        elif self.source.prefixes and ways[0] != RANDOM:  # of an estimator
            ways.append("or use format='joblib'" if ways[0] else "use format='joblib'")
        ways = [way for way in ways if way]
        return f": {'; '.join(ways)}" if ways else ""

    def _agrees(self, rows: Rows) -> bool:
        """Whether source and graph answer some rows alike."""
        found = self._ask(rows)
        return found is not None and agree(found, *tolerance(self.source))
