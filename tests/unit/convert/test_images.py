"""A Preprocess in front of a graph: images are resized as PIL and torch resize them."""

import numpy as np
import pytest
from helpers.examples import some
from helpers.graphs import model_of, tensor
from helpers.packages import kept

import modelkit as mk
from modelkit.convert.images import prepared
from modelkit.errors import ConversionError, SignatureError, UsageError

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)
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


@some("opset", [11, 13, 17, 21], 2)
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


@pytest.mark.parametrize("size", [(24, 32), 29])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_graph_gives_what_its_function_gives_for_arrays(size, interpolation, tmp_path):
    steps = mk.Preprocess(size=size, interpolation=interpolation, mean=0.5, std=0.2)
    model = kept(identity("h", "w"), tmp_path, preprocess=steps, example=photos(30, 50))
    for shape in ((30, 50), (100, 31), (3, 7)):
        rows = photos(*shape)
        np.testing.assert_allclose(model.predict(rows), prepared(rows, steps), atol=1e-5)


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
        with pytest.raises(UsageError, match=message):
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
