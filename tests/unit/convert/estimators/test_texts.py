"""Words and letters are counted as Python and scikit-learn count them."""

import numpy as np
import pytest
from helpers.kinds import docstrings
from helpers.packages import saved
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modelkit.convert.parity import strange as probes
from modelkit.errors import SignatureError

FILMS = ["a fine film", "not good", "bad city", "good town"] * 10
GREEK = ["ο δρόμος καλός", "ο λόγος κακός", "a fine film", "not good"] * 10  # noqa: RUF001


@pytest.mark.parametrize(
    ("texts", "words"),
    [(GREEK, TfidfVectorizer()), (FILMS, CountVectorizer(analyzer="char", ngram_range=(1, 2)))],
)
def test_texts_that_no_graph_reads_as_python_does(texts, words, tmp_path):
    """Python writes the last sigma of a word otherwise; scikit-learn takes white space together before it counts."""
    model = make_pipeline(words, LogisticRegression()).fit(texts, [1, 0, 0, 1] * 10)
    _, packed = saved(model, texts, tmp_path)
    strange = [*(text.upper() for text in texts), "a  fine\t\tfilm"]
    np.testing.assert_allclose(
        packed.predict_proba({"text": strange}), model.predict_proba(strange), atol=1e-12
    )


def test_a_text_that_is_no_unicode_is_answered_as_the_source_does(tmp_path):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(FILMS, [1, 0, 0, 1] * 10)
    _, packed = saved(model, FILMS, tmp_path)
    broken = ["good \ud83d", "go\ud83dod film"]
    np.testing.assert_allclose(
        packed.predict_proba({"text": broken}), model.predict_proba(broken), atol=1e-12
    )


@pytest.mark.parametrize("pairs", [(1, 1), (1, 2)])
def test_words_are_those_of_python_in_any_script(pairs, tmp_path):
    texts, y = docstrings()
    texts = [*texts, "Déjà VU über ÉCOLE", "Вот ГОРОД и мир", "a b cd ef"]
    model = make_pipeline(TfidfVectorizer(ngram_range=pairs), LogisticRegression()).fit(
        texts, [*y, 0, 1, 0]
    )
    _, packed = saved(model, texts, tmp_path)
    strange = [*probes.TEXTS, "ÉCOLE école", "ГОРОД город"]
    np.testing.assert_allclose(
        packed.predict_proba({"text": strange}), model.predict_proba(strange), atol=1e-6
    )
    with pytest.raises(SignatureError):
        packed.predict({"text": [None]})
