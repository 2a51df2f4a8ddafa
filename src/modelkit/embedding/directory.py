"""Read a folder in the layout of sentence-transformers: what its files say of tokenizer, pooling and prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelkit.errors import SignatureError

FILES = ("onnx/model.onnx", "model.onnx")
POOLINGS = {  # as files say it by a flag, and by one word
    "pooling_mode_mean_tokens": "mean", "mean": "mean",
    "pooling_mode_cls_token": "cls", "cls": "cls",
    "pooling_mode_lasttoken": "last", "lasttoken": "last",
    "pooling_mode_max_tokens": "max", "max": "max",
}  # fmt: skip
MODULES = ("Transformer", "Pooling", "Normalize")


def read(folder: Any, file: str | None) -> tuple[Path, Path, dict[str, Any]]:
    """The paths of the graph and the tokenizer, and what `TextEncoder` must be given.

    Raises SignatureError for modules or poolings that are not known, and FileNotFoundError.
    """
    root = Path(folder)
    modules = {str(entry["type"]).rpartition(".")[2]: root / entry["path"] for entry in _json(root / "modules.json")}
    unknown = [name for name in modules if name not in MODULES]
    if unknown or "Pooling" not in modules:
        raise SignatureError(f"{root} has the modules {list(modules)}; an encoder has some of {list(MODULES)}")
    config = _json(modules["Pooling"] / "config.json")
    found = {"pooling": _pooling(config, root), "normalize": "Normalize" in modules}
    bert, prompts = root / "sentence_bert_config.json", root / "config_sentence_transformers.json"
    most = _json(bert).get("max_seq_length") if bert.exists() else None
    roles = _json(prompts).get("prompts") if prompts.exists() else None
    if most is not None:
        found["max_tokens"] = most
    if roles and config.get("include_prompt") is False:
        raise SignatureError(f"{root} does not pool the tokens of its prompts (include_prompt); an encoder does")
    if roles:
        found["roles"] = roles
    return root / (file or _only(root)), root / "tokenizer.json", found


def _pooling(config: dict[str, Any], root: Path) -> str:
    on = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    on = on or [str(config.get("pooling_mode"))]
    if len(on) != 1 or on[0] not in POOLINGS:
        raise SignatureError(f"{root} pools by {on}; an encoder pools by one of {list(POOLINGS)}")
    return POOLINGS[on[0]]


def _only(root: Path) -> str:
    usual = [name for name in FILES if (root / name).exists()]
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*.onnx"))
    if not usual and len(found) != 1:
        raise FileNotFoundError(f"{root} holds {len(found)} ONNX files {found}; name one by file=")
    return (usual or found)[0]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
