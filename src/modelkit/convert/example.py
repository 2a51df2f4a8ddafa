"""Example rows of an estimator: form, columns, and how the estimator is asked about them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array, is_a
from modelkit.convert.asking import FILL
from modelkit.convert.boosting import trained_names
from modelkit.convert.dtypes import columns_of
from modelkit.convert.outputs import Classes, Role, read_roles
from modelkit.convert.source import Columns
from modelkit.convert.steps import closed_categories, read_columns, with_parts
from modelkit.convert.tables import NONES, answers_alike, as_table, dense_table
from modelkit.errors import ConversionError
from modelkit.runtimes.series import OBJECT, as_fitted, frame_of
from modelkit.signature.cast import is_missing
from modelkit.signature.frames import blank_column
from modelkit.signature.spec import Column

FEW_ROWS = 256  # that an estimator is asked about to see which columns it reads
Ask = Callable[[Any, Any], Any]
UNNAMED_TEXT = "text"  # the column of a model over strings whose example has no name
READS_DICTS = ("DictVectorizer", "FeatureHasher")
SERIES = (("pandas", "Series"), ("polars", "Series"), ("pyarrow", "Array"))


@dataclass(frozen=True, eq=False)
class Example:
    """Example rows, and how a fitted estimator is asked about rows like them.

    `given` are the rows as `fit` was given them; `rows` has the columns that the estimator reads,
    in the order of `columns`, and `ignored` are the names of the others.
    """

    estimator: Any
    given: Any
    rows: Any
    columns: list[Column]
    ignored: tuple[str, ...] = ()
    texts: bool = False

    def answer(self, ask: Ask, rows: Any) -> Any:
        """What the estimator says to rows like `rows`."""
        return ask(self.estimator, self._whole(rows))

    def roles(self, few: Any) -> tuple[tuple[Role, ...], Classes | None]:
        """The outputs of the estimator and its classes, by its answer to few rows.

        Raises ConversionError, also where it answers the whole example alone.
        """
        try:
            return self.answer(read_roles, few)  # type: ignore[no-any-return]  # what read_roles gives
        except ConversionError as error:
            try:
                self.answer(read_roles, self.rows)
            except ConversionError:
                raise error from error.__cause__
            raise ConversionError(
                f"the model answers the whole example, but fails on {len(few)} rows of it: an "
                "answer depends on other rows, as with shift, rolling or bfill, or its dtype "
                "does, as .dt.year gives floats beside a missing date; compute such columns "
                "before the pipeline, or fix their dtype with astype(float), then fit and save "
                "again"
            ) from error

    def without(self, unread: Collection[str]) -> Example:
        """The example without columns that nothing reads; itself where its answers depend on them."""
        names = [str(name) for name in getattr(self.rows, "columns", [])]
        kept = [at for at, name in enumerate(names) if name not in unread]
        if not 0 < len(kept) < len(names):
            return self
        few = replace(
            self,
            rows=self.rows.iloc[:, kept],
            columns=[column for column in self.columns if column.name not in unread],
            ignored=(*self.ignored, *unread),
        )
        blank = few._whole(few.rows.iloc[:FEW_ROWS])
        return few if answers_alike(few.estimator, few.given.iloc[:FEW_ROWS], blank) else self

    def closed_categories(self) -> dict[str, tuple[Any, ...]]:
        """The values that encoders are bound to, by column."""
        names = [str(name) for name in getattr(self.given, "columns", [])]
        return closed_categories(self.estimator, names or [column.name for column in self.columns])

    def form(self, columns: Columns) -> Any:
        """Rows in the form of the example, from values by the name of their column."""
        if isinstance(self.rows, np.ndarray):
            return as_fitted(np.stack(list(columns.values()), axis=1), self.rows.dtype)
        like, nones = self.empty
        return frame_of(like, nones, columns, len(next(iter(columns.values()))))

    @cached_property
    def empty(self) -> tuple[Any, tuple[str, ...]]:
        """The frame of the rows without these, and its columns whose missing objects are None."""
        return empty_of(self.rows)

    def _whole(self, rows: Any) -> Any:
        """Rows as the estimator takes them: texts as a vector, a frame with columns that are blank."""
        if self.texts:
            return rows[:, 0]
        if not self.ignored:
            return rows
        kept = (column for _, column in rows.items())
        columns = [
            blank_column(dtype, rows.index) if str(name) in self.ignored else next(kept)
            for name, dtype in self.given.dtypes.items()
        ]
        frame = sys.modules["pandas"].DataFrame(dict(enumerate(columns)), index=rows.index)
        return frame.set_axis(self.given.columns, axis=1)


def read_example(estimator: Any, example: Any, *, native: bool = False) -> Example:
    """Example rows in the form that a fitted estimator takes. Raises ConversionError.

    Rows of a `native` estimator, which is packaged as it is, may hold what no graph takes.
    """
    if example is None:
        raise ConversionError(
            "save needs rows to compare the graph with the model: pass example=X_train[:500], as "
            "you passed them to fit"
        )
    _check_reads_columns(estimator)
    texts = _texts(example)
    if texts is not None:
        name = str(getattr(example, "name", None) or UNNAMED_TEXT)
        columns = [Column(name, "string")]
        return Example(estimator, texts, texts, columns, texts=True)
    rows = as_table(estimator, example)
    if not native:
        rows = dense_table(estimator, rows)
    _check_form(estimator, rows)
    trained_on = trained_names(estimator)
    given = [str(name) for name in getattr(rows, "columns", [])]
    # LightGBM writes underscores for the spaces of a name.
    if trained_on and trained_on not in (given, [name.replace(" ", "_") for name in given]):
        raise ConversionError(_of_other_columns(given, trained_on))
    if not len(rows):
        raise ConversionError("example is empty; pass some rows, such as example=X_train[:500]")
    _check_distinct_names(given)
    read = read_columns(estimator, [(name,) for name in given])
    shown = Example(estimator, rows, rows, []).without([name for name in given if name not in read])
    return replace(shown, columns=columns_of(shown.rows, native=native))


def _of_other_columns(given: list[str], trained_on: list[str]) -> str:
    """What differs between the columns of an example and those that fit was given."""
    if not given:
        return f"fit was given a frame, but example lacks names of columns: pass a frame with {trained_on[:5]}"
    for what, names, others in (
        ("lacks columns that fit was given", trained_on, given),
        ("has columns that fit was not given", given, trained_on),
    ):
        found = [name for name in names if name not in others]
        if found:
            return f"example {what}: {found[:5]}; pass rows with the columns that fit was given"
    return (
        "example has its columns in another order than fit was given them: pass "
        f"example[model.feature_names_in_], which begins with {trained_on[:5]}"
    )


def empty_of(rows: Any) -> tuple[Any, tuple[str, ...]]:
    """A frame without its rows, and its columns of objects that mark a missing value with None.

    None and () for an array.
    """
    if isinstance(rows, np.ndarray):
        return None, ()
    like = rows.iloc[:0].reset_index(drop=True)
    like.attrs.clear()
    objects = [name for name, dtype in like.dtypes.items() if dtype == OBJECT]
    form = NONES in rows.attrs
    nones = [str(name) for name in objects if form or any(value is None for value in rows[name])]
    return like, tuple(nones)


def _check_reads_columns(estimator: Any) -> None:
    """Raise ConversionError where a step reads another kind of rows than tables of columns."""
    for step in with_parts(estimator):
        kind = type(step).__name__
        if kind in READS_DICTS:
            raise ConversionError(
                f"{kind} reads rows without fixed columns, but a package takes columns: put the "
                "records into a frame, pd.DataFrame(records), and fit a ColumnTransformer with "
                "OneHotEncoder on it",
                step=kind,
            )


def _check_form(estimator: Any, example: Any) -> None:
    """Raise ConversionError unless an example is a frame or a 2-D array of numbers."""
    if is_a(example, "pandas", "DataFrame"):
        return
    array = isinstance(example, np.ndarray)
    if array and example.ndim == 2 and example.dtype.kind in "biuf":
        return
    kind = type(example).__name__
    if array:
        kind = f"an array of {example.dtype} of {example.ndim} dimensions"
    raise ConversionError(
        "example takes rows as you passed them to fit: a 2-D numeric array, a frame, records, or "
        f"a list of texts; not {kind}{_instead(estimator, example)}"
    )


def _instead(estimator: Any, example: Any) -> str:
    """What to pass in place of sparse rows: what these do not store is 0, and missing to XGBoost."""
    if not hasattr(example, "toarray"):
        return ""
    if any(is_a(part, "xgboost", "XGBModel") for part in with_parts(estimator)):
        return (
            "; XGBoost takes what a sparse matrix does not store for missing, so pass dense rows with "
            "NaN there, here and to predict: dense = X.toarray(); dense[dense == 0] = np.nan"
        )
    return "; pass X.toarray()"


def _check_distinct_names(names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ConversionError(
            f"several columns of example have the same name, {twice[:5]}, but rows are matched by "
            "the names of columns; rename them before fit"
        )


def _texts(example: Any) -> Array | None:
    """One column of texts as an (n, 1) array of objects; None for anything else.

    Raises ConversionError where some are missing.
    """
    series = any(is_a(example, *kind) for kind in SERIES)
    if series or (isinstance(example, np.ndarray) and example.ndim == 1):
        example = np.asarray(example, object).tolist()
    if not isinstance(example, list | tuple) or not example:
        return None
    others = [text for text in example if not isinstance(text, str)]
    if others:
        if len(others) < len(example) and all(map(is_missing, others)):
            raise ConversionError(f"example has {len(others):,} missing texts among others: {FILL}")
        return None
    rows = np.empty((len(example), 1), object)
    rows[:, 0] = example
    return rows
