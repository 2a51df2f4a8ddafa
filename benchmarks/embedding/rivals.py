"""fastembed and sentence-transformers on the same texts; run as a script, one of them as a child.

    python embedding_rivals.py LIBRARY FOLDER OPTIONS < texts.json

prints one line of JSON: seconds, MiB that the process grew by at most, and the vectors of the first
64 texts.
"""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NAME = "minilm"


def fastembed(
    folder: str, threads: int | None = None, **options: Any
) -> Callable[[list[str]], np.ndarray]:
    """Vectors by fastembed; `options` are those of its `embed`."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    if NAME not in {model["model"] for model in TextEmbedding.list_supported_models()}:
        TextEmbedding.add_custom_model(
            model=NAME,
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(hf=NAME),
            dim=384,
            model_file="model.onnx",
        )
    model = TextEmbedding(NAME, specific_model_path=folder, threads=threads)
    return lambda texts: np.array(list(model.embed(texts, **options)))


def sentence_transformers(
    folder: str, threads: int | None = None, **options: Any
) -> Callable[[list[str]], np.ndarray]:
    """Vectors by sentence-transformers, from the original weights with torch; `options` are those of its `encode`."""
    import torch
    from sentence_transformers import SentenceTransformer

    if threads is not None:
        torch.set_num_threads(threads)
    model = SentenceTransformer(folder, device="cpu")
    return lambda texts: model.encode(
        texts, normalize_embeddings=True, show_progress_bar=False, **options
    )


LIBRARIES = {"fastembed": fastembed, "sentence_transformers": sentence_transformers}


def ask(
    python: str | Path, library: str, folder: Path, texts: list[str], **options: Any
) -> dict[str, Any]:
    """What a process of its own found; no end to it, where the system ended it for want of memory."""
    command = [
        str(python),
        "-m",
        "benchmarks.embedding.rivals",
        library,
        str(folder),
        json.dumps(options),
    ]
    done = subprocess.run(
        command, input=json.dumps(texts), check=False, capture_output=True, text=True
    )
    if done.returncode == -signal.SIGKILL:
        return {"seconds": math.inf, "grown": math.inf}
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def peak() -> float:
    """The most resident memory since it was last forgotten, MiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main(library: str, folder: str, options: str) -> None:
    texts = json.load(sys.stdin)
    embed = LIBRARIES[library](folder, **json.loads(options))
    embed(texts[:2])
    forget_peak()
    before, start = peak(), time.perf_counter()
    vectors = embed(texts)
    found = {
        "seconds": time.perf_counter() - start,
        "grown": peak() - before,
        "vectors": vectors[:64].tolist(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
