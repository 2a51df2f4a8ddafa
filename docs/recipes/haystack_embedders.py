"""An encoder as the two embedders of a Haystack pipeline. Needs `pip install haystack-ai`.

The embedders take a path, and load the package in `warm_up`, so that a pipeline can be written to YAML and read
again, by `Pipeline.loads(text, allowed_modules=["haystack_embedders"])`.
"""

from dataclasses import replace

from haystack import Document, component

import modelkit as mk


class _Embedder:
    def __init__(self, package: str, role: str | None = None):
        self.package, self.role = package, role
        self._encoder = None

    def warm_up(self):
        if self._encoder is None:
            self._encoder = mk.load(self.package)

    def _embed(self, texts):
        self.warm_up()
        return self._encoder.embed(texts, role=self.role).tolist()


@component
class TextEmbedder(_Embedder):
    """The vector of a question."""

    @component.output_types(embedding=list[float])
    def run(self, text: str):
        return {"embedding": self._embed([text])[0]}


@component
class DocumentEmbedder(_Embedder):
    """The vectors of documents, which are copied."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]):
        vectors = self._embed([document.content or "" for document in documents])
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}
