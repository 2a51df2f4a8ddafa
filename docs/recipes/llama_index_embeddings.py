"""An encoder as LlamaIndex's `BaseEmbedding`. Needs `pip install llama-index-core`.

Settings.embed_model = EncoderEmbedding(mk.load("minilm.mk"))
"""

import asyncio

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

import modelkit as mk


class EncoderEmbedding(BaseEmbedding):
    """The vectors of a TextEncoder, or of what wraps one.

    `query` and `passage` are roles of the encoder, None for texts as they are. LlamaIndex passes `embed_batch_size`
    texts at a time; the encoder sorts them by length, so many at a time are the fastest.
    """

    embed_batch_size: int = 512
    query: str | None = None
    passage: str | None = None
    _model: mk.Model = PrivateAttr()

    def __init__(self, model, **options):
        super().__init__(model_name=model.base.identity, **options)
        self._model = model

    def _get_text_embeddings(self, texts):
        return mk.embed(self._model, texts, role=self.passage).tolist()

    def _get_text_embedding(self, text):
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query):
        return mk.embed(self._model, [query], role=self.query)[0].tolist()

    async def _aget_query_embedding(self, query):
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text):
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts):  # by default, each text is a call of its own
        return await asyncio.to_thread(self._get_text_embeddings, texts)
