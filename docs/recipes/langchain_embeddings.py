"""An encoder as LangChain's `Embeddings`. Needs `pip install langchain-core`.

embeddings = EncoderEmbeddings(mk.load("minilm.mk"))
store = InMemoryVectorStore(embeddings)

Around a Batcher, the `a...` methods of many tasks share their runs.
"""

from langchain_core.embeddings import Embeddings

import modelkit as mk


class EncoderEmbeddings(Embeddings):
    """The vectors of a TextEncoder, or of what wraps one.

    `query` and `passage` are roles of the encoder, None for texts as they are.
    """

    def __init__(self, model, *, query=None, passage=None):
        self.model, self.query, self.passage = model, query, passage

    def embed_documents(self, texts):
        return mk.embed(self.model, texts, role=self.passage).tolist()

    def embed_query(self, text):
        return mk.embed(self.model, [text], role=self.query)[0].tolist()

    async def aembed_documents(self, texts):
        return await self._ask(texts, self.passage)

    async def aembed_query(self, text):
        (vector,) = await self._ask([text], self.query)
        return vector

    async def _ask(self, texts, role):
        prefix = self.model.base.recipe.prefix(role)
        return (await self.model.apredict([prefix + text for text in texts])).tolist()
