"""Vectorizers of texts as data: what a fitted one counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.estimators.tensors import refuse
from modelkit.errors import ConversionError, SignatureError
from modelkit.runtimes.terms.terms import Terms
from modelkit.runtimes.terms.vectorizer import Vectorizer

FUNCTIONS = ("tokenizer", "preprocessor", "analyzer", "strip_accents")  # options that may be code


def terms_of(vectorizer: Any, column: str) -> Terms:
    """What a fitted vectorizer counts in a column.

    Raises ConversionError for what is code, and no data.
    """
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
            f"({given[0]}=...) is a function of yours, and a package holds no code; apply it "
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
