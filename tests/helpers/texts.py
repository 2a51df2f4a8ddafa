"""Texts, and models of them that are saved and compared with their source."""

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import modelkit as mk
from modelkit.convert.parity.strange import texts_of_terms

TEXTS = [
    "a fine film",
    "not good at all",
    "straße und İzmir",
    "istanbul is good",
    "bad, bad ΠΟΛΙΣ",
    "ﬁne café 12",
] * 10
LABELS = [1, 0, 1, 1, 0, 0] * 10
THREE = [1, 0, 2, 1, 0, 2] * 10
STRANGE = [
    *texts_of_terms(CountVectorizer().fit(TEXTS).vocabulary_),
    "",
    " ",
    "\ud83d lone",
    "x" * 5000,
]


def saved(model, example, tmp_path, labels=LABELS):
    model.fit(example, labels)
    path = tmp_path / "m.mk"
    manifest = mk.save(model, path, example=example, name="m", version="1")
    return manifest, mk.load(path)


def logistic(vectorizer):
    return make_pipeline(vectorizer, LogisticRegression())


def check_same(model, loaded, texts):
    got = loaded.run({"text": texts})
    np.testing.assert_array_equal(got["label"], model.predict(texts))
    if hasattr(model, "predict_proba"):
        np.testing.assert_allclose(
            got["probabilities"], model.predict_proba(texts), rtol=0, atol=1e-12
        )


def check_options(vectorizer, tmp_path):
    """A model of this vectorizer answers as its source, on odd texts too, and finds its golden rows."""
    model = logistic(vectorizer)
    manifest, loaded = saved(model, TEXTS, tmp_path, labels=THREE)
    halves = loaded.predict({"text": [*STRANGE[:1], "\ud83d"]})  # which a hash refuses
    assert len(halves) == 2
    strange = [text for text in STRANGE if not any("\ud800" <= char <= "\udfff" for char in text)]
    check_same(model, loaded, strange)
    assert manifest.parity.text_rows > 100
    assert loaded.verify() == 0.0
    loaded.warmup()
