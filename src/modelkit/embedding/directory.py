"""Read a folder with an encoder, as sentence-transformers, exporters, model2vec and wordllama write it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.embedding.recipe import MOST_NUMBERS
from modelkit.embedding.tokens import parse_tokenizer
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
OWN = re.compile(r"^sentence_transformers\..*\.")
MODULES = re.compile(r"(Transformer )?Pooling( Dense| Dropout)*( Normalize)?")
STATIC_MODULES = re.compile(r"StaticEmbedding( Normalize)?")
# Static models have no limit, or, as model2vec calls them, one of 512. A run of this many tokens
# takes 32 MiB at 256 numbers.
MOST_STATIC = 1 << 15
MODEL2VEC = 512
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1"}

Modules = list[tuple[str, Path]]


def read_folder(
    folder: Any, file: str | None, chosen: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """The graph, the tokenizer, and the other arguments of `TextEncoder`.

    `chosen` is what the caller passes in their place, of which the pooling is taken. Raises
    SignatureError for unknown modules or poolings, and for a prompt before every text, unless the
    caller has roles; and FileNotFoundError.
    """
    pooling = chosen.pop("pooling", None)
    root = _root(folder)
    modules = _modules(root)
    places = dict(modules)
    found: dict[str, Any] = {"normalize": "Normalize" in places} if modules else {}
    prompts = _part(root / PROMPTS, "prompts")
    if prompts:
        found["roles"] = prompts
    default = _read_if_there(root / PROMPTS).get("default_prompt_name")
    if prompts.get(str(default)) and "roles" not in chosen:
        raise SignatureError(
            f"{root} puts its prompt {default!r} before every text; an encoder puts one where its "
            "role is asked for: pass roles=, and ask for one with each text"
        )
    files = _static_files(root, places.get("StaticEmbedding"))
    if files is not None:
        _check_modules(root, modules, STATIC_MODULES)
        return _read_static(root, *files, found)
    within = places.get("Transformer", root)
    most = limit_beside(within / BERT, root / BERT)
    if most:
        found["max_tokens"] = most
    onnx = root / (file or _only_graph(root))
    graph, found["pooling"] = _pooled(root, modules, onnx, pooling)
    lower = _read_if_there(within / BERT).get("do_lower_case")
    return graph, _tokenizer_in(within, root, lower=lower), found


def read_reranker(folder: Any, file: str | None) -> tuple[Path, Any, Any, dict[str, Any]]:
    """The graph, the tokenizer, the number of labels, if it is said, and the other arguments of `Reranker`.

    Raises SignatureError for what a reranker does not do, and FileNotFoundError.
    """
    root = _root(folder)
    newest = _read_if_there(root / PROMPTS)
    config = _read_if_there(root / "config.json")
    if newest.get("default_prompt_name") is not None:
        raise SignatureError(f"{root} puts a prompt before its pairs, which a reranker does not")
    labels = config.get("num_labels") or len(_part(root / "config.json", "id2label"))
    named = (  # by sentence-transformers 6, 4 and 2
        newest.get("activation_fn")
        or _part(root / "config.json", "sentence_transformers").get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or ("Sigmoid" if labels == 1 else "Identity")
    )
    activation = str(named).rpartition(".")[2]
    # Another name is refused by the recipe, unless the caller chooses.
    found = {"activation": ACTIVATION_NAMES.get(activation, activation)}
    return root / (file or _only_graph(root)), _tokenizer_in(root), labels, found


def _root(folder: Any) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; modelkit downloads nothing, so download the model first"
        )
    return root


def _tokenizer_in(*folders: Path, lower: object = None) -> Any:
    """A tokenizer.json in one of the folders; its bytes, where other files change it.

    They may want letters made small first, and long texts cut from another side.
    """
    beside = [place / "tokenizer.json" for place in folders]
    tokenizer = next((path for path in beside if path.exists()), None)
    if tokenizer is None:
        raise FileNotFoundError(
            f"{folders[-1]} lacks tokenizer.json; transformers writes one by "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    changes: dict[str, Any] = {}
    if lower:
        old = _read_json(tokenizer).get("normalizer")
        steps = [{"type": "Lowercase"}] + ([old] if old else [])
        changes["normalizer"] = {"type": "Sequence", "normalizers": steps}
    config = _read_if_there(tokenizer.with_name("tokenizer_config.json"))
    side = str(config.get("truncation_side") or "").title()
    cut = _part(tokenizer, "truncation")
    if side and side != cut.get("direction", "Right"):
        cut = {"max_length": 1, "strategy": "LongestFirst", "stride": 0, **cut, "direction": side}
        changes["truncation"] = cut
    return json.dumps(_read_json(tokenizer) | changes).encode() if changes else tokenizer


def _modules(root: Path) -> Modules:
    """The modules by name, and their folders; none without modules.json. Raises SignatureError."""
    file = root / "modules.json"
    if not file.exists():
        return []
    try:  # those of others keep their whole name, which no encoder knows
        return [
            (OWN.sub("", str(entry["type"])), root / entry["path"])
            for entry in _read_json(file, list)
        ]
    except (TypeError, KeyError) as error:
        raise SignatureError(f"{file} does not name modules: {error!r}") from error


def _check_modules(root: Path, modules: Modules, known: re.Pattern[str]) -> None:
    names = [name for name, _ in modules]
    if names and not known.fullmatch(" ".join(names)):
        raise SignatureError(
            f"{root} has the modules {names}; an encoder has Transformer, Pooling, Dense and "
            "Normalize in this order, or StaticEmbedding and Normalize, of sentence_transformers. "
            "Export the graph with an output sentence_embedding, which holds what all modules do"
        )


def _pooled(root: Path, modules: Modules, graph: Path, pooling: Any) -> tuple[Any, str]:
    """The graph, with the layers behind its pooling if there are any; and the pooling.

    Raises SignatureError.
    """
    from modelkit.embedding.graph import POOLED, gives_finished, with_layers

    config = _read_if_there(dict(modules).get("Pooling", root / "1_Pooling") / "config.json")
    prompts = _part(root / PROMPTS, "prompts")
    if config.get("include_prompt") is False and any(prompts.values()):
        raise SignatureError(
            f"{root} does not pool the tokens of its prompts (include_prompt); an encoder does"
        )
    if pooling in (None, "none") and gives_finished(graph):
        return graph, "none"
    _check_modules(root, modules, MODULES)
    if pooling is None and not config and not modules:
        raise SignatureError(
            f"{root} lacks modules.json, which would say how the vectors of tokens become one: "
            "pass pooling= as the model's card says it, and normalize=; or make "
            "TextEncoder(onnx, tokenizer, pooling=...) from its files; or a Reranker, if it scores pairs"
        )
    pooling = pooling or _pooling(config, root)
    layers = [_dense(place) for name, place in modules if name == "Dense"]
    if not layers:
        return graph, pooling
    if pooling not in POOLED:
        raise SignatureError(
            f"{root} has Dense layers behind the pooling {pooling!r}; an encoder has them behind "
            f"one of {list(POOLED)}"
        )
    return with_layers(graph, pooling, layers), "none"


def _dense(place: Path) -> tuple[Array, Array, str]:
    """The matrix, the bias and the activation of a Dense module. Raises SignatureError."""
    from modelkit.embedding.graph import ACTIVATIONS, FINISHED

    config = _read_json(place / "config.json")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    taken = config.get("module_input_name", FINISHED)
    if activation not in ACTIVATIONS or taken != FINISHED or config.get("use_residual"):
        raise SignatureError(
            f"{place} is a layer {config}; an encoder takes one of {FINISHED}, with an activation "
            f"of {list(ACTIVATIONS)}, and without use_residual"
        )
    tensors = _read_tensors(place / "model.safetensors", "linear.weight")
    matrix = tensors["linear.weight"].T
    bias = tensors.get("linear.bias", np.zeros(matrix.shape[-1:]))
    if matrix.ndim != 2 or bias.shape != matrix.shape[1:]:
        raise SignatureError(
            f"{place} is a layer with weights {matrix.T.shape} and a bias {bias.shape}; these are "
            "(out, in) and (out,)"
        )
    return matrix.astype(np.float32, "C"), bias.astype(np.float32), activation


def _static_files(root: Path, place: Path | None) -> tuple[Path, Path] | None:
    """The vectors and the tokenizer of a static model, None where a folder holds another one."""
    if place is None and _read_if_there(root / "config.json").get("model_type") == "model2vec":
        place = root
    if place is not None:
        return place / "model.safetensors", place / "tokenizer.json"
    found = [*root.glob("weights/*.safetensors"), *root.glob("tokenizers/*.json")]
    return (found[0], found[1]) if len(found) == 2 else None


def _read_static(
    root: Path, weights: Path, tokenizer: Path, found: dict[str, Any]
) -> tuple[Any, bytes, dict[str, Any]]:
    """What `read_folder` gives, of the folder of a static model. Raises SignatureError."""
    from modelkit.embedding.graph import TABLES, static_graph

    tensors = _read_tensors(weights, *TABLES)
    rules = _read_json(tokenizer)
    rules["post_processor"] = None  # static models have no vectors for special tokens
    data = json.dumps(rules).encode()
    parsed = parse_tokenizer(data)
    most = (parsed.truncation or {}).get("max_length", MOST_STATIC)
    unknown = None
    if "embeddings" in tensors:  # model2vec leaves out the unknown token, others take its vector
        unknown = parsed.token_to_id(getattr(parsed.model, "unk_token", None) or "")
        most = min(most, MODEL2VEC)
        normalize = _read_if_there(root / "config.json").get("normalize", False)
        found = {"normalize": normalize} | found
    try:
        graph = static_graph(tensors, unknown, max(parsed.get_vocab().values(), default=0))
    except SignatureError as error:
        raise SignatureError(f"{weights} does not fit {tokenizer}: {error}") from error
    return graph, data, {"max_tokens": most, "pooling": "none"} | found


def _read_tensors(path: Path, *names: str) -> dict[str, Array]:
    """The arrays of a safetensors file by name, one of `names` among them.

    Raises SignatureError and FileNotFoundError.
    """
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    found = {}
    try:
        entries = json.loads(data[8:start])
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            first, stop = entry["data_offsets"]
            array = np.frombuffer(data[start + first : start + stop], DTYPES[entry["dtype"]])
            found[name] = array.reshape(entry["shape"])
        next(found[name] for name in names if name in found)
    except Exception as error:
        raise SignatureError(
            f"{path} is not a safetensors file with {' or '.join(names)}, of {list(DTYPES)}: {error!r}"
        ) from error
    return found


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
    stated = _read_if_there(folder / BERT).get("max_seq_length")
    if stated:
        return stated
    sizes = [_read_if_there(folder / name).get(key) for name, key in LIMIT_KEYS.items()]
    # Tokenizers without a limit say 1e30.
    known = [size for size in sizes if type(size) is int and 0 < size <= MOST_NUMBERS]
    return min(known, default=None)


def _pooling(config: dict[str, Any], root: Path) -> str:
    on = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
    if "pooling_mode" in config:  # which sentence-transformers puts before the flags
        on = [str(config["pooling_mode"])]
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


def _part(path: Path, key: str) -> dict[str, Any]:
    """The object under a key of a JSON file; empty if there is none. Raises SignatureError."""
    found = _read_if_there(path).get(key) or {}
    if not isinstance(found, dict):
        raise SignatureError(f"{path} says {key} is {found!r:.60}, where an object is expected")
    return found


def _read_json(path: Path, kind: type = dict) -> Any:
    """The content of a JSON file. Raises SignatureError unless it is of this kind."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, kind):
        raise SignatureError(
            f"{path} holds {type(found).__name__} where {kind.__name__} is expected"
        )
    return found
