"""ONNX graphs as other tools write them: dicts of probabilities, columns, classes, roles, images."""

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pytest
from helpers.graphs import model_of, tensor
from onnx import TensorProto, helper
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)
ROWS, SPECIES = load_iris(return_X_y=True)
ROWS = ROWS.astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])
COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]


def kept(proto, path, **more):
    mk.save(proto, path / "g.mk", name="g", version="1", **more)
    model = mk.load(path / "g.mk", device="cpu")
    assert model.verify() == 0
    return model


def exported(estimator, **options):
    skl2onnx = pytest.importorskip("skl2onnx")
    types = [("input", skl2onnx.common.data_types.FloatTensorType([None, 4]))]
    return skl2onnx.convert_sklearn(estimator, "m", types, target_opset=17, **options)


def session(proto):
    return onnxruntime.InferenceSession(proto.SerializeToString())


@pytest.mark.parametrize("labels", [SPECIES, NAMES[SPECIES], SPECIES == 1])
def test_dicts_of_probabilities_become_a_matrix_with_classes(labels, tmp_path):
    """skl2onnx writes a ZipMap unless it is told not to."""
    proto = exported(RandomForestClassifier(9, random_state=0).fit(ROWS, labels))
    assert "ZipMap" in {node.op_type for node in proto.graph.node}
    expected, dicts = session(proto).run(None, {"input": ROWS})
    model = kept(proto, tmp_path)
    assert model.classes_.tolist() == np.unique(expected).tolist()
    np.testing.assert_array_equal(model.predict(ROWS), expected)
    rows = [[share[label] for label in model.classes_.tolist()] for share in dicts]
    np.testing.assert_allclose(model.predict_proba(ROWS), rows, atol=1e-6)
    assert model.score(ROWS, expected) == 1


@pytest.mark.parametrize("labels", [SPECIES, NAMES[SPECIES]])
def test_dicts_of_probabilities_of_catboost(labels, tmp_path):
    catboost = pytest.importorskip("catboost")
    booster = catboost.CatBoostClassifier(
        iterations=5, verbose=False, allow_writing_files=False, thread_count=1
    ).fit(ROWS, labels)
    booster.save_model(str(tmp_path / "booster.onnx"), format="onnx")
    model = kept(tmp_path / "booster.onnx", tmp_path, example=pd.DataFrame(ROWS, columns=COLUMNS))
    np.testing.assert_allclose(model.predict_proba(ROWS), booster.predict_proba(ROWS), atol=1e-6)
    assert model.predict(ROWS).tolist() == booster.predict(ROWS).reshape(-1).tolist()
    assert model.classes_.tolist() == booster.classes_.tolist()
    assert [column.name for column in model.signature.inputs[0].columns] == COLUMNS


def test_an_example_with_names_names_the_columns(tmp_path):
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    proto = exported(estimator.fit(ROWS, SPECIES))
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    for example in (frame, pl.from_pandas(frame), frame.to_dict("records")):
        model = kept(proto, tmp_path, example=example)
        expected = model.predict(ROWS)
        np.testing.assert_array_equal(model.predict(frame[COLUMNS[::-1]]), expected)
        np.testing.assert_array_equal(model.predict(frame.to_dict("records")), expected)
        with pytest.raises(SignatureError, match="missing column 'petal width'"):
            model.predict(frame.rename(columns={"petal width": "width"}))
    with pytest.raises(ConversionError, match="the example has 3 columns"):
        kept(proto, tmp_path, example=frame[COLUMNS[:3]])
    model = kept(proto, tmp_path, names=COLUMNS)
    np.testing.assert_array_equal(model.predict(frame[COLUMNS[::-1]]), expected)


def test_one_input_a_column_takes_frames(tmp_path):
    """As skl2onnx has it for frames: each column is an input of its own."""
    skl2onnx = pytest.importorskip("skl2onnx")
    kinds = skl2onnx.common.data_types
    frame = pd.DataFrame({"size": ROWS[:, 0], "shop": np.where(SPECIES, "a", "b")})
    columns = make_column_transformer((OneHotEncoder(), ["shop"]), remainder="passthrough")
    estimator = make_pipeline(columns, LogisticRegression()).fit(frame, SPECIES)
    types = [
        ("size", kinds.FloatTensorType([None, 1])),
        ("shop", kinds.StringTensorType([None, 1])),
    ]
    proto = skl2onnx.convert_sklearn(estimator, "m", types, target_opset=17)
    model = kept(proto, tmp_path, example=frame)
    for rows in (frame, frame[["shop", "size"]], frame.to_dict("records"), frame.to_dict("list")):
        np.testing.assert_array_equal(model.predict(rows), estimator.predict(frame))


def scores(classes=3, kind=TensorProto.FLOAT):
    """Two outputs with names that tell nothing: a softmax, and what it is of."""
    weights = RNG.normal(size=(4, classes)).astype(np.float32)
    return model_of(
        [
            ("MatMul", ["x", "w"], ["output_0"], {}),
            ("Softmax", ["output_0"], ["output_1"], {"axis": 1}),
        ],
        [tensor("x", "n", 4)],
        [tensor("output_0", "n", classes), tensor("output_1", "n", classes)],
        {"w": weights},
    )


@pytest.mark.parametrize("classes", [list(NAMES), [3, 7, 9], np.array([2, 0, 1])])
def test_classes_and_outputs_are_named(classes, tmp_path):
    proto = scores()
    raw, shares = session(proto).run(None, {"x": ROWS})
    outputs = {"probabilities": "output_1", "scores": "output_0"}
    model = kept(proto, tmp_path, classes=classes, outputs=outputs)
    assert model.signature.output_names == ("label", "scores", "probabilities")
    assert model.classes_.tolist() == list(classes)
    np.testing.assert_array_equal(model.predict(ROWS), np.asarray(classes)[shares.argmax(axis=1)])
    np.testing.assert_array_equal(model.predict_proba(ROWS), shares)
    np.testing.assert_array_equal(model.run(ROWS)["scores"], raw)
    with mk.Batcher(model) as batcher:
        assert batcher.predict(ROWS[:1]).tolist() == model.predict(ROWS[:1]).tolist()


@pytest.mark.parametrize("width", [(), (1,)])
def test_one_probability_is_that_of_the_second_of_two_classes(width, tmp_path):
    axes = [] if width else ["axes"]
    last = "Identity" if width else "Squeeze"
    proto = model_of(
        [
            ("MatMul", ["x", "w"], ["sum"], {}),
            ("Sigmoid", ["sum"], ["column"], {}),
            (last, ["column", *axes], ["share"], {}),
        ],
        [tensor("x", "n", 4)],
        [tensor("share", "n", *width)],
        {"w": RNG.normal(size=(4, 1)).astype(np.float32), "axes": np.array([1])},
    )
    (second,) = session(proto).run(None, {"x": ROWS})
    model = kept(proto, tmp_path, classes=["no", "yes"], outputs={"probabilities": "share"})
    np.testing.assert_array_equal(model.predict_proba(ROWS)[:, 1], second.reshape(-1))
    np.testing.assert_allclose(model.predict_proba(ROWS).sum(axis=1), 1, atol=1e-7)
    expected = np.where(second.reshape(-1) > 0.5, "yes", "no")
    np.testing.assert_array_equal(model.predict(ROWS), expected)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"classes": ["a", "b", "c"]}, "needs an output of probabilities"),
        ({"classes": ["a", "b"], "outputs": {"probabilities": "output_1"}}, "one column for each"),
        ({"classes": ["a", "b", "b"], "outputs": {"probabilities": "output_1"}}, "twice"),
        ({"classes": [0.5, 1.5, 2.5], "outputs": {"probabilities": "output_1"}}, "all strings"),
        ({"classes": "abc", "outputs": {"probabilities": "output_1"}}, "all strings"),
        ({"classes": ["a", "b", "c"], "outputs": {"probabilities": "output_0"}}, "softmax"),
        ({"outputs": {"a": "output_2"}}, "the outputs are"),
        ({"outputs": {"output_1": "output_0"}}, "each once"),
        ({"outputs": {"a": "output_0", "b": "output_0"}}, "each once"),
        ({"names": ["a", "b"]}, "2 names are given"),
        ({"names": {"y": ["a"]}}, "the inputs are"),
        ({"names": "abcd"}, "a list of the names"),
        ({"names": ["a", "a", "b", "c"]}, "distinct column names"),
        ({"preprocess": mk.Preprocess()}, "floats of four dimensions"),
    ],
)
def test_what_is_said_of_a_graph_must_fit_it(said, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        kept(scores(), tmp_path, **said)
    assert list(tmp_path.iterdir()) == []


def test_an_estimator_says_all_of_itself(tmp_path):
    estimator = LogisticRegression(max_iter=500).fit(ROWS, SPECIES)
    for form in ("onnx", "joblib"):
        with pytest.raises(ConversionError, match="names=, classes= is for ONNX graphs"):
            kept(estimator, tmp_path, example=ROWS, format=form, names=COLUMNS, classes=[0, 1, 2])


def test_outputs_change_places_and_push_aside_what_has_their_name(tmp_path):
    proto = model_of(
        [
            ("Relu", ["x"], ["positive"], {}),
            ("Neg", ["positive"], ["a"], {}),
            ("Abs", ["a"], ["b"], {}),
        ],
        [tensor("x", "n", 4)],
        [tensor("a", "n", 4), tensor("b", "n", 4)],
    )
    model = kept(proto, tmp_path, outputs={"b": "a", "positive": "b"})
    found = model.run(ROWS)
    np.testing.assert_array_equal(found["b"], -ROWS)
    np.testing.assert_array_equal(found["positive"], ROWS)


def test_an_output_of_a_branch_is_renamed_where_it_is_read(tmp_path):
    """A graph inside another reads its tensors by name."""
    branches = {}
    for name, operator in (("then_branch", "Neg"), ("else_branch", "Identity")):
        branches[name] = helper.make_graph(
            [helper.make_node(operator, ["y"], ["inner_" + name])],
            name,
            [],
            [tensor("inner_" + name, "n", 4)],
        )
    proto = model_of(
        [
            ("Relu", ["x"], ["y"], {}),
            ("ReduceMax", ["y"], ["most"], {"keepdims": 0}),
            ("Greater", ["most", "zero"], ["any"], {}),
            ("If", ["any"], ["z"], branches),
        ],
        [tensor("x", "n", 4)],
        [tensor("y", "n", 4), tensor("z", "n", 4)],
        {"zero": np.float32(0)},
    )
    model = kept(proto, tmp_path, outputs={"positive": "y"}, example=ROWS)
    found = model.run(ROWS)
    np.testing.assert_array_equal(found["z"], -found["positive"])


CHANNELS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def network(*sizes, opset=17, layout="NCHW"):
    """The mean and the largest of each channel of images of floats."""
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    shape = (3, *sizes) if layout == "NCHW" else (*sizes, 3)
    return model_of(
        [
            ("ReduceMean", ["images"], ["mean"], {"axes": axes, "keepdims": 0}),
            ("ReduceMax", ["images"], ["most"], {"axes": axes, "keepdims": 0}),
        ],
        [tensor("images", "n", *shape)],
        [tensor("mean", "n", 3), tensor("most", "n", 3)],
        opset=opset,
    )


def identity(*sizes, opset=17):
    return model_of(
        [("Identity", ["images"], ["pixels"], {})],
        [tensor("images", "n", 3, *sizes)],
        [tensor("pixels", "n", 3, *sizes)],
        opset=opset,
    )


def photos(height, width, count=2):
    """Smooth and noisy images, with sharp edges at the border."""
    down, across = np.mgrid[:height, :width]
    smooth = np.stack([down * 255 // height, across * 255 // width, (down + across) % 256], axis=-1)
    noise = RNG.integers(0, 256, (count, height, width, 3))
    noise[0] = smooth
    return noise.astype(np.uint8)


def resized_by_pil(images, height, width):
    sizes = (width, height)
    found = [Image.fromarray(row).resize(sizes, Image.Resampling.BILINEAR) for row in images]
    return np.array([np.asarray(row) for row in found], np.float32)


def resized_by_torch(images, height, width):
    torch = pytest.importorskip("torch")
    first = torch.from_numpy(images).permute(0, 3, 1, 2)
    found = torch.nn.functional.interpolate(first, (height, width), mode="bicubic", antialias=True)
    return found.permute(0, 2, 3, 1).numpy().astype(np.float32)


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
@pytest.mark.parametrize(
    ("interpolation", "reference"), [("bilinear", resized_by_pil), ("bicubic", resized_by_torch)]
)
def test_images_are_resized_as_pil_and_torch_resize_them(interpolation, reference, opset, tmp_path):
    """Both round the pixels after each of the two axes, and so are up to one level away."""
    steps = mk.Preprocess(size=(24, 32), interpolation=interpolation)
    model = kept(identity(24, 32, opset=opset), tmp_path, preprocess=steps, example=photos(30, 50))
    assert str(model.signature.inputs[0]) == "images: uint8[n, height, width, 3]"
    for size in ((24, 32), (7, 9), (100, 31), (181, 333), (1, 1)):
        rows = photos(*size)
        got = model.predict(rows).transpose(0, 2, 3, 1) * 255
        assert np.abs(got - reference(rows, 24, 32)).max() <= 1.1


def test_the_shorter_side_is_resized_and_the_centre_kept(tmp_path):
    steps = mk.Preprocess(size=40, crop=(32, 24), **CHANNELS)
    model = kept(identity(32, 24), tmp_path, preprocess=steps, example=photos(50, 60))
    for size, resized in (((80, 60), (53, 40)), ((60, 81), (40, 54)), ((40, 40), (40, 40))):
        rows = photos(*size)
        top = round((resized[0] - 32) / 2)
        left = round((resized[1] - 24) / 2)
        expected = []
        for row in rows:
            whole = np.asarray(
                Image.fromarray(row).resize(resized[::-1], Image.Resampling.BILINEAR)
            )
            expected.append(whole[top : top + 32, left : left + 24])
        shares = (np.array(expected) / 255 - CHANNELS["mean"]) / CHANNELS["std"]
        got = model.predict(rows).transpose(0, 2, 3, 1)
        assert np.abs(got - shares).max() <= 1.01 / 255 / 0.224


@pytest.mark.parametrize("layout", ["NHWC->NCHW", "NCHW->NCHW", "NHWC->NHWC", "NCHW->NHWC"])
def test_every_layout_of_rows_and_network(layout, tmp_path):
    rows_layout, model_layout = layout.split("->")
    steps = mk.Preprocess(layout=layout, **CHANNELS)
    model = kept(network("h", "w", layout=model_layout), tmp_path, preprocess=steps)
    for size in ((5, 8), (9, 3)):
        images = photos(*size)
        rows = images if rows_layout == "NHWC" else images.transpose(0, 3, 1, 2)
        shares = (images / 255 - CHANNELS["mean"]) / CHANNELS["std"]
        np.testing.assert_allclose(model.run(rows)["mean"], shares.mean((1, 2)), atol=1e-5)


def test_a_preprocess_that_does_not_fit_is_refused(tmp_path):
    for steps, message in (
        (mk.Preprocess(size=(8, 9)), "makes images of 8 x 9"),
        (mk.Preprocess(size=8, mean=(0.5, 0.5)), "2 numbers"),
    ):
        with pytest.raises(ConversionError, match=message):
            kept(network(8, 8), tmp_path, preprocess=steps)
    with pytest.raises(ConversionError, match="set 11, and the graph has set 10"):
        kept(network(8, 8, opset=10), tmp_path, preprocess=mk.Preprocess())
    for said, message in (
        ({"layout": "HWC"}, "layout is one of"),
        ({"interpolation": "lanczos"}, "interpolation is one of"),
        ({"interpolation": "bicubic", "antialias": False}, "antialiased"),
        ({"size": (0, 3)}, "size is"),
        ({"crop": 3}, "crop= needs"),
        ({"size": 3, "crop": 4}, "more than size"),
        ({"std": 0}, "above 0"),
    ):
        with pytest.raises(ConversionError, match=message):
            mk.Preprocess(**said)


def test_integers_are_no_pixels_of_a_network_of_floats(tmp_path):
    """A network that was trained on 0 to 1 would answer nonsense to 0 to 255."""
    model = kept(network("h", "w"), tmp_path)
    floats = RNG.random((2, 3, 5, 5)).astype(np.float32)
    assert model.run(floats)["mean"].shape == (2, 3)
    for rows in (
        photos(3, 5),
        np.ones((2, 3, 5, 5), np.int64),
        np.ones((1, 3, 1, 1), np.uint8),
        {"images": np.ones((2, 3, 5, 5), np.uint16)},
        {"images": np.ones((2, 3, 5, 5), int).tolist()},
    ):
        with pytest.raises(SignatureError, match=r"mk\.Preprocess"):
            model.run(rows)
    with mk.Batcher(model) as batcher, pytest.raises(SignatureError, match=r"mk\.Preprocess"):
        batcher.run(np.ones((2, 3, 5, 5), np.int64))


def test_planes_of_bytes_are_refused_and_other_integers_are_not(tmp_path):
    """Three dimensions may be a series, which people write in integers."""
    proto = model_of(
        [("Identity", ["x"], ["y"], {})], [tensor("x", "n", 5, 5)], [tensor("y", "n", 5, 5)]
    )
    model = kept(proto, tmp_path)
    assert model.predict(np.ones((2, 5, 5), np.int64)).sum() == 50
    with pytest.raises(SignatureError, match=r"mk\.Preprocess"):
        model.predict(np.ones((2, 5, 5), np.uint8))


def test_sizes_that_a_graph_leaves_open_stay_open(tmp_path):
    proto = identity(-1, "width")
    model = kept(proto, tmp_path, example=RNG.random((2, 3, 6, 8)).astype(np.float32))
    assert model.signature.inputs[0].shape == ("n", 3, "images.2", "width")
    for size in ((1, 1), (4, 9), (60, 2)):
        assert model.predict(np.zeros((2, 3, *size), np.float32)).shape == (2, 3, *size)
