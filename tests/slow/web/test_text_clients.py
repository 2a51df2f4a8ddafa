"""The clients that people have ask an App for embeddings and ranks, over loopback: `make test-engines` installs them."""

import hashlib

import numpy as np
import pytest
from helpers.apps import uvicorn_of
from helpers.encoders import MOST, sentences, tiny, tiny_reranker

import modelkit as mk
from modelkit.types import Limits

KEY = "sk-modelkit"
TEXTS = sentences(9, seed=3)


@pytest.fixture(scope="module")
def model():
    return tiny(roles={"query": "query ", "document": "text "}, dims=(8, 4))


@pytest.fixture(scope="module")
def ranks():
    return tiny_reranker()


@pytest.fixture(scope="module")
def url(model, ranks):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    app = mk.App(
        {"tiny": mk.Batcher(model), "ranks": mk.Batcher(ranks)},
        auth=mk.bearer_tokens({"tests": digest}),
        limits=Limits(rows=3000),
    )
    with uvicorn_of(app) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture
def openai(url):
    openai = pytest.importorskip("openai", reason="make test-engines installs it")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def close(found, expected):
    np.testing.assert_allclose(np.array(found, np.float32), expected, rtol=1e-5, atol=1e-6)


def test_openai_asks_for_vectors(openai, model):
    """It asks for base64 where nothing is said, and makes floats of it."""
    answer = openai.embeddings.create(model="tiny", input=TEXTS)
    close([each.embedding for each in answer.data], model.embed(TEXTS))
    assert [each.index for each in answer.data] == [*range(len(TEXTS))]
    assert answer.model == "tiny"
    tokens = np.minimum(model.token_count(TEXTS), MOST)
    assert answer.usage.prompt_tokens == tokens.sum()
    assert answer.usage.total_tokens == answer.usage.prompt_tokens


def test_openai_asks_for_floats_lengths_and_roles(openai, model):
    asked = {"encoding_format": "float", "dimensions": 4, "extra_body": {"input_type": "query"}}
    answer = openai.embeddings.create(model="tiny", input=TEXTS[0], user="u-7", **asked)
    close([answer.data[0].embedding], model.embed(TEXTS[:1], role="query", dims=4))


def test_openai_lists_models(openai):
    assert [each.id for each in openai.models.list()] == ["tiny", "ranks"]
    assert openai.models.retrieve("ranks").id == "ranks"


def test_openai_raises_what_its_contract_says(openai, url):
    library = pytest.importorskip("openai")
    for asked, kind, words in (
        ({"input": []}, library.BadRequestError, "one text or more"),
        ({"input": [1, 2]}, library.BadRequestError, "numbers of tokens"),
        ({"input": "a", "dimensions": 3}, library.BadRequestError, "[8,4]"),
        ({"input": "a", "model": "ada"}, library.NotFoundError, "'ada'"),
        ({"input": ["a"] * 3001}, library.APIStatusError, "3001 rows"),
    ):
        with pytest.raises(kind) as raised:
            openai.embeddings.create(**{"model": "tiny", **asked})
        assert words.lower() in raised.value.message.lower()
        assert raised.value.type == "invalid_request_error"
    assert raised.value.status_code == 413
    stranger = library.OpenAI(base_url=f"{url}/v1", api_key="other", max_retries=0)
    with stranger, pytest.raises(library.AuthenticationError) as raised:
        stranger.embeddings.create(model="tiny", input="a")
    assert raised.value.code == "invalid_api_key"


def test_the_async_client_of_openai_asks_many_times_at_once(url, model):
    library = pytest.importorskip("openai", reason="make test-engines installs it")
    import asyncio

    async def ask():
        async with library.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
            asked = [client.embeddings.create(model="tiny", input=text) for text in TEXTS]
            return [answer.data[0].embedding for answer in await asyncio.gather(*asked)]

    close(asyncio.run(ask()), model.embed(TEXTS))


def test_hugging_face_asks_as_of_tei(url, model):
    hub = pytest.importorskip("huggingface_hub")
    client = hub.InferenceClient(f"{url}/embed", token=KEY)
    close(client.feature_extraction(TEXTS), model.embed(TEXTS))
    asked = {"prompt_name": "query", "dimensions": 4, "truncate": True, "normalize": True}
    close(
        client.feature_extraction(TEXTS[0], **asked), model.embed(TEXTS[:1], role="query", dims=4)
    )
    with pytest.raises(hub.errors.HfHubHTTPError, match="422"):
        client.feature_extraction("river " * 40, truncate=False)


@pytest.mark.parametrize("kind", ["ClientV2", "Client"])
def test_cohere_asks_for_ranks(url, ranks, kind):
    library = pytest.importorskip("cohere", reason="make test-engines installs it")
    asked = {"model": "ranks", "query": "the river", "documents": TEXTS}
    best = ranks.rank("the river", TEXTS, top=3)
    with getattr(library, kind)(KEY, base_url=url) as client:
        answer = client.rerank(**asked, top_n=3)
        assert [each.index for each in answer.results] == [each.index for each in best]
        close([each.relevance_score for each in answer.results], [each.score for each in best])
        if kind == "Client":
            shown = client.rerank(**asked, top_n=1, return_documents=True).results[0]
            assert shown.document.text == TEXTS[best[0].index]
            asked["documents"] = [{"text": text, "page": str(at)} for at, text in enumerate(TEXTS)]
            found = client.rerank(**asked, top_n=3, return_documents=True).results
            assert [each.document.page for each in found] == [str(each.index) for each in best]
        else:  # as LangChain's CohereRerank asks by default, and Haystack's CohereRanker
            for limit, priority in ((None, None), (4096, 0), (4096, 9)):
                limits = {"max_tokens_per_doc": limit, "priority": priority}
                found = client.rerank(**asked, top_n=3, **limits).results
                assert [each.index for each in found] == [each.index for each in best]


def test_cohere_raises_what_its_contract_says(url):
    library = pytest.importorskip("cohere", reason="make test-engines installs it")
    asked = {"model": "ranks", "query": "the river", "documents": TEXTS}
    with library.ClientV2(KEY, base_url=url) as client:
        for changed, kind, words in (
            ({"documents": []}, library.BadRequestError, "one text or more"),
            ({"top_n": 0}, library.BadRequestError, "top_n is 0"),
            ({"model": "rerank-v3.5"}, library.NotFoundError, "rerank-v3.5"),
        ):
            with pytest.raises(kind) as raised:
                client.rerank(**{**asked, **changed})
            assert words in raised.value.body["message"]
    with (
        library.ClientV2("other", base_url=url) as stranger,
        pytest.raises(library.UnauthorizedError),
    ):
        stranger.rerank(**asked)
