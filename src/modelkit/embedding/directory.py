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
OPTIONAL = ("sentence_bert_config.json", "config_sentence_transformers.json")
MODULES = ("Transformer", "Pooling", "Normalize")
PACKAGE = "sentence_transformers."


def read(folder: Any, file: str | None) -> tuple[Path, Path, dict[str, Any]]:
    """The paths of the graph and the tokenizer, and what `TextEncoder` must be given.

    Raises SignatureError for modules or poolings that are not known, and FileNotFoundError.
    """
    root = Path(folder)
    entries = _json(root / "modules.json", list)
    try:
        modules = [(str(entry["type"]), root / entry["path"]) for entry in entries]
    except (TypeError, KeyError) as error:
        raise SignatureError(f"{root / 'modules.json'} does not name modules: {error!r}") from error
    places = {name.rpartition(".")[2]: place for name, place in modules if name.startswith(PACKAGE)}
    if len(places) < len(modules) or not {"Pooling"} <= places.keys() <= {*MODULES}:
        names = [name for name, _ in modules]
        raise SignatureError(
            f"{root} has the modules {names}; an encoder has some of {list(MODULES)}, of {PACKAGE[:-1]}"
        )
    within = places.get("Transformer", root)
    config = _json(places["Pooling"] / "config.json")
    found = {"pooling": _pooling(config, root), "normalize": "Normalize" in places}
    bert, prompts = _json(within / OPTIONAL[0]), _json(root / OPTIONAL[1])
    if bert.get("do_lower_case"):
        raise SignatureError(f"{root} wants texts in lower case, which an encoder leaves to its tokenizer")
    if bert.get("max_seq_length"):
        found["max_tokens"] = bert["max_seq_length"]
    if prompts.get("prompts"):
        if config.get("include_prompt") is False:
            raise SignatureError(f"{root} does not pool the tokens of its prompts (include_prompt); an encoder does")
        found["roles"] = prompts["prompts"]
    beside = [place / "tokenizer.json" for place in (within, root)]
    tokenizer = next((path for path in beside if path.exists()), beside[-1])
    return root / (file or _only(root)), tokenizer, found


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


def _json(path: Path, kind: type = dict) -> Any:
    """What a file says; nothing, where it is one of those that may be absent. Raises SignatureError."""
    if path.name in OPTIONAL and not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SignatureError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, kind):
        raise SignatureError(f"{path} holds a {type(found).__name__} where a {kind.__name__} is expected")
    return found
