"""Texts ranked for a query as clients of TEI and Cohere ask for it, from an App in this process."""

import numpy as np
import pytest
from helpers.client import Client
from helpers.encoders import tiny, tiny_pair_graph, tiny_reranker

import modelkit as mk
from modelkit.types import Limits
from modelkit.web.texts import read

QUERY = "the river"
TEXTS = ["green winter coffee", "the river of music", "", "a museum", "the river"]
TEI = "/rerank"
COHERE = "/v2/rerank"


@pytest.fixture(scope="module")
def model():
    return tiny_reranker()


@pytest.fixture
def client(model):
    with Client(mk.App({"ranks": model, "tiny": tiny()})) as client:
        yield client


def test_tei_gets_places_and_scores_the_best_first(client, model):
    answer = client.post(TEI, json={"query": QUERY, "texts": TEXTS})
    assert answer.status == 200, answer.body
    ranked = model.rank(QUERY, TEXTS)
    assert [each["index"] for each in answer.json()] == [each.index for each in ranked]
    scores = np.array([each["score"] for each in answer.json()], np.float32)
    np.testing.assert_array_equal(scores, np.array([each.score for each in ranked], np.float32))
    assert all(each.keys() == {"index", "score"} for each in answer.json())


def test_tei_may_have_the_texts_too(client):
    asked = {"query": QUERY, "texts": TEXTS, "return_text": True, "truncate": True}
    answer = client.post(TEI, json={**asked, "raw_scores": False, "truncation_direction": "Right"})
    assert [each["text"] for each in answer.json()] == [
        TEXTS[each["index"]] for each in answer.json()
    ]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_cohere_gets_results(client, model, path):
    asked = {"model": "ranks", "query": QUERY, "documents": TEXTS, "top_n": 2}
    answer = client.post(path, json=asked).json()
    assert answer["model"] == "ranks"
    ranked = model.rank(QUERY, TEXTS, top=2)
    assert [each["index"] for each in answer["results"]] == [each.index for each in ranked]
    for each, same in zip(answer["results"], ranked, strict=True):
        assert each.keys() == {"index", "relevance_score"}
        assert np.float32(each["relevance_score"]) == np.float32(same.score)
    shown = client.post(path, json={**asked, "return_documents": True}).json()["results"]
    assert [each["document"] for each in shown] == [
        {"text": TEXTS[each["index"]]} for each in shown
    ]


def test_an_object_of_cohere_is_ranked_by_its_text_and_comes_back_whole(client, model):
    documents = [{"text": text, "page": at} for at, text in enumerate(TEXTS)]
    documents[1] = TEXTS[1]
    asked = {"query": QUERY, "documents": documents, "rank_fields": ["text"]}
    results = client.post("/v1/rerank", json={**asked, "return_documents": True}).json()["results"]
    assert [each["index"] for each in results] == [each.index for each in model.rank(QUERY, TEXTS)]
    documents[1] = {"text": TEXTS[1]}
    assert [each["document"] for each in results] == [documents[each["index"]] for each in results]


@pytest.mark.parametrize(
    "asked",
    [
        # what clients of Cohere, and LangChain and Haystack by them, send by themselves
        {"rank_fields": None, "max_chunks_per_doc": None, "max_tokens_per_doc": None},
        {"max_chunks_per_doc": 10, "max_tokens_per_doc": 4096},
        {"max_tokens_per_doc": 16},
    ],
)
def test_limits_that_the_model_keeps_anyway_change_nothing(client, asked):
    plain = {"query": QUERY, "documents": [*TEXTS, "river " * 40]}
    found = client.post(COHERE, json={**plain, **asked})
    assert (found.status, found.body) == (200, client.post(COHERE, json=plain).body)


@pytest.mark.parametrize(("given", "priority"), [(None, 0), (0, 0), (1, -1), (999, -1)])
def test_the_first_priority_of_cohere_goes_before_all_others(model, given, priority):
    asked = {"query": QUERY, "documents": TEXTS, "priority": given}
    assert read(asked, "rerank", model, Limits()).priority == priority
    with Client(mk.App({"ranks": mk.Batcher(model)})) as client:
        answer = client.post(COHERE, json=asked)
    assert (answer.status, len(answer.json()["results"])) == (200, len(TEXTS))


def test_a_query_keeps_the_nul_at_its_end(client, model):
    answer = client.post(TEI, json={"query": "river\0", "texts": TEXTS})
    found = {each["index"]: np.float32(each["score"]) for each in answer.json()}
    assert found == {each.index: each.score for each in model.rank("river\0", TEXTS)}
    assert found != {each.index: each.score for each in model.rank("river", TEXTS)}


def test_scores_are_from_0_to_1_unless_raw_ones_are_asked_for(model):
    raw = tiny_reranker(activation="none")
    logits = raw.predict({"query": [QUERY] * len(TEXTS), "text": TEXTS})
    with Client(mk.App({"raw": raw})) as client:
        asked = {"query": QUERY, "texts": TEXTS}
        plain = {each["index"]: each["score"] for each in client.post(TEI, json=asked).json()}
        found = client.post(TEI, json={**asked, "raw_scores": True}).json()
        for each in found:
            assert np.float32(each["score"]) == logits[each["index"]]
            assert plain[each["index"]] == pytest.approx(1 / (1 + np.exp(-each["score"])), rel=1e-5)
        cohere = client.post(COHERE, json={"query": QUERY, "documents": TEXTS}).json()["results"]
        assert {each["index"]: each["relevance_score"] for each in cohere} == plain
    with Client(mk.App({"ranks": model})) as client:
        answer = client.post(TEI, json={**asked, "raw_scores": True})
        assert (answer.status, 'activation="none"' in answer.json()["error"]) == (400, True)


BAD = [
    ({"texts": TEXTS}, 400, "query is null"),
    ({"query": "", "texts": []}, 400, "texts is a list"),
    ({"query": "a"}, 400, "texts is null"),
    ({"query": "a", "documents": []}, 400, "documents is a list"),
    ({"query": "a", "documents": [{"title": "b"}]}, 400, "documents[0] is an object"),
    ({"query": "a", "documents": [{"text": None}]}, 400, "documents[0] is null"),
    ({"query": "a", "documents": ["b"], "rank_fields": ["title"]}, 400, "rank_fields is a list"),
    ({"query": "a", "documents": ["b"], "max_chunks_per_doc": 0}, 400, "max_chunks_per_doc is 0"),
    ({"query": "a", "documents": ["b"], "max_tokens_per_doc": 1.5}, 400, "max_tokens_per_doc is"),
    ({"query": "a", "documents": ["b"], "max_tokens_per_doc": 4}, 400, "max_tokens_per_doc is 4"),
    ({"query": ["a"], "texts": ["b"]}, 400, "query is a list"),
    ({"query": 5, "texts": ["b"]}, 400, "query is 5"),
    ({"query": "a", "texts": ["b", None]}, 400, "texts[1] is null"),
    ({"query": "a", "documents": ["b"], "top_n": 0}, 400, "top_n is 0"),
    ({"query": "a", "documents": ["b"], "top_n": True}, 400, "top_n is true"),
    ({"query": "a", "documents": ["b"], "top_n": 1.0}, 400, "top_n is 1.0"),
    (
        {"query": "a", "documents": ["b"], "priority": -1},
        400,
        "priority is -1 (a number); send an integer from 0",
    ),
    ({"query": "a", "documents": ["b"], "priority": False}, 400, "priority is false"),
    ({"query": "a", "texts": ["b"], "priority": 0}, 400, 'no field "priority"'),
    ({"query": "a", "texts": [{"text": "b"}]}, 400, "texts[0] is an object"),
    ({"query": "a", "texts": ["b"], "documents": ["c"]}, 400, 'no field "texts"'),
    ({"query": "a", "texts": ["b"], "rank_fields": ["c"]}, 400, 'no field "rank_fields"'),
    ({"query": "a", "texts": ["b"], "return_text": "yes"}, 400, "return_text is"),
    ({"query": "a", "texts": ["b"], "model": "tiny"}, 400, "another kind of model"),
    ({"query": "a", "texts": ["b"], "model": "rerank-v3.5"}, 404, "rerank-v3.5"),
    ({"query": "a", "texts": ["b"] * 6}, 413, "6 rows"),
    ({"query": "a" * 300, "texts": ["b"]}, 413, "300 letters"),
    ({"query": "river " * 40, "texts": ["b"], "truncate": False}, 422, "more than the 16 tokens"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD, ids=lambda each: str(each)[:40])
@pytest.mark.parametrize("path", [TEI, COHERE])
def test_what_is_no_request_is_refused_in_the_form_of_both(model, path, body, status, words):
    """TEI's clients read `error`, and Cohere's `message`."""
    limits = Limits(rows=5, letters=290)
    with Client(mk.App({"ranks": model, "tiny": tiny()}, limits=limits)) as client:
        answer = client.post(path, json=body)
    assert answer.status == status, answer.body
    assert words in answer.json()["error"]
    assert answer.json()["message"] == answer.json()["error"]


def test_a_model_that_ranks_embeds_nothing(client):
    answer = client.post("/v1/embeddings", json={"input": "a", "model": "ranks"})
    assert answer.status == 400
    assert "another kind of model" in answer.json()["error"]["message"]
    assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["ranks", "tiny"]


def test_a_model_with_several_scores_a_pair_ranks_nothing():
    with Client(mk.App({"several": tiny_reranker(tiny_pair_graph(3))})) as client:
        answer = client.post(TEI, json={"query": QUERY, "texts": TEXTS})
        assert (answer.status, "3 scores" in answer.json()["error"]) == (400, True)


def test_pairs_of_several_clients_share_runs(model):
    with mk.Batcher(model, plan="learn") as batcher, Client(mk.App({"ranks": batcher})) as client:
        asked = {"query": QUERY, "texts": TEXTS}
        answers = client.concurrently([{"method": "POST", "path": TEI, "json": asked}] * 8)
        assert {answer.body for answer in answers} == {client.post(TEI, json=asked).body}
        assert batcher.stats().failed == 0
