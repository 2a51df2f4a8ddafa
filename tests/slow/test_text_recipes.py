"""The recipes for text encoders in other frameworks and indexes; each needs what `make test-engines` installs."""

import asyncio
import runpy

import numpy as np
import pytest
from helpers.places import ROOT

import modelkit as mk

RECIPES = ROOT / "docs" / "recipes"
TEXTS = [
    "solve a system of linear equations",
    "draw numbers at random",
    "remove blanks at both ends of a string",
    "Fourier transform of a signal",
    "",
]
QUERY = "strip whitespace"
NEAREST = TEXTS[2]
KINDS = [("usearch", "usearch"), ("faiss", "faiss"), ("sqlite", "sqlite_vec")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from helpers.encoders import unpack_minilm

    folder = tmp_path_factory.mktemp("encoder") / "minilm"
    unpack_minilm(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    roles = {"query": "query: ", "passage": "passage: "}
    with mk.TextEncoder.from_directory(folder, roles=roles) as found:
        yield found


@pytest.fixture(scope="module")
def package(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "minilm.mk"
    mk.save(encoder, path, name="minilm", version="1.0.0")
    return path


def recipe(name):
    return runpy.run_path(str(RECIPES / f"{name}.py"))


def test_langchain(encoder):
    pytest.importorskip("langchain_core")
    from langchain_core.vectorstores import InMemoryVectorStore

    make = recipe("langchain_embeddings")["EncoderEmbeddings"]
    embeddings = make(encoder, query="query", passage="passage")
    query = encoder.embed([QUERY], role="query")[0]
    passages = encoder.embed(TEXTS, role="passage")
    assert np.array_equal(embeddings.embed_query(QUERY), query)
    assert np.array_equal(embeddings.embed_documents(TEXTS), passages)
    assert np.array_equal(asyncio.run(embeddings.aembed_query(QUERY)), query)
    assert np.array_equal(asyncio.run(embeddings.aembed_documents(TEXTS)), passages)
    store = InMemoryVectorStore(embeddings)
    store.add_texts(TEXTS)
    assert store.similarity_search(QUERY, k=1)[0].page_content == NEAREST

    async def search():
        with mk.Batcher(encoder) as batcher:
            around = InMemoryVectorStore(make(batcher))
            await around.aadd_texts(TEXTS)
            return await around.asimilarity_search(QUERY, k=1)

    assert asyncio.run(search())[0].page_content == NEAREST


def test_llama_index(encoder):
    pytest.importorskip("llama_index.core")
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    make = recipe("llama_index_embeddings")["EncoderEmbedding"]
    embedding = make(encoder, query="query", passage="passage")
    query = encoder.embed([QUERY], role="query")[0]
    passages = encoder.embed(TEXTS, role="passage")
    assert np.array_equal(embedding.get_query_embedding(QUERY), query)
    assert np.array_equal(asyncio.run(embedding.aget_query_embedding(QUERY)), query)
    assert np.array_equal(embedding.get_text_embedding_batch(TEXTS), passages)
    with mk.Meter(encoder) as meter:
        many = make(meter, passage="passage").aget_text_embedding_batch(TEXTS)
        assert np.array_equal(asyncio.run(many), passages)
        assert meter.totals().calls["ok"] == 1
    assert np.array_equal(
        asyncio.run(embedding.aget_text_embedding(TEXTS[0])),
        encoder.embed(TEXTS[:1], role="passage")[0],
    )
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS[:4]], embed_model=embedding)
    (found,) = index.as_retriever(similarity_top_k=1).retrieve(QUERY)
    assert found.text == NEAREST


def test_haystack(package, encoder, monkeypatch):
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    pytest.importorskip("haystack")
    monkeypatch.syspath_prepend(RECIPES)
    from haystack import Document, Pipeline
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from haystack_embedders import DocumentEmbedder, TextEmbedder

    documents = [Document(content=text) for text in TEXTS]
    embedded = DocumentEmbedder(str(package), role="passage").run(documents)["documents"]
    assert all(document.embedding is None for document in documents)
    assert np.array_equal(
        [document.embedding for document in embedded], encoder.embed(TEXTS, role="passage")
    )
    store = InMemoryDocumentStore()
    store.write_documents(embedded)
    pipeline = Pipeline()
    pipeline.add_component("embedder", TextEmbedder(str(package), role="query"))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["haystack_embedders"])
    for each in (pipeline, again):
        (found,) = each.run({"embedder": {"text": QUERY}})["retriever"]["documents"]
        assert found.content == NEAREST


def nearest(kind, opened, encoder, its):
    if kind == "usearch":
        return TEXTS[int(opened.search(encoder.embed([QUERY])[0], 1).keys[0])]
    if kind == "faiss":
        return TEXTS[opened.search(encoder.embed([QUERY]), 1)[1][0, 0]]
    return its["nearest_sqlite"](opened, encoder, QUERY, 1)[0][0]


@pytest.mark.parametrize(("kind", "module"), KINDS)
def test_an_index_refuses_the_vectors_of_another_encoder(
    kind, module, encoder, folder, package, tmp_path
):
    pytest.importorskip(module)
    its = recipe("vector_indexes")
    path = tmp_path / kind
    its[f"save_{kind}"](path, encoder, TEXTS)
    opened = its[f"open_{kind}"](path, encoder)
    assert nearest(kind, opened, encoder, its) == NEAREST
    assert nearest(kind, its[f"open_{kind}"](path, mk.load(package)), encoder, its) == NEAREST
    with mk.TextEncoder.from_directory(folder, pooling="cls") as other:
        assert other.embed(["a"]).shape == encoder.embed(["a"]).shape
        with pytest.raises(ValueError, match="embed the texts again"):
            its[f"open_{kind}"](path, other)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(Exception, match=r"malformed|changed or damaged"):
        its[f"open_{kind}"](path, encoder)
    with pytest.raises(FileNotFoundError):
        its[f"open_{kind}"](tmp_path / "missing", encoder)
    assert not (tmp_path / "missing").exists()


def test_usearch_keeps_the_vectors_as_they_are(encoder, tmp_path):
    pytest.importorskip("usearch")
    its = recipe("vector_indexes")
    its["save_usearch"](tmp_path / "index", encoder, iter(TEXTS))
    index = its["open_usearch"](tmp_path / "index", encoder)
    assert np.array_equal(index.get(np.arange(len(TEXTS))), encoder.embed(TEXTS))


def test_an_index_with_a_byte_changed_is_refused(encoder, tmp_path):
    its = recipe("vector_indexes")
    path = tmp_path / "index"
    its["write"](path, encoder, b"vectors")
    assert its["read"](path, encoder) == b"vectors"
    raw = path.read_bytes()
    for at in (len(raw) - 1, len(raw) - 20):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(ValueError, match="changed or damaged"):
            its["read"](path, encoder)
