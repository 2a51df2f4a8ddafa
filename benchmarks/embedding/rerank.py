"""Reranking 64 texts: modelkit beside plain scripts, fastembed and sentence-transformers, on the same weights.

.venv-bench-embedding/bin/python -m benchmarks.embedding.rerank            some ten minutes
.venv-bench-embedding/bin/python -m benchmarks.embedding.rerank --write    and keep the table

README.md beside this file says what the table means.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}

import numpy as np
from benchmarks.common.cases import FOLDER
from benchmarks.common.measure import CORES, bare, command, table
from benchmarks.embedding.texts import paragraphs
from tokenizers import Tokenizer

import modelkit as mk

LIBRARIES = ("numpy", "onnxruntime", "tokenizers", "fastembed")
TORCH = Path(sys.prefix + "-torch") / "bin" / "python"
QUERIES, TEXTS, MOST_TOKENS, ROUNDS = 3, 64, 512, 5
SCRIPT = Path(__file__).with_name("cross_encoder.py")


@cache
def folder() -> Path:
    """The cross-encoder."""
    path = FOLDER / "cross-encoder"
    if not path.exists():
        path.mkdir()
        subprocess.run([TORCH, SCRIPT, "build", path], check=True, capture_output=True)
    return path


def requests() -> list[tuple[str, list[str]]]:
    """A few queries, the beginnings of paragraphs, and 64 other paragraphs for each."""
    found = paragraphs(QUERIES * (TEXTS + 1))
    size = TEXTS + 1
    return [
        (" ".join(found[at].split()[:8]), found[at + 1 : at + size])
        for at in range(0, QUERIES * size, size)
    ]


class Script:
    """What one writes by hand: tokenize pairs, run, take the sigmoid."""

    def __init__(self, threads: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
        self.tokenizer.enable_truncation(MOST_TOKENS)
        self.session = bare(folder() / "onnx" / "model.onnx", threads)

    def one_by_one(self, query: str, texts: list[str]) -> np.ndarray:
        return np.concatenate([self.batch(query, [text]) for text in texts])

    def batch(self, query: str, texts: list[str]) -> np.ndarray:
        if len(texts) > 1:
            self.tokenizer.enable_padding()
        else:
            self.tokenizer.no_padding()
        rows = self.tokenizer.encode_batch([(query, text) for text in texts])
        feeds = {
            "input_ids": np.array([row.ids for row in rows], np.int64),
            "attention_mask": np.array([row.attention_mask for row in rows], np.int64),
            "token_type_ids": np.array([row.type_ids for row in rows], np.int64),
        }
        (logits,) = self.session.run(["logits"], feeds)
        return 1 / (1 + np.exp(-logits[:, 0]))


def fastembed(threads: int | None, size: int):
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    if "pairs" not in {model["model"] for model in TextCrossEncoder.list_supported_models()}:
        TextCrossEncoder.add_custom_model("pairs", sources=ModelSource(hf="pairs"))
    model = TextCrossEncoder("pairs", specific_model_path=str(folder()), threads=threads)

    def scores(query: str, texts: list[str]) -> np.ndarray:
        return 1 / (1 + np.exp(-np.array(list(model.rerank(query, texts, batch_size=size)))))

    return scores


def by_torch(size: int) -> tuple[float, list[np.ndarray]]:
    """The median seconds of sentence-transformers for a request, and its scores."""
    pairs = [[(query, text) for text in texts] for query, texts in requests()]
    done = subprocess.run(
        [TORCH, SCRIPT, "score", folder()],
        input=json.dumps([size, pairs]),
        check=True,
        capture_output=True,
        text=True,
    )
    theirs = json.loads(done.stdout.splitlines()[-1])
    return theirs["seconds"], [np.array(scores) for scores in theirs["scores"]]


def rerank() -> str:
    """64 texts for a query, milliseconds"""
    package = FOLDER / "pairs.mk"
    mk.save(mk.Reranker.from_directory(folder()), package, name="pairs")
    reranker = mk.load(package)
    scripts = {threads: Script(threads) for threads in (1, CORES)}
    mine = "modelkit, predict"
    calls = {
        mine: lambda query, texts: reranker.predict({"query": [query] * len(texts), "text": texts}),
        "one pair at a time, 1 thread": scripts[1].one_by_one,
        f"one pair at a time, {CORES} threads": scripts[CORES].one_by_one,
        f"one padded batch, {CORES} threads": scripts[CORES].batch,
        "fastembed, batch_size 64 (its default)": fastembed(None, 64),
        "fastembed, batch_size 1": fastembed(None, 1),
        "fastembed, batch_size 8": fastembed(None, 8),
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    found: dict[str, list[np.ndarray]] = {name: [] for name in calls}
    for query, texts in requests():
        for call in calls.values():
            call(query, texts[:8])
        for _ in range(ROUNDS):
            for name, call in calls.items():
                start = time.perf_counter()
                call(query, texts)
                spent[name].append(time.perf_counter() - start)
                time.sleep(0.1)  # the workers of a default session spin for a while
        for name, call in calls.items():
            found[name].append(call(query, texts))
    times = {name: statistics.median(seconds) for name, seconds in spent.items()}
    for size, note in ((32, " (its default)"), (8, ""), (1, "")):
        name = f"sentence-transformers, torch, batch_size {size}{note}"
        times[name], found[name] = by_torch(size)
    ours = np.concatenate(found[mine])
    lines = []
    for name, seconds in times.items():
        gap = np.abs(np.concatenate(found[name]) - ours).max()
        cells = [f"{seconds * 1e3:.0f}", f"{seconds / times[mine]:.2f}", f"{gap:.1e}"]
        lines.append([name, *cells])
    return table("| ms | modelkit is faster by | largest difference of scores", lines)


if __name__ == "__main__":
    command(__doc__, {"rerank": rerank}, LIBRARIES, "rerank")
