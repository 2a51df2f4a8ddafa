"""Graphs from elsewhere: states whose rows are the second axis, scalars, open sizes, and what exporters leave."""

import io

import numpy as np
import pytest
from helpers.forge import forge
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.errors import BatchError, ConversionError, PackageError
from modelkit.model import golden
from modelkit.package import draws

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(3, 2)).astype(np.float32)


def value(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes, inputs, outputs, constants=None, opsets=()):
    held = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in (constants or {}).items()
    ]
    made = helper.make_graph(
        [helper.make_node(*node, **more) for *node, more in nodes], "g", inputs, outputs, held
    )
    sets = [helper.make_opsetid(domain, version) for domain, version in (("", 17), *opsets)]
    return helper.make_model(made, opset_imports=sets, ir_version=8)


def linear(x, y, **more):
    """y = x @ WEIGHTS, with the inputs and outputs as they are declared."""
    return graph([("MatMul", ["x", "w"], ["y"], {})], [x], [y], {"w": WEIGHTS}, **more)


def recurrent(*state):
    """The next state and an answer, from a row and a state; the rate scales both."""
    return graph(
        [
            ("Transpose", ["state"], ["by_row"], {"perm": [1, 0, 2]}),
            ("Flatten", ["by_row"], ["flat"], {"axis": 1}),
            ("ReduceMean", ["flat"], ["mean"], {"axes": [1], "keepdims": 1}),
            ("Cast", ["sr"], ["rate"], {"to": TensorProto.FLOAT}),
            ("Mul", ["mean", "rate"], ["scaled"], {}),
            ("Add", ["input", "scaled"], ["output"], {}),
            ("Mul", ["state", "rate"], ["next"], {}),
        ],
        [value("input", "batch", 3), value("state", *state), value("sr", kind=TensorProto.INT64)],
        [value("output", "batch", 3), value("next", *state)],
    )


def convolution():
    """A graph that images smaller than 9 x 9 do not fit."""
    return graph(
        [("Conv", ["x", "k"], ["y"], {})],
        [value("x", "N", 3, "H", "W")],
        [value("y", "N", 1, "h", "w")],
        {"k": np.ones((1, 3, 9, 9), np.float32)},
    )


@pytest.fixture
def kept(tmp_path):
    """Save a graph and open it again."""
    opened = []

    def keep(proto, **more):
        mk.save(proto, tmp_path / "g.mk", name="g", version="1", **more)
        opened.append(mk.load(tmp_path / "g.mk", device="cpu"))
        return opened[-1]

    yield keep
    for model in opened:
        model.close()


def replays(model):
    model.warmup()
    return model.verify() == 0.0


@pytest.mark.parametrize("domain", ["com.microsoft.nchwc", "Paddle", "org.pytorch.aten"])
def test_sets_of_operators_that_are_declared_and_not_used_do_no_harm(kept, domain):
    model = kept(linear(value("x", "n", 3), value("y", "n", 2), opsets=[(domain, 1)]))
    assert replays(model)


def test_sizes_of_minus_one_and_question_marks_are_open_each_for_itself(kept):
    x, y = value("x", -1, 3, "?", "?"), value("y", -1, 3, "?", "?")
    model = kept(graph([("Relu", ["x"], ["y"], {})], [x], [y]))
    assert model.signature.inputs[0].shape == ("batch", 3, "x.2", "x.3")
    assert model.run(np.ones((2, 3, 5, 7), np.float32))["y"].shape == (2, 3, 5, 7)
    assert replays(model)


@pytest.mark.parametrize(
    "names", [("unk__7", "unk__8"), ("p2o.DynamicDimension.0", "p2o.DynamicDimension.3")]
)
def test_names_that_exporters_count_are_no_names(kept, names):
    model = kept(linear(value("x", names[0], 3), value("y", names[1], 2)))
    assert model.signature.batch == "batch"
    with mk.Batcher(model) as batcher:
        np.testing.assert_array_equal(
            batcher.predict(np.ones((1, 3), np.float32)), [WEIGHTS.sum(axis=0)]
        )


def test_an_output_that_does_not_follow_the_rows_gets_a_size_of_its_own(kept):
    """Both lead with an unnamed dimension, and the second with another."""
    proto = graph(
        [("Relu", ["x"], ["y"], {}), ("Transpose", ["x"], ["turned"], {"perm": [1, 0]})],
        [value("x", None, 3)],
        [value("y", None, 3), value("turned", None, None)],
    )
    model = kept(proto)
    assert [spec.shape for spec in model.signature.outputs] == [
        ("batch", 3),
        ("turned.0", "turned.1"),
    ]
    assert model.signature.batch is None
    assert not model.batchable
    assert replays(model)


def test_an_output_of_another_rank_than_is_declared_is_described_as_it_is(kept):
    """As in the graphs of ddddocr; onnxruntime only warns of it where it cannot infer the rank."""
    proto = graph(
        [("Reshape", ["x", "sizes"], ["y"], {})],
        [value("x", "n", 3), value("sizes", "rank", kind=TensorProto.INT64)],
        [value("y", 1, "m")],
    )
    rows = {"x": np.ones((4, 3), np.float32), "sizes": np.array([2, 2, 3])}
    model = kept(proto, golden=rows)
    assert model.signature.outputs[0].shape == ("y.0", "y.1", "y.2")
    assert model.run(rows)["y"].shape == (2, 2, 3)
    assert replays(model)


def test_an_example_without_rows_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="example is empty"):
        mk.save(
            linear(value("x", "n", 3), value("y", "n", 2)),
            tmp_path / "g.mk",
            name="g",
            version="1",
            example=np.ones((0, 3), np.float32),
        )


@pytest.mark.parametrize("given", ["nothing", "example", "golden"])
def test_a_state_whose_rows_are_its_second_axis(kept, given):
    rows = {
        "input": RNG.normal(size=(5, 3)).astype(np.float32),
        "state": RNG.normal(size=(2, 5, 4)).astype(np.float32),
        "sr": np.array(16000),
    }
    model = kept(recurrent(2, "batch", 4), **({} if given == "nothing" else {given: rows}))
    assert replays(model)
    assert len(model.manifest.parity.batch_sizes) > 1
    assert model.batchable
    whole = model.run(rows)
    alone = model.run(model.signature.take(rows, np.array([3])))
    np.testing.assert_array_equal(alone["output"], whole["output"][3:4])
    np.testing.assert_array_equal(alone["next"], whole["next"][:, 3:4])
    with pytest.raises(BatchError, match="all lead with one named dimension"):
        mk.Batcher(model)


@pytest.mark.parametrize("times", [1, 2])
def test_golden_rows_keep_a_setting_and_no_row(kept, times):
    rows = {
        "input": RNG.normal(size=(1, 3)).astype(np.float32).repeat(times, axis=0),
        "state": RNG.normal(size=(2, 1, 4)).astype(np.float32).repeat(times, axis=1),
        "sr": np.array(16000),
    }
    model = kept(recurrent(2, "batch", 4), example=rows)
    feeds, _ = golden.decode_golden(model.attachments["golden"], model.signature)
    assert feeds["sr"] == 16000
    assert feeds["input"].shape == (16, 3)
    assert feeds["state"].shape == (2, 16, 4)
    for name in ("input", "state"):
        assert not np.isin(rows[name], feeds[name]).any()
    assert feeds["input"].min() >= rows["input"].min()
    assert feeds["input"].max() <= rows["input"].max()


def test_a_state_of_one_fixed_row_is_warmed_up_as_it_is(kept):
    proto = graph(
        [
            ("ReduceSum", ["state"], ["sum"], {"keepdims": 0}),
            ("Add", ["input", "sum"], ["output"], {}),
        ],
        [value("input", 1, 3), value("state", 2, 1, 4)],
        [value("output", 1, 3)],
    )
    assert replays(kept(proto))


@pytest.mark.parametrize("given", [{}, {"example": 1}, {"golden": 2}, {"example": 1, "golden": 2}])
def test_sizes_are_those_of_the_example_or_found_by_trying(kept, given):
    images = {"x": RNG.normal(size=(2, 3, 32, 20)).astype(np.float32)}
    model = kept(convolution(), **dict.fromkeys(given, images))
    assert model.batchable
    assert replays(model)
    feeds, _ = golden.decode_golden(model.attachments["golden"], model.signature)
    assert feeds["x"].shape[2:] == ((32, 20) if given else (64, 64))


def test_a_scalar_that_is_the_first_input(kept):
    proto = graph(
        [("Mul", ["a", "x"], ["y"], {})], [value("a"), value("x", "N", 3)], [value("y", "N", 3)]
    )
    model = kept(proto)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model.run({"a": np.float32(2), "x": x})["y"], 2 * x)
    assert replays(model)
    with pytest.raises(mk.errors.SignatureError, match="input 'a'"):
        model.run({"a": np.array("two"), "x": x})


def test_scalars_alone(kept):
    proto = graph([("Mul", ["a", "b"], ["y"], {})], [value("a"), value("b")], [value("y")])
    model = kept(proto)
    assert model.run({"a": np.float32(2), "b": 3.0})["y"] == 6
    assert replays(model)
    assert not hasattr(model, "n_features_in_")


def test_rows_that_are_the_second_axis_everywhere_but_in_the_answer(kept):
    """Time comes first, and one dimension is in every tensor."""
    proto = graph(
        [
            ("ReduceMean", ["x"], ["mean"], {"axes": [0], "keepdims": 0}),
            ("Add", ["mean", "h"], ["y"], {}),
        ],
        [value("x", "time", "n", 3), value("h", 1, "n", 3)],
        [value("y", 1, "n", 3)],
    )
    model = kept(proto)
    assert (model.signature.row_dim, model.signature.batch) == ("n", None)
    assert model.batchable
    assert replays(model)


def test_a_dimension_that_a_tensor_has_twice_counts_no_rows(kept):
    proto = graph(
        [("MatMul", ["x", "x"], ["y"], {})], [value("x", "n", "n")], [value("y", "n", "n")]
    )
    for given in ({}, {"example": {"x": np.ones((5, 5), np.float32)}}):
        model = kept(proto, **given)
        assert model.signature.batch is None
        assert model.run(np.ones((3, 3), np.float32))["y"].tolist() == [[3] * 3] * 3
        assert replays(model)
        assert len(model.manifest.parity.batch_sizes) < 2


def test_rows_that_a_graph_cannot_run_are_told_in_our_words(kept, capfd):
    """A Batcher gives the error to the call whose rows they are."""
    model = kept(convolution())
    small, large = np.ones((1, 3, 4, 4), np.float32), np.ones((1, 3, 9, 9), np.float32)
    with pytest.raises(
        BatchError, match=r"cannot run the graph on these rows: .*Invalid input shape"
    ):
        model.predict(small)
    with mk.Batcher(model) as batcher:
        answers = [batcher.submit(rows) for rows in (small, large)]
        with pytest.raises(BatchError, match="cannot run the graph"):
            answers[0].result()
        assert answers[1].result().tolist() == [[[[243.0]]]]
    assert capfd.readouterr().err == ""


def test_a_loop_whose_outputs_are_no_rows(kept):
    """Graphs that may never end run another way, which must not take their outputs for rows."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["held", "one"], ["more"]),
        ],
        "body",
        [value("i", kind=TensorProto.INT64), value("go", kind=TensorProto.BOOL), value("held")],
        [value("on", kind=TensorProto.BOOL), value("more")],
    )
    proto = graph(
        [
            ("ReduceSum", ["x"], ["start"], {"keepdims": 0}),
            ("Loop", ["five", "", "start"], ["y"], {"body": body}),
        ],
        [value("x", "n")],
        [value("y")],
        {"five": np.array(5), "one": np.float32(1)},
    )
    model = kept(proto)
    for rows in (0, 3):
        assert model.run({"x": np.ones(rows, np.float32)})["y"] == rows + 5
    assert replays(model)


def test_a_graph_that_runs_on_nothing_is_refused_in_our_words(tmp_path, capfd):
    """A reshape that no size of the input fits."""
    proto = graph(
        [("Reshape", ["x", "shape"], ["y"], {})],
        [value("x", "n", "m")],
        [value("y", "a", 3001)],
        {"shape": np.array([-1, 3001])},
    )
    with pytest.raises(
        ConversionError,
        match=r"does not run on rows drawn at random.*pass rows that it takes as example=",
    ):
        mk.save(proto, tmp_path / "g.mk", name="g", version="1")
    with pytest.raises(ConversionError, match="does not run on the rows that were given"):
        mk.save(
            proto,
            tmp_path / "g.mk",
            name="g",
            version="1",
            example={"x": np.ones((2, 3), np.float32)},
        )
    mk.save(
        proto,
        tmp_path / "g.mk",
        name="g",
        version="1",
        example={"x": np.ones((2, 3001), np.float32)},
    )
    assert capfd.readouterr().err == ""


def test_golden_rows_that_do_not_run_here_are_told_in_our_words(tmp_path):
    mk.save(convolution(), tmp_path / "g.mk", name="g", version="1")
    file = io.BytesIO()
    np.savez(file, in0=np.ones((2, 3, 4, 4), np.float32), out0=np.ones((2, 1, 1, 1), np.float32))
    with mk.load(forge((tmp_path / "g.mk").read_bytes(), golden=file.getvalue())) as model:
        for replay in (model.warmup, model.verify):
            with pytest.raises(PackageError, match="do not run here"):
                replay()


def test_a_sequence_is_named_for_what_it_is(tmp_path):
    proto = graph([("SplitToSequence", ["x"], ["y"], {})], [value("x", "n", 3)], [])
    proto.graph.output.append(
        helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["n", 3])
    )
    with pytest.raises(ConversionError, match="'y' is a sequence"):
        mk.save(proto, tmp_path / "g.mk", name="g", version="1")


@pytest.mark.parametrize(
    ("shape", "largest"),
    [
        (("n", "c", "h", "w"), (1, 64, 64, 64)),  # 640 to the third would be a gigabyte
        (("n", 3, "h", "w"), (1, 3, 640, 640)),
        (("n", 4000, 5000), (1, 4000, 5000)),  # as its one row has it
    ],
)
def test_sizes_that_are_tried_without_an_example_take_little_memory(shape, largest):
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", shape),), (mk.TensorSpec("y", "float32", ("n",)),)
    )
    tried = [feeds["x"].shape for feeds in draws.draws(signature, None)]
    assert max(tried, key=np.prod) == largest
