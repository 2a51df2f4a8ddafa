"""What two readers broke: graphs of a few kilobytes that took gigabytes or ended the process, and odd attachments.

Each is made small here, and opened in a process with limits of memory and time.
"""

import io
import json
import zipfile

import numpy as np
import onnx
import pytest
from helpers.forge import GRAPH, MANIFEST, forge, graph_of, members_of, npz, pack, with_graph
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.errors import GraphError, IntegrityError, ManifestError, PackageError, SignatureError
from modelkit.package import operators, scan, sizes
from modelkit.package.review import review

node = helper.make_node


def constant(name, value, dtype=None):
    return numpy_helper.from_array(np.array(value, dtype), name)


def beside(nodes, constants=(), domain=None):
    """A change that adds operators to the graph of the toy; the sum of their last output is added to its answer."""

    def change(proto):
        proto.graph.initializer.extend(constants)
        proto.graph.node[1].output[0] = "relu"
        proto.graph.node.extend(nodes)
        last = nodes[-1].output[0]
        proto.graph.node.append(node("Cast", [last], ["numbers"], to=TensorProto.FLOAT))
        proto.graph.node.append(node("ReduceSum", ["numbers"], ["all"], keepdims=0))
        proto.graph.node.append(node("Add", ["relu", "all"], ["y"]))
        if domain is not None:
            proto.opset_import.add(domain=domain, version=1)

    return change


def told(warden, data, **asked):
    path = warden.folder / "hostile.mk"
    path.write_bytes(data)
    return warden.open(path, **asked)


def folding(data):
    return scan.check_graph(members_of(data)[GRAPH], "model.onnx.data", 16384).folding


# What constants make at load


def filled(count, side):
    """So many square matrices that constants state, and their sum."""
    nodes = [node("ConstantOfShape", ["side"], [f"c{i}"]) for i in range(count)]
    nodes.append(node("Sum", [f"c{i}" for i in range(count)], ["sum"]))
    return beside(nodes, [constant("side", [side, side])])


def test_many_constants_that_a_graph_states(toy, warden):
    answer = told(warden, with_graph(toy, filled(40, 8000)))
    assert "GraphError" in answer["error"], answer
    assert "more than 2 GiB of constants alone" in answer["message"]


def test_many_constants_are_not_computed_at_load(toy, warden):
    """Thirty of 4 MB are below every bound of one, and 120 MB in all."""
    data = with_graph(toy, filled(30, 1000))
    assert folding(data).limit <= 1 << 22
    assert folding(with_graph(toy, filled(2, 1000))).limit > 1 << 22
    assert told(warden, data, then="predict")["error"] is None


@pytest.mark.parametrize("hidden", ["computed", "of a value", "of constants that share a name"])
def test_shapes_that_a_graph_does_not_state(toy, hidden):
    """They are as large as the limit of one result; so many of them lower it."""
    if hidden == "computed":
        first = [node("Mul", ["side", "side"], ["shape"])]
    elif hidden == "of a value":
        first = [node("Expand", ["relu", "side"], ["wide"]), node("Shape", ["wide"], ["shape"])]
    else:
        first = [node("Identity", ["side"], ["shape"])]
    many = [node("ConstantOfShape", ["shape"], [f"c{i}"]) for i in range(100)]
    change = beside(
        [*first, *many, node("Sum", [f"c{i}" for i in range(100)], ["sum"])],
        [constant("side", [1, 64])],
    )
    assert 0 < folding(with_graph(toy, change)).limit <= sizes.MADE_BYTES // 50


def test_products_of_constants_are_left_to_the_runs(toy, warden):
    """Sixty products of matrices of 4,000 rows would take minutes at load, where nothing stops them."""
    nodes = [node("ConstantOfShape", ["side"], ["m0"])]
    nodes += [node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(60)]
    data = with_graph(toy, beside(nodes, [constant("side", [4000, 4000])]))
    assert folding(data).limit < 1 << 20
    assert scan.check_graph(members_of(data)[GRAPH], "model.onnx.data", 16384).endless
    assert told(warden, data)["error"] is None


@pytest.mark.parametrize("heavy", ["Conv", "Einsum", "TfIdfVectorizer"])
def test_operators_whose_work_is_not_known_turn_it_off(toy, heavy):
    x = constant("c", np.ones((1, 1, 8)), np.float32)
    made = {
        "Conv": node("Conv", ["c", "c"], ["made"]),
        "Einsum": node("Einsum", ["c", "c"], ["made"], equation="abc,abd->d"),
        "TfIdfVectorizer": node(
            "TfIdfVectorizer", ["c"], ["made"], mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
            ngram_counts=[0], ngram_indexes=[0], pool_int64s=[1],
        ),
    }[heavy]  # fmt: skip
    assert folding(with_graph(toy, beside([made], [x]))) == sizes.Folding(0, costly=True)


def test_weights_that_are_widened_are_computed_at_load(toy):
    """As in graphs whose weights are whole numbers of 8 bits: four times their size, and the limit stays."""
    weights = [constant(f"w{i}", np.ones((1000, 1000)), np.int8) for i in range(20)]
    scales = [constant(f"s{i}", np.ones((1000, 1)), np.float32) for i in range(20)]
    nodes = [node("Cast", [f"w{i}"], [f"f{i}"], to=TensorProto.FLOAT) for i in range(20)]
    nodes += [node("Mul", [f"f{i}", f"s{i}"], [f"m{i}"]) for i in range(20)]
    nodes.append(node("Sum", [f"m{i}" for i in range(20)], ["sum"]))
    assert folding(with_graph(toy, beside(nodes, [*weights, *scales]))).limit == 1 << 28


def test_sparse_tensors_are_bounded_by_their_sum(toy, warden):
    def sparse(count):
        def change(proto):
            names = []
            for i in range(count):
                tensor = proto.graph.sparse_initializer.add(dims=[2048, 2048])
                tensor.values.CopyFrom(constant(f"s{i}", [1], np.float32))
                tensor.indices.CopyFrom(constant("i", [0]))
                names.append(f"s{i}")
            beside([node("Sum", names, ["sum"])])(proto)

        return with_graph(toy, change)

    assert told(warden, sparse(1), then="predict")["error"] is None
    answer = told(warden, sparse(3))
    assert "GraphError" in answer["error"], answer
    assert "sparse tensors" in answer["message"]


# What operators are told


ONES = constant("ones", np.ones((1, 4)), np.float32)
ORDER = constant("order", [0])
FEW = constant("few", np.zeros((1, 1, 4)), np.float32)
GRAMS = {
    "mode": "TF",
    "min_gram_length": 1,
    "max_gram_length": 2,
    "max_skip_count": 5,
    "ngram_counts": [0, 4],
}
POOL = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]
ENDED = {
    "n-grams without a column": (
        node(
            "TfIdfVectorizer",
            ["order"],
            ["made"],
            **GRAMS,
            ngram_indexes=[2, 1, 4, 4, 0],
            pool_int64s=POOL,
        ),
        [ORDER],
        18,
    ),
    "n-grams of words without a column": (
        node(
            "TfIdfVectorizer",
            ["order"],
            ["made"],
            **GRAMS,
            ngram_indexes=range(9),
            pool_strings=list("abcdefghij"),
        ),
        [ORDER],
        18,
    ),
    "a cast to memory nobody wrote": (
        node("Cast", ["relu"], ["made"], to=TensorProto.INT64, saturate=3),
        [],
        21,
    ),
    "batch_dims": (node("GatherND", ["few", "order"], ["made"], batch_dims=-2), [FEW, ORDER], 18),
    "scale": (node("RandomNormalLike", ["relu"], ["made"], scale=0.0), [], 18),
    "no scale": (node("RandomNormal", [], ["made"], shape=[2], scale=float("nan")), [], 18),
    "low": (node("RandomUniform", [], ["made"], shape=[2], low=1e30, high=0.5), [], 18),
    "low alone": (node("RandomUniformLike", ["relu"], ["made"], low=2.0), [], 18),
    "an equation": (node("Einsum", ["relu"], ["made"], equation="b'L2'"), [], 18),
    "the transform of nothing": (node("DFT", ["few", "", ""], ["made"]), [FEW], 20),
    "a recurrent layer of no rows": (
        node("GRU", ["none", "w", "w"], ["made"], hidden_size=2),
        [
            constant("none", np.zeros((2, 0, 2)), np.float32),
            constant("w", np.zeros((1, 6, 2)), np.float32),
        ],
        18,
    ),
    "a transform along no axis": (
        node("DFT", ["few", "", "none"], ["made"]),
        [FEW, constant("none", np.zeros((2, 0)), np.int64)],
        20,
    ),
    "unique along an axis": (
        node("Unique", ["none"], ["made"], axis=0),
        [constant("none", np.zeros((2, 0, 3)))],
        18,
    ),
    "a past": (
        node("Attention", ["few", "few", "few", "", "few", "order"], ["made"]),
        [FEW, ORDER],
        23,
    ),
    "a norm without bias": (
        node("LayerNormalization", ["few", "ones", ""], ["made"]),
        [FEW, ONES],
        18,
    ),
}


@pytest.mark.parametrize("what", ENDED)
def test_operators_that_end_the_process(toy, warden, what):
    made, constants, opset = ENDED[what]
    answer = told(warden, with_graph(toy, beside([made], constants), opset), then="predict")
    assert "GraphError" in (answer["error"] or ()), answer
    assert f"operator {made.op_type} of 'made' is refused" in answer["message"]


@pytest.mark.parametrize("operator", ["Sum", "Min", "Max", "Mean", "Concat"])
def test_inputs_without_a_name_among_many(toy, warden, operator):
    axis = {"axis": 0} if operator == "Concat" else {}
    made = node(operator, ["ones", "", "relu"], ["made"], **axis)
    answer = told(warden, with_graph(toy, beside([made], [ONES])), then="predict")
    assert "an input without a name" in answer["message"], answer


@pytest.mark.parametrize(
    "operator", ["Inverse", "AttnLSTM", "WordConvEmbedding", "QLinearWhere", "Range"]
)
def test_operators_that_nothing_writes(toy, warden, operator):
    made = node(operator, ["ones"], ["made"], domain="com.microsoft")
    data = with_graph(toy, beside([made], [ONES], "com.microsoft"))
    answer = told(warden, data)
    assert "GraphError" in answer["error"]
    assert f"['{operator}']" in answer["message"]
    assert review(data).needs == {"allow": ["com.microsoft"]}


def test_operators_that_nothing_writes_open_where_the_caller_says_so(toy, warden):
    made = node("Inverse", ["square"], ["made"], domain="com.microsoft")
    data = with_graph(
        toy, beside([made], [constant("square", np.eye(4), np.float32)], "com.microsoft")
    )
    assert "GraphError" in told(warden, data)["error"]
    assert told(warden, data, allow=["com.microsoft"], then="predict")["error"] is None


def test_a_quantised_product_that_is_scaled_by_another_shape(toy, warden):
    def product(scale):
        weights = constant("w8", np.ones((64, 3)), np.uint8)
        made = node(
            "DynamicQuantizeMatMul", ["relu", "w8", "scale"], ["made"], domain="com.microsoft"
        )
        return with_graph(
            toy, beside([made], [weights, constant("scale", scale, np.float32)], "com.microsoft")
        )

    for sound in (0.5, [0.5], [0.5, 1, 2]):
        assert told(warden, product(sound), then="predict")["error"] is None
    for odd in ([0.5, 1], np.ones((2, 2, 2))):
        assert "scales input 1" in told(warden, product(odd))["message"]


def test_a_setting_from_the_arguments_of_a_function(toy, warden):
    cast = node("Cast", ["a"], ["b"], to=TensorProto.INT64)
    cast.attribute.add(name="saturate", type=onnx.AttributeProto.INT, ref_attr_name="s")
    opsets = [helper.make_opsetid("", 21)]

    def change(proto):
        proto.functions.append(
            helper.make_function("ai.onnx.ml", "F", ["a"], ["b"], [cast], opsets, ["s"])
        )
        beside([node("F", ["relu"], ["made"], domain="ai.onnx.ml", s=3)])(proto)
        proto.opset_import.add(domain="ai.onnx.ml", version=3)

    answer = told(warden, with_graph(toy, change, 21))
    assert "an argument of a function" in answer["message"], answer


def test_a_range_of_two_inputs(toy, warden):
    made = node("Range", ["order", "order"], ["made"])
    assert "GraphError" in told(warden, with_graph(toy, beside([made], [ORDER])))["error"]


# Division of integers

LEAST, LESS = constant("least", [-(1 << 63)]), constant("less", [-1])
WHOLE = node("Cast", ["relu"], ["whole"], to=TensorProto.INT64)
SIZE = [node("Shape", ["relu"], ["shape"]), node("Gather", ["shape", "one"], ["size"])]


def division(by, of="least"):
    return node("Div", [of, by], ["made"])


DIVISIONS = {
    "of constants": ([division("less")], False),
    "by a constant of 1": ([division("one")], True),
    "by what is cast": ([WHOLE, division("whole", "whole")], False),
    "by a sum": ([node("Add", ["less", "one"], ["sum"]), division("sum")], False),
    "by at least 1": ([WHOLE, node("Max", ["whole", "one"], ["most"]), division("most")], True),
    "of sizes": ([*SIZE, division("size", "shape")], True),
    "of floats": ([node("ReduceSum", ["relu", "one"], ["sum"]), division("sum", "relu")], True),
    "through a branch": ([], False),
}


FRAMES = {
    "an empty window": (["signal", "one", "empty"], False),
    "a window": (["signal", "one", "window"], True),
    "a length of 0": (["signal", "one", "", "none"], False),
    "a length": (["signal", "one", "", "length"], True),
    "a computed length": (["signal", "one", "", "product"], False),
    "a computed window of a length": (["signal", "one", "halves", "length"], True),
    "a computed window": (["signal", "one", "halves"], False),
}


@pytest.mark.parametrize("what", FRAMES)
def test_frames_that_hold_nothing(toy, warden, what):
    inputs, sound = FRAMES[what]
    nodes = [
        node("Mul", ["none", "length"], ["product"]),
        node("Mul", ["window", "window"], ["halves"]),
        node("STFT", inputs, ["made"]),
    ]
    constants = [
        constant("signal", np.ones((1, 32, 1)), np.float32),
        constant("window", np.ones(8), np.float32),
        constant("empty", np.ones(0), np.float32),
        constant("one", 1),
        constant("none", 0),
        constant("length", 8),
    ]
    answer = told(warden, with_graph(toy, beside(nodes, constants)), then="predict")
    if sound:
        assert answer["error"] is None, answer
    else:
        assert "operator STFT of 'made' is refused" in answer["message"], answer


@pytest.mark.parametrize("what", DIVISIONS)
def test_divisions_that_may_trap(toy, warden, what):
    nodes, sound = DIVISIONS[what]
    if what == "through a branch":
        value = helper.make_tensor_value_info("o", TensorProto.INT64, [1])
        branch = helper.make_graph([node("Identity", ["less"], ["o"])], "b", [], [value])
        choice = node("If", ["yes"], ["branched"], then_branch=branch, else_branch=branch)
        nodes = [choice, division("branched")]
    constants = [LEAST, LESS, constant("one", [1]), constant("yes", True)]
    answer = told(warden, with_graph(toy, beside(nodes, constants)), then="predict")
    if sound:
        assert answer["error"] is None, answer
    else:
        assert "GraphError" in answer["error"], answer
        assert "operator Div of 'made' is refused" in answer["message"]


def test_declared_types_clear_a_division_behind_a_branch(toy):
    """As exporters declare them: without, what a branch gives may be integers."""
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("Identity", ["relu"], ["o"])], "b", [], [value])
    nodes = [
        node("If", ["yes"], ["branched"], then_branch=branch, else_branch=branch),
        node("Div", ["branched", "branched"], ["made"]),
    ]
    change = beside(nodes, [constant("yes", True)])
    with pytest.raises(GraphError, match="Div of 'made'"):
        folding(with_graph(toy, change))

    def declared(proto):
        change(proto)
        proto.graph.value_info.append(
            helper.make_tensor_value_info("branched", TensorProto.FLOAT, None)
        )

    assert folding(with_graph(toy, declared)).limit


# The tables, beside those of the onnx library


def attributes(kinds):
    """Operator, attribute and default of every schema of ONNX, of attributes of these kinds."""
    from onnx import defs

    for schema in defs.get_all_schemas_with_history():
        for name, attribute in schema.attributes.items():
            if schema.domain in ("", "ai.onnx.ml") and attribute.type in kinds:
                default = attribute.default_value
                yield (
                    schema.name,
                    name,
                    helper.get_attribute_value(default) if default.type else None,
                )


def test_flags_are_flags_in_every_operator():
    whole = onnx.defs.OpSchema.AttrType.INT
    found = {name: set() for name in map(bytes.decode, operators.FLAGS)}
    for _, name, default in attributes([whole]):
        if name in found:
            found[name].add(default)
    assert all(found.values()), [name for name, defaults in found.items() if not defaults]
    assert all(defaults <= {0, 1, None} for defaults in found.values()), found


def test_every_text_that_is_chosen_from_a_list_is_known():
    free = {"default_string", "delimiter", "locale", "pattern", "pixel_format", "value_string", "equation",
            "activation", "update_rule", "to"}  # fmt: skip
    known = {
        (operator.decode(), name.decode()): values
        for (operator, name), values in operators.ALLOWED_TEXTS.items()
    }
    seen = set()
    for operator, name, default in attributes([onnx.defs.OpSchema.AttrType.STRING]):
        key = (operator, name)
        if name in free or key == ("TensorScatter", "mode"):
            continue
        assert key in known, f"{key} is new: add what it may be"
        assert default in known[key] | {None, b"foward"}, (key, default)  # as onnx 1.0 has it
        seen.add(key)
    late = {
        ("SpaceToDepth", "mode"),
        ("Cast", "round_mode"),
        ("CastLike", "round_mode"),
    }  # which older releases lack
    assert set(known) - seen <= late


def test_operators_of_any_number_of_inputs_are_known():
    from onnx import defs

    variadic = {
        schema.name.encode()
        for schema in defs.get_all_schemas()
        if schema.domain in ("", "ai.onnx.ml")
        and any(
            formal.option == defs.OpSchema.FormalParameterOption.Variadic
            for formal in schema.inputs
        )
    }
    assert variadic - {b"Loop", b"Scan", b"SequenceMap"} <= operators.VARIADIC


# The manifest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parity": {"batch_sizes": [300_000_000]}}, "batch_sizes"),
        ({"parity": {"batch_sizes": [-1]}}, "batch_sizes"),
        ({"parity": {"batch_sizes": [0, 1]}}, "batch_sizes"),
        ({"parity": {"batch_sizes": list(range(1, 100))}}, "batch_sizes"),
        ({"parity": {"rtol": 1e300}}, "tolerances"),
        ({"parity": {"atol": -1.0}}, "tolerances"),
        ({"format": 0}, "format 0"),
        ({"format": -5}, "format -5"),
    ],
)
def test_numbers_out_of_range(toy, change, words):
    def edit(plain):
        for name, value in change.items():
            plain[name] = plain[name] | value if isinstance(value, dict) else value

    with pytest.raises(ManifestError, match=words):
        mk.load(forge(toy, edit=edit))


@pytest.mark.parametrize("place", ["rtol", "max_abs", "metadata"])
def test_infinity_is_no_number(toy, place):
    members = members_of(toy)
    plain = json.loads(members[MANIFEST])
    if place == "metadata":
        plain["metadata"] = {"a": [12345.5]}
    else:
        plain["parity"][place] = 12345.5
    raw = json.dumps(plain).replace("12345.5", "1e999").encode()
    with pytest.raises(ManifestError, match="1e999 is beyond the largest number"):
        mk.load(pack({**members, MANIFEST: raw}))


# Attachments


X, Y = np.zeros((2, 64), np.float32), np.zeros((2, 64), np.float32)
ODD = {
    "another dtype": {"in0": X.astype(np.float64), "out0": Y},
    "texts": {"in0": X.astype(str), "out0": Y},
    "complex numbers": {"in0": X.astype(np.complex64), "out0": Y},
    "one axis": {"in0": X[0], "out0": Y},
    "three axes": {"in0": X[None], "out0": Y},
    "no axis": {"in0": X[0, 0], "out0": Y},
    "another width": {"in0": X[:, :3], "out0": Y},
    "no rows": {"in0": X[:0], "out0": Y[:0]},
    "another dtype of answers": {"in0": X, "out0": Y.astype(np.int64)},
    "fewer answers": {"in0": X, "out0": Y[:1]},
    "narrow answers": {"in0": X, "out0": Y[:, :1]},
    "no answers": {"in0": X},
}


@pytest.mark.parametrize("what", ODD)
def test_golden_rows_of_another_kind(toy, what):
    with mk.load(forge(toy, golden=npz(**ODD[what])), threads=1) as model:
        for call in (model.verify, model.warmup):
            with pytest.raises(PackageError, match="golden"):
                call()


def lying(descr, shape, data=b"", version=1):
    """An npz whose only array says that it is of this dtype and shape."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("in0.npy", b"\x93NUMPY" + bytes((version, 0)) + size + header + data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("golden", "reason"),
    [
        (
            lying("<U0", (1 << 50,)),
            r"'in0' is of <U0 and shape \(1125899906842624,\), and has 0 bytes",
        ),
        (lying("<U0", (1 << 28, 0, 3)), "cannot be read|has object of shape"),
        (lying("|V0", (1 << 40,), version=2), "'in0' is of"),
        (lying("<f4", (1 << 40, 64)), "has 0 bytes"),
        (lying("<f4", (2, 64), b"1234"), "has 4 bytes"),
        (lying([("a", "<U0")], (1 << 40,)), "'in0' is of"),
        (lying("<f4", (2, 64), version=3), "npy format"),
        (lying("<f4", (-1, 64)), "cannot be read"),
    ],
)
def test_arrays_that_are_not_of_their_bytes_take_no_memory(toy, golden, reason):
    with mk.load(forge(toy, golden=golden), threads=1) as model:
        for call in (model.verify, model.warmup):
            with pytest.raises(PackageError, match=reason) as refused:
                call()
            assert refused.value.member == "golden"


def test_golden_rows_that_the_model_does_not_run(toy):
    """A table of three rows is asked for its seventh: onnxruntime has an error of its own for that."""
    proto = graph_of(toy)
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.initializer.append(constant("table", np.ones((3, 64)), np.float32))
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    proto.graph.node.append(node("ReduceMax", ["x", "last"], ["at"], keepdims=0))
    proto.graph.initializer.append(constant("last", [1]))
    proto.graph.node.append(node("Gather", ["table", "at"], ["y"]))

    def edit(plain):
        plain["signature"]["inputs"][0]["dtype"] = "int64"

    rows = npz(in0=np.full((2, 64), 7), out0=Y)
    with mk.load(
        forge(toy, graph=proto.SerializeToString(), golden=rows, edit=edit), threads=1
    ) as model:
        for call in (model.verify, model.warmup):
            with pytest.raises(PackageError, match="do not run here"):
                call()


def test_golden_answers_of_another_length_are_no_answers(toy):
    def edit(plain):
        plain["signature"]["outputs"][0]["shape"][1] = "width"

    data = forge(toy, golden=npz(in0=X, out0=Y[:, :9]), edit=edit)
    with mk.load(data, threads=1) as model, pytest.raises(IntegrityError, match="differs by inf"):
        model.verify()


def test_a_background_of_another_kind(boosting_mk):
    data = boosting_mk.read_bytes()

    def background(array):
        def edit(plain):
            plain["attachments"].append(
                {"name": "background", "path": "background.npz", "media_type": "x"}
            )

        return forge(data, {"background.npz": npz(in0=array)}, edit=edit)

    for array in (np.zeros((5, 30)), np.zeros((5, 3), np.float32), np.zeros(30, np.float32)):
        with (
            mk.load(background(array)) as model,
            pytest.raises(mk.errors.ExplainError, match="background"),
        ):
            mk.Explainer(model).explain(np.zeros((1, 30), np.float32))


def test_a_warm_up_of_too_many_bytes():
    from modelkit.model import golden

    rows = {"x": np.broadcast_to(np.float32(0), (4, 1 << 20))}
    golden.check_warmth(rows, 4, 256)
    with pytest.raises(PackageError, match="4096 golden rows"):
        golden.check_warmth(rows, 4, 4096)


# Names


def test_control_characters_never_reach_a_terminal(toy, tmp_path, monkeypatch, capsys):
    from modelkit.cli import main

    with pytest.raises(SignatureError, match="control characters"):
        mk.TensorSpec("x\x1b[2J", "float32", ("batch", 4))
    legitimate = mk.Column("a\tb\nc")  # a column of somebody's frame
    spec = mk.TensorSpec("x\ny\u202e", "float32", ("batch", 1), (legitimate,))
    assert str(spec) == "x\\ny\\u202e: float32[batch, 1]"

    labels = np.array(["plain", "odd\u202e"])
    values = np.random.default_rng(0).normal(size=(40, 2))
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression().fit(values, labels[(values[:, 0] > 0).astype(int)])
    mk.save(fitted, tmp_path / "m.mk", example=values, name="m", version="1")
    (tmp_path / "rows.csv").write_text("x0,x1\n9,0\n")
    arguments = ["predict", str(tmp_path / "m.mk"), "--input", str(tmp_path / "rows.csv")]
    assert main(arguments) == 0
    assert "odd\u202e" in capsys.readouterr().out  # a file gets what the model gave
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(arguments) == 0
    assert "odd\\u202e" in capsys.readouterr().out
