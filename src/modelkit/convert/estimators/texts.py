"""Converters of what reads texts: Python counts the terms, and the graph weighs the counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.estimators.converting import Converting, NonZeros
from modelkit.convert.estimators.tensors import Columns, Var, converts, gathered, norms, refuse
from modelkit.errors import ConversionError, SignatureError
from modelkit.runtimes.terms.terms import Terms
from modelkit.runtimes.terms.vectorizer import Vectorizer

FUNCTIONS = ("tokenizer", "preprocessor", "analyzer", "strip_accents")  # options that may be code


@converts("CountVectorizer", "TfidfVectorizer")
def counts(vectorizer: Any, columns: Columns, at: Converting) -> Var:
    """CountVectorizer and TfidfVectorizer: the weight of each term that a text holds."""
    terms, numbers = at.counted(terms_of(vectorizer, columns))
    if vectorizer.binary or np.dtype(vectorizer.dtype).kind == "b":
        numbers = np.minimum(numbers, 1.0)
    found = NonZeros(terms, numbers, len(vectorizer.vocabulary_))
    transformer = getattr(vectorizer, "_tfidf", None)
    if transformer is not None:
        found = _weighed(transformer, found)
    return at.table_of(found)


@converts("HashingVectorizer")
def hashes(vectorizer: Any, columns: Columns, at: Converting) -> Var:
    """HashingVectorizer: what Python sums up in the columns that hashes of terms choose."""
    terms, numbers = at.counted(terms_of(vectorizer, columns))
    if vectorizer.norm is not None:
        numbers = _over_norm(numbers, vectorizer.norm)
    if np.dtype(vectorizer.dtype) != np.float64:
        numbers = numbers.astype(np.float32).astype(np.float64)
    return at.table_of(NonZeros(terms, numbers, vectorizer.n_features))


@converts("TfidfTransformer")
def weights(transformer: Any, columns: Columns, at: Converting) -> Var:
    """TfidfTransformer: counts as it weighs them."""
    nonzeros = columns.parts[0].nonzeros if len(columns.parts) == 1 else None
    if nonzeros is not None:
        return at.table_of(_weighed(transformer, nonzeros))
    idf = np.ravel(transformer.idf_) if transformer.use_idf else None
    return _weigh(transformer, columns.matrix(np.float64), idf)


def _weighed(transformer: Any, nonzeros: NonZeros) -> NonZeros:
    idf = gathered(np.ravel(transformer.idf_), nonzeros.places) if transformer.use_idf else None
    return NonZeros(nonzeros.places, _weigh(transformer, nonzeros.numbers, idf), nonzeros.width)


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


def terms_of(vectorizer: Any, columns: Columns) -> Terms:
    """What a fitted vectorizer counts in the input of texts that it reads.

    Raises ConversionError for another column, and for what is code, and no data.
    """
    column: str | None = columns.parts[0].input if len(columns.parts) == 1 else None
    if column is None:
        refuse(
            vectorizer,
            " must read a column as it is; apply the step before it to the texts before "
            "the model, or save the model with format='joblib'",
        )
    _check_vectorizer(vectorizer)
    places: dict[str, int] = getattr(vectorizer, "vocabulary_", {})
    vocabulary = sorted(places, key=places.__getitem__)
    words = vectorizer.analyzer == "word"
    stop_words = sorted(vectorizer.get_stop_words() or ()) if words else []
    for term in (*vocabulary, *stop_words):
        if not isinstance(term, str) or not _is_unicode(term):
            refuse(
                vectorizer,
                f" has the term {term!r}, which is not valid text; save the model with format='joblib'",
            )
    return Terms(
        _described(vectorizer, column),
        [str(term) for term in vocabulary],
        [str(word) for word in stop_words],
    )


def _described(vectorizer: Any, column: str) -> Vectorizer:
    """How a vectorizer treats its texts. Raises ConversionError."""
    hashes = not hasattr(vectorizer, "vocabulary_")
    sums = "counts"
    if hashes and vectorizer.alternate_sign:
        sums = "signed"
    if hashes and vectorizer.binary:
        sums = "present"
    try:
        return Vectorizer(
            column=column,
            analyzer=vectorizer.analyzer,
            ngrams=tuple(int(size) for size in vectorizer.ngram_range),
            lowercase=bool(vectorizer.lowercase),
            accents=vectorizer.strip_accents or None,
            token_pattern=vectorizer.token_pattern if vectorizer.analyzer == "word" else None,
            buckets=int(vectorizer.n_features) if hashes else None,
            sums=sums,
        )
    except SignatureError as error:
        name = type(vectorizer).__name__
        raise ConversionError(
            f"{name} cannot be converted: {error}; or save the model with format='joblib'",
            step=name,
        ) from error


def _check_vectorizer(vectorizer: Any) -> None:
    """Raise ConversionError for a vectorizer with functions, of files, or of few bits."""
    given = [option for option in FUNCTIONS if callable(getattr(vectorizer, option))]
    if given:
        refuse(
            vectorizer,
            f"({given[0]}=...) is a function of yours, and a package cannot hold code; apply it "
            "to the texts before the model, or save the model with format='joblib'",
        )
    if vectorizer.input != "content":
        refuse(
            vectorizer,
            f"(input={vectorizer.input!r}) reads files; fit it with input='content' on the texts",
        )
    dtype = np.dtype(vectorizer.dtype)
    if dtype.kind != "b" and dtype.itemsize < 4:
        refuse(
            vectorizer, f"(dtype={dtype}) counts in few bits, which the graph does not; use float64"
        )


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
