"""A Scorer over an encoder runs texts by their tokens, however many rows a batch has."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.encoders import run_sizes, tiny, uneven_texts
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.embedding.chunks import RunCosts

LONGEST = 502  # tokens, of 500 words between two special ones
FORMS = ("dict", "arrow", "batches", "frame")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for name, encoder in (("sizes", run_sizes()), ("vectors", tiny(max_tokens=512))):
        mk.save(encoder, folder / f"{name}.mk", name=name, version="1")
    return folder


def vectors_by(form, scorer, texts):
    """The vectors of texts, by one of the forms of a Scorer, in one batch."""
    if form == "dict":
        return scorer({"text": np.array(texts, object)})["embedding"]
    if form == "frame":
        return scorer.frame(pd.DataFrame({"text": texts})).to_numpy()
    table = pa.table({"text": texts})
    parts = [scorer.arrow(table)] if form == "arrow" else scorer.batches(table.to_batches())
    return np.array([vector for part in parts for vector in part["embedding"].to_pylist()])


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_is_not_padded_to_its_longest_text(packages, form):
    """Many rows, as Spark has them: padded to the longest they would be a million tokens."""
    texts = uneven_texts(1_990, 10)
    scorer = mk.Scorer(packages / "sizes.mk")
    sizes = vectors_by(form, scorer, texts)
    tokens = scorer.model.token_count(texts)
    assert np.array_equal(sizes[tokens == LONGEST], [[1, LONGEST]] * 10)
    assert sizes.prod(axis=1).max() <= max(RunCosts().budget, LONGEST)  # tokens of one run
    assert sizes[:, 1].sum() <= 1.05 * tokens.sum()  # of which padding is a twentieth at most


@pytest.mark.parametrize("form", FORMS)
def test_the_vectors_are_those_of_the_local_encoder(packages, form):
    texts = uneven_texts(600, 4)
    found = vectors_by(form, mk.Scorer(packages / "vectors.mk"), texts)
    local = mk.load(packages / "vectors.mk", threads=1)
    # The graph rounds by how many texts run at once.
    assert np.allclose(found, local.embed(texts), atol=1e-6)
    alone = [local.embed([text])[0] for text in texts[:20]]
    assert np.allclose(found[:20], alone, atol=1e-6)


@settings(max_examples=examples(30), deadline=None)
@given(short=st.integers(1, 300), long=st.integers(0, 5), seed=st.integers(0, 9))
def test_runs_are_bounded_by_tokens_whatever_the_texts(packages, short, long, seed):
    texts = uneven_texts(short, long, seed)
    scorer = mk.Scorer(packages / "sizes.mk")
    sizes = vectors_by("dict", scorer, texts)
    tokens = scorer.model.token_count(texts)
    assert (sizes[:, 1] >= tokens).all()
    assert sizes.prod(axis=1).max() <= max(RunCosts().budget, tokens.max())
