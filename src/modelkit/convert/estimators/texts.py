"""Converters of what reads texts: Python counts the terms, and the graph weighs the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.converting import Few
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    converts,
    gathered,
    norms,
    refuse,
)
from modelkit.convert.estimators.vectorizers import terms_of

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


@converts("CountVectorizer", "TfidfVectorizer")
def counts(vectorizer: Any, columns: Columns, at: Converting) -> Answer:
    """CountVectorizer and TfidfVectorizer: the weight of each term that a text holds."""
    terms, numbers = at.counted(terms_of(vectorizer, _column_of(vectorizer, columns)))
    if vectorizer.binary or np.dtype(vectorizer.dtype).kind == "b":
        numbers = np.minimum(numbers, 1.0)
    found = Few(terms, numbers, len(vectorizer.vocabulary_))
    transformer = getattr(vectorizer, "_tfidf", None)
    if transformer is not None:
        found = _weighed(transformer, found)
    return Answer(table=at.table_of(found))


@converts("HashingVectorizer")
def hashes(vectorizer: Any, columns: Columns, at: Converting) -> Answer:
    """HashingVectorizer: what Python sums up in the columns that hashes of terms choose."""
    terms, numbers = at.counted(terms_of(vectorizer, _column_of(vectorizer, columns)))
    if vectorizer.norm is not None:
        numbers = _over_norm(numbers, vectorizer.norm)
    if np.dtype(vectorizer.dtype) != np.float64:
        numbers = numbers.astype(np.float32).astype(np.float64)
    return Answer(table=at.table_of(Few(terms, numbers, vectorizer.n_features)))


def _column_of(vectorizer: Any, columns: Columns) -> str:
    """The input of texts that a vectorizer reads. Raises ConversionError."""
    column: str | None = columns.parts[0].input if len(columns.parts) == 1 else None
    if column is None:
        refuse(
            vectorizer,
            " must read a column as it is; apply the step before it to the texts before "
            "the model, or save the model with format='joblib'",
        )
    return column


@converts("TfidfTransformer")
def weights(transformer: Any, columns: Columns, at: Converting) -> Answer:
    """TfidfTransformer: counts as it weighs them."""
    few = columns.parts[0].few if len(columns.parts) == 1 else None
    if few is not None:
        return Answer(table=at.table_of(_weighed(transformer, few)))
    idf = np.ravel(transformer.idf_) if transformer.use_idf else None
    return Answer(table=Columns((_weigh(transformer, columns.matrix(np.float64), idf),)))


def _weighed(transformer: Any, few: Few) -> Few:
    idf = gathered(np.ravel(transformer.idf_), few.terms) if transformer.use_idf else None
    return Few(few.terms, _weigh(transformer, few.numbers, idf), few.width)


def _weigh(transformer: Any, numbers: Var, idf: Var | None) -> Var:
    """Counts of terms, (n, terms), as weights; `idf` are the weights of the same terms."""
    found = _sublinear(numbers) if transformer.sublinear_tf else numbers
    if idf is not None:
        found = found * idf
    return found if transformer.norm is None else _over_norm(found, transformer.norm)


def _sublinear(numbers: Var) -> Var:
    """1 + log(count) of the terms that are there."""
    absent = numbers == 0.0
    return np.where(absent, 0.0, np.log(np.where(absent, 1.0, numbers)) + 1.0)


def _over_norm(numbers: Var, norm: str) -> Var:
    """Weights over the norm of their row, which counts as 1 where it is 0."""
    size = norms(numbers, norm)
    return numbers / np.where(size == 0.0, 1.0, size)
