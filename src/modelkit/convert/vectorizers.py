"""Vectorizers of texts as data: what a fitted one counts, and the form that its converter takes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from modelkit.errors import ConversionError, SignatureError
from modelkit.texts.terms import Terms
from modelkit.texts.vectorizer import Vectorizer

FUNCTIONS = ("tokenizer", "preprocessor", "analyzer", "strip_accents")  # options that may be code


def terms_of(vectorizer: Any, column: str) -> Terms:
    """What a fitted vectorizer counts in a column.

    Raises ConversionError for what is code, and no data.
    """
    _check_vectorizer(vectorizer)
    name = type(vectorizer).__name__
    words = vectorizer.analyzer == "word"
    places = vectorizer.vocabulary_
    if isinstance(places, _Held):
        places = places.vocabulary
    vocabulary = sorted(places, key=places.get)
    stop_words = sorted(vectorizer.get_stop_words() or ()) if words else []
    for term in (*vocabulary, *stop_words):
        if not isinstance(term, str) or not _is_unicode(term):
            raise ConversionError(
                f"{name} has the term {term!r}, which is no valid text", step=name
            )
    try:
        described = Vectorizer(
            column=column,
            analyzer=vectorizer.analyzer,
            ngrams=tuple(int(size) for size in vectorizer.ngram_range),
            lowercase=bool(vectorizer.lowercase),
            accents=vectorizer.strip_accents or None,
            token_pattern=vectorizer.token_pattern if words else None,
        )
    except SignatureError as error:
        raise ConversionError(f"{name} cannot be converted: {error}", step=name) from error
    return Terms(
        described,
        [str(term) for term in vocabulary],
        [str(word) for word in stop_words],
    )


def _check_vectorizer(vectorizer: Any) -> None:
    """Raise ConversionError for a vectorizer with functions, of files, or of few bits."""
    name = type(vectorizer).__name__
    given = [option for option in FUNCTIONS if callable(getattr(vectorizer, option))]
    if given:
        raise ConversionError(
            f"{name}({given[0]}=...) is a function of yours, and a package holds no code; apply it "
            "to the texts before the model, or save with format='joblib'",
            step=name,
        )
    if vectorizer.input != "content":
        raise ConversionError(
            f"{name}(input={vectorizer.input!r}) reads files; pass it texts", step=name
        )
    dtype = np.dtype(vectorizer.dtype)
    if dtype.kind != "b" and dtype.itemsize < 4:
        raise ConversionError(
            f"{name}(dtype={dtype}) counts in few bits, which the graph does not; use float64",
            step=name,
        )


class _Held:
    """Keeps a vocabulary from skl2onnx, which looks through all lists of an estimator."""

    __slots__ = ("vocabulary",)

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self.vocabulary)


def prepared_for_terms(estimator: Any) -> Any:
    """An estimator that answers the same, in a form that the converters of this module take.

    CountVectorizer and the TfidfTransformer after it become one TfidfVectorizer.
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    if type(estimator) in (CountVectorizer, TfidfVectorizer):
        opened = copy.copy(estimator)
        opened.vocabulary_ = _Held(estimator.vocabulary_)
        return opened
    opened = estimator
    for name in ("steps", "transformer_list", "transformers_"):
        if hasattr(estimator, name):
            opened = copy.copy(estimator) if opened is estimator else opened
            setattr(
                opened,
                name,
                _prepared_parts(getattr(estimator, name)),
            )
    if hasattr(estimator, "steps"):
        opened.steps = _joined_counting(opened.steps)
    return opened


def _prepared_parts(parts: list[Any]) -> list[Any]:
    return [(key, prepared_for_terms(part), *more) for key, part, *more in parts]


def _joined_counting(parts: list[Any]) -> list[Any]:
    """Steps with one TfidfVectorizer for a CountVectorizer and a TfidfTransformer."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer

    steps: list[Any] = []
    for key, step in parts:
        if isinstance(step, TfidfTransformer) and steps and type(steps[-1][1]) is CountVectorizer:
            first, counting = steps[-1]
            joined = TfidfVectorizer(**counting.get_params())
            joined.vocabulary_ = counting.vocabulary_
            joined._tfidf = step  # noqa: SLF001 - where it keeps one itself
            steps[-1] = (first, joined)
        else:
            steps.append((key, step))
    return steps


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
