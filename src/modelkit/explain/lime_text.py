"""LIME for texts, by the `lime` library: how much each word of one text adds to the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ExplainError, importing
from modelkit.explain.fidelity import Fidelity, samples_of
from modelkit.explain.method import Attribution, gap_between
from modelkit.explain.shap import kept_random_state
from modelkit.explain.subject import Subject
from modelkit.signature.signature import Feeds

TEXT_WIDTH = 25.0  # of the kernel for texts, over a hundred times the cosine distance
TEXTS_AT_ONCE = 256  # an encoder of texts takes far more memory a row than a table does
NO_TEXT = np.array([[""]], object)


class _TextFits(NamedTuple):
    """What the library fitted.

    `outputs` has (intercept, [(word, coefficient), ...], R2, g(x)) for each of the k outputs,
    `weights` those of the shortened texts, and `spread` (k,) the range of the answers.
    """

    outputs: list[Any]
    weights: Array
    spread: Array


class TextLime:
    """LIME for texts: values are of the words of one text, each wherever it occurs.

    Args:
        subject: a model whose one input is a column of strings.
        budget: the number of shortened texts that the model is asked about for each text, by
            default 5,000.
        seed: of which words are left out.

    The features of the Explanation are the words, its data counts how often each occurs, and its
    fidelity is that of LIME for tables.

    Raises:
        ExplainError: if the budget is below 100 texts.
        MissingExtraError: if lime is not installed.
    """

    kind = "lime"
    exact = False

    def __init__(self, subject: Subject, budget: int | None, seed: int) -> None:
        with importing("lime", "method='lime' for texts", "explain-extra"):
            from lime import lime_text
        self.space = subject.space
        self.output_names = subject.names
        self._lime = lime_text
        self._subject = subject
        self._seed = seed % 2**32
        self._samples = samples_of(budget, 0)
        self.rows_per_row = self._samples + 1
        self.reason = (
            "the input is a text: the model is asked about it without some of its words, "
            f"{self._samples} times"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """What each word of one text adds.

        Raises ExplainError for several texts, and for one without words.
        """
        text = self._only_text(feeds)
        indexed = self._lime.IndexedString(text)
        words = tuple(str(word) for word in indexed.inverse_vocab)
        if not words:
            raise ExplainError(f"there are no words in the text {text!r}")
        with kept_random_state():
            outputs = served.shape[1]
            fits = self._fit(text, len(words), outputs)
        values = _coefficients(fits.outputs, len(words))
        base = np.array([[fit[0] for fit in fits.outputs]])
        gap = gap_between(values, base, served)
        fidelity = self._fidelity(fits, gap)
        counts = [float(len(places)) for places in indexed.positions]
        return Attribution(
            values,
            base,
            gap,
            evaluations=1 + self._samples,
            fidelity=fidelity.to_dict(),
            warnings=fidelity.warnings(fits.spread),
            feature_names=words,
            data=np.array([counts]),
        )

    def _fidelity(self, fits: _TextFits, gap: Array) -> Fidelity:
        r2 = np.array([[fit[2] for fit in fits.outputs]])
        squares = (fits.weights**2).sum()
        ess = fits.weights.sum() ** 2 / squares
        return Fidelity(r2, gap, np.array([ess]), self._samples, TEXT_WIDTH)

    def _only_text(self, feeds: Feeds) -> Any:
        (column,) = feeds.values()
        texts = column[:, 0].tolist()
        if len(texts) != 1:
            raise ExplainError(
                f"texts are explained one at a time, as each has words of its own; got {len(texts)}"
            )
        return texts[0]

    def _predict(self, texts: list[str]) -> Array:
        column = np.array(texts, object)[:, None]
        feeds = {self._subject.players[0].tensor: column}
        return self._subject.ask_in_chunks(feeds, TEXTS_AT_ONCE)

    def _fit(self, text: str, words: int, outputs: int) -> _TextFits:
        """Fit one linear model for each output.

        The library's own answer has the R2 of the last output alone, so every fit is noted when the
        library makes it.
        """
        explainer = self._lime.LimeTextExplainer(
            kernel_width=TEXT_WIDTH, feature_selection="none", random_state=self._seed
        )
        noted = _noting(explainer.base)
        explainer.explain_instance(
            text,
            self._predict,
            labels=range(outputs),
            num_features=words,
            num_samples=self._samples,
        )
        return noted()


def _noting(base: Any) -> Callable[[], _TextFits]:
    """Make the fitter of a LIME explainer note each fit; returns what gives them all."""
    fit = base.explain_instance_with_data
    found: list[Any] = []
    seen: list[Array] = []

    def note(data: Array, answers: Array, distances: Array, *args: Any, **options: Any) -> Any:
        spread = np.ptp(answers, axis=0)
        seen[:] = [base.kernel_fn(distances), spread]
        made = fit(data, answers, distances, *args, **options)
        found.append(made)
        return made

    base.explain_instance_with_data = note
    return lambda: _TextFits(found, *seen)


def _coefficients(fits: list[Any], words: int) -> Array:
    """The values (1, words, k) of the fits of k outputs."""
    values = np.zeros((1, words, len(fits)))
    for output, fit in enumerate(fits):
        for word, value in fit[1]:
            values[0, word, output] = value
    return values
