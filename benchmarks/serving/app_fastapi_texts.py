"""What a team writes for embeddings without a serving framework: FastAPI, pydantic, a tokenizer and a session.

The VARIANT of the environment says who runs a call: "async" the event loop, with a session at its defaults, or
"threads" a thread of FastAPI's, with a session of one thread, so two calls run at once on two cores.
"""

import base64
import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

THREADS = os.environ["VARIANT"] == "threads"
MOST_TOKENS = 256
options = ort.SessionOptions()
if THREADS:
    options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["TEXT_GRAPH"], options)
tokenizer = Tokenizer.from_file(os.environ["TOKENIZER"])
tokenizer.enable_padding()
tokenizer.enable_truncation(MOST_TOKENS)
app = FastAPI()


class Asked(BaseModel):
    input: str | list[str]
    model: str
    encoding_format: str = "float"


def embed(texts: list[str]) -> tuple[np.ndarray, int]:
    found = tokenizer.encode_batch(texts)
    ids = np.array([one.ids for one in found], np.int64)
    mask = np.array([one.attention_mask for one in found], np.int64)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(None, feeds)
    pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True), int(mask.sum())


def answer(asked: Asked) -> dict:
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    vectors, tokens = embed(texts)
    data = []
    for index, vector in enumerate(vectors.astype("<f4")):
        in_bytes = asked.encoding_format == "base64"
        value = base64.b64encode(vector.tobytes()).decode() if in_bytes else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}


async def on_the_loop(asked: Asked) -> dict:
    return answer(asked)


app.post("/v1/embeddings")(answer if THREADS else on_the_loop)
