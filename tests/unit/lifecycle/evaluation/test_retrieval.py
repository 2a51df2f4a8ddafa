"""Vectors that search: by labels, by queries, and ties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.encoders import tiny
from helpers.evaluated import checked

import modelkit as mk
from modelkit.errors import UsageError


def test_vectors_find_what_has_their_label():
    encoder = tiny()
    texts = ["river", "the river", "music", "music of", "coffee"]
    found = checked(mk.evaluate(encoder, texts, ["water", "water", "sound", "sound", "alone"]))
    assert (found.kind, found.rows) == ("retrieval", 4)
    assert found.notes[0].startswith("1 texts are the only ones of their label")
    vectors = encoder.embed(texts)
    near = vectors @ vectors.T - 2 * np.eye(5)
    ranks = [1 + int((near[row] > near[row, pair]).sum()) for row, pair in enumerate((1, 0, 3, 2))]
    assert found["mean_reciprocal_rank"].value == pytest.approx(np.mean(1 / np.array(ranks)))
    assert found["recall@1"].value == pytest.approx(np.mean(np.array(ranks) == 1))
    assert found["hit@5"].value == 1
    with pytest.raises(UsageError, match="nothing is to be found"):
        mk.evaluate(encoder, texts, list("abcde"))
    with pytest.raises(UsageError, match="has 6 values, and there are 5 rows"):
        mk.evaluate(encoder, texts, list("aabba"), slices={"half": np.arange(6) % 2})
    with pytest.raises(UsageError, match="leave out train="):
        mk.evaluate(encoder, texts, list("aabbc"), train=(texts, list("aabbc")))


def test_queries_find_rows_of_a_corpus():
    encoder = tiny(roles={"query": "query: ", "text": "text: "})
    corpus = ["the river", "green music", "winter coffee", "a museum", "the engine"]
    found = checked(
        mk.evaluate(
            encoder, ["river", "museum"], [0, [3, 4]], corpus=corpus, roles=("query", "text")
        )
    )
    near = encoder.embed(["river", "museum"], role="query") @ encoder.embed(corpus, role="text").T
    ranks = np.argsort(np.argsort(-near, axis=1), axis=1) + 1
    best = [ranks[0, 0], ranks[1, [3, 4]].min()]
    assert found["mean_reciprocal_rank"].value == pytest.approx(np.mean(1 / np.array(best)))
    assert found["recall@5"].value == 1
    with pytest.raises(UsageError, match=r"y\[1\] is 5"):
        mk.evaluate(encoder, ["river", "museum"], [0, 5], corpus=corpus)
    with pytest.raises(UsageError, match="y has 1 rows, and X 2"):
        mk.evaluate(encoder, ["river", "museum"], [0], corpus=corpus)


def test_texts_may_be_a_column_of_a_table():
    frame = pd.DataFrame({"text": ["river", "the river", "music", "music of"], "who": list("aabb")})
    found = mk.evaluate(tiny(), frame, list("xxyy"), clusters="who", slices=["who"])
    alone = mk.evaluate(tiny(), frame["text"], list("xxyy"))
    assert found.independent == 2
    assert [part.rows for part in found.slices] == [2, 2]
    assert found["mean_reciprocal_rank"].value == alone["mean_reciprocal_rank"].value


def test_vectors_of_any_model_search_and_ties_count_half():
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 2)),),
        (mk.TensorSpec("embedding", "float64", ("batch", 2)),),
    )
    model = mk.FunctionModel(lambda feeds: {"embedding": feeds["X"]}, signature)
    corpus = np.array([[1.0, 0], [0, 1], [1, 0], [2, 0]])
    found = mk.evaluate(
        model, np.array([[3.0, 0], [0, 5]]), [[0], [1]], corpus=corpus, kind="retrieval"
    )
    # Three rows are as close as the first one's, which stands in their middle.
    assert found["mean_reciprocal_rank"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found["recall@1"].value == 0.5
    with pytest.raises(UsageError, match="only an encoder of texts has roles"):
        mk.evaluate(model, corpus, list("abab"), roles=("query", None))
