"""Read a folder in the layout of sentence-transformers: graph, tokenizer, pooling, prompts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

from modelkit.embedding.recipe import MOST_NUMBERS
from modelkit.errors import SignatureError

FILES = ("onnx/model.onnx", "model.onnx")
POOLING_NAMES = {  # as files say it by a flag, and by one word
    "pooling_mode_mean_tokens": "mean", "mean": "mean",
    "pooling_mode_cls_token": "cls", "cls": "cls",
    "pooling_mode_lasttoken": "last", "lasttoken": "last",
    "pooling_mode_max_tokens": "max", "max": "max",
}  # fmt: skip
ACTIVATION_NAMES = {"Sigmoid": "sigmoid", "Identity": "none"}
BERT = "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
LIMIT_KEYS = {"tokenizer_config.json": "model_max_length", "config.json": "max_position_embeddings"}
MODULES = ("Transformer", "Pooling", "Normalize")
PACKAGE = "sentence_transformers."


def read_folder(
    folder: Any, file: str | None, pooling: object
) -> tuple[Path, Path, dict[str, Any]]:
    """The paths of graph and tokenizer, and the other arguments of `TextEncoder`.

    `pooling` is the caller's choice, None for the folder's. Raises SignatureError for unknown
    modules or poolings, and FileNotFoundError.
    """
    root = Path(folder)
    if (root / "modules.json").exists():
        within, found = _read_modules(root)
    elif pooling is None:
        _refuse_plain(root)
    else:
        within = root
        found = {}
    most = limit_beside(within / BERT, root / BERT)
    if most is not None:
        found["max_tokens"] = most
    return root / (file or _only_graph(root)), _tokenizer_in(within, root), found


def read_reranker(folder: Any, file: str | None) -> tuple[Path, Path, dict[str, Any]]:
    """The graph, the tokenizer, and the other arguments of `Reranker`.

    Raises SignatureError for what a reranker does not do, and FileNotFoundError.
    """
    root = Path(folder)
    newest = _read_if_there(root / PROMPTS)
    config = _read_if_there(root / "config.json")
    if newest.get("default_prompt_name") is not None:
        raise SignatureError(f"{root} puts a prompt before its pairs, which a reranker does not")
    labels = config.get("num_labels", len(config.get("id2label", "01")))
    named = (  # by sentence-transformers 6, 4 and 2
        newest.get("activation_fn")
        or dict(config.get("sentence_transformers", {})).get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or ("Sigmoid" if labels == 1 else "Identity")
    )
    activation = str(named).rpartition(".")[2]
    # Another name is refused by the recipe, unless the caller chooses.
    found = {"activation": ACTIVATION_NAMES.get(activation, activation)}
    return root / (file or _only_graph(root)), _tokenizer_in(root), found


def _tokenizer_in(*folders: Path) -> Path:
    beside = [place / "tokenizer.json" for place in folders]
    tokenizer = next((path for path in beside if path.exists()), None)
    if tokenizer is None:
        raise FileNotFoundError(
            f"{folders[-1]} lacks tokenizer.json; transformers writes one by "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    return tokenizer


def _refuse_plain(root: Path) -> NoReturn:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    raise SignatureError(
        f"{root} lacks modules.json, which would say how the vectors of tokens become one: pass "
        "pooling= as the model's card says it, and normalize=; or make "
        "TextEncoder(onnx, tokenizer, pooling=...) from its files"
    )


def _read_modules(root: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the transformer, and the arguments for pooling, normalisation and roles."""
    places = _module_places(root)
    within = places.get("Transformer", root)
    config = _read_json(places["Pooling"] / "config.json")
    found = {"pooling": _pooling(config, root), "normalize": "Normalize" in places}
    if _read_if_there(within / BERT).get("do_lower_case"):
        raise SignatureError(
            f"{root} wants texts in lower case, which an encoder leaves to its tokenizer"
        )
    prompts = _read_if_there(root / PROMPTS).get("prompts")
    if prompts:
        if config.get("include_prompt") is False:
            raise SignatureError(
                f"{root} does not pool the tokens of its prompts (include_prompt); an encoder does"
            )
        found["roles"] = prompts
    return within, found


def _module_places(root: Path) -> dict[str, Path]:
    """The folders of the modules by name. Raises SignatureError for unknown modules."""
    entries = _read_json(root / "modules.json", list)
    try:
        modules = [(str(entry["type"]), root / entry["path"]) for entry in entries]
    except (TypeError, KeyError) as error:
        raise SignatureError(f"{root / 'modules.json'} does not name modules: {error!r}") from error
    places = {name.rpartition(".")[2]: place for name, place in modules if name.startswith(PACKAGE)}
    if len(places) < len(modules) or not {"Pooling"} <= places.keys() <= {*MODULES}:
        names = [name for name, _ in modules]
        raise SignatureError(
            f"{root} has the modules {names}; an encoder has some of {list(MODULES)}, of "
            f"{PACKAGE[:-1]}"
        )
    return places


def limit_beside(*files: Any) -> Any:
    """The most tokens of a text, as the files beside these say; None where none says it.

    The folder of the first file that says it counts; the folder `onnx` of an exporter belongs to
    the folder around it. Arguments that are not paths are passed over.
    """
    for file in files:
        if not isinstance(file, str | os.PathLike):
            continue
        path = Path(file)
        for folder in (path.parent, path.parent.parent)[: 1 + (path.parent.name == "onnx")]:
            limit = _limit_in(folder)
            if limit:
                return limit
    return None


def _limit_in(folder: Path) -> Any:
    told = _read_if_there(folder / BERT).get("max_seq_length")
    if told:
        return told
    sizes = [_read_if_there(folder / name).get(key) for name, key in LIMIT_KEYS.items()]
    # Tokenizers without a limit say 1e30.
    known = [size for size in sizes if type(size) is int and 0 < size <= MOST_NUMBERS]
    return min(known, default=None)


def _pooling(config: dict[str, Any], root: Path) -> str:
    on = [
        name for name, value in config.items() if name.startswith("pooling_mode_") and value is True
    ]
    on = on or [str(config.get("pooling_mode"))]
    if len(on) != 1 or on[0] not in POOLING_NAMES:
        raise SignatureError(
            f"{root} pools by {on}; an encoder pools by one of {list(POOLING_NAMES)}"
        )
    return POOLING_NAMES[on[0]]


def _only_graph(root: Path) -> str:
    usual = [name for name in FILES if (root / name).exists()]
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*.onnx"))
    if not usual and len(found) != 1:
        raise FileNotFoundError(f"{root} holds {len(found)} ONNX files {found}; name one by file=")
    return (usual or found)[0]


def _read_if_there(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none."""
    found: dict[str, Any] = _read_json(path) if path.exists() else {}
    return found


def _read_json(path: Path, kind: type = dict) -> Any:
    """The content of a JSON file. Raises SignatureError unless it is of this kind."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SignatureError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, kind):
        raise SignatureError(
            f"{path} holds {type(found).__name__} where {kind.__name__} is expected"
        )
    return found
