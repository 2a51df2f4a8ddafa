"""torch modules as people have them: free sizes, half precision, compiled, tensors, frames, images."""

import subprocess
import sys
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.packages import kept

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
nn = torch.nn
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype(np.float32)
SERIES = RNG.normal(size=(6, 7, 4)).astype(np.float32)
IMAGES = RNG.normal(size=(5, 3, 16, 20)).astype(np.float32)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def answer(module, *rows):
    module.eval()
    with torch.no_grad():
        return module(*map(torch.as_tensor, rows))


def dense():
    return nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))


def convolution():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.linear = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        return self.linear(self.cells(x)[0][:, -1])


class Masked(nn.Module):
    """Tokens and their mask, whose lengths are one."""

    def __init__(self):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, ids, mask):
        states = self.embedding(ids) * mask[..., None]
        return self.linear(states.sum(1) / mask.sum(1, keepdim=True))


class Doubling(nn.Module):
    """Down and up again, beside what it came from: of even sizes only."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)

    def forward(self, x):
        return x + self.up(self.down(x))


@pytest.mark.parametrize(
    ("make", "example", "others"),
    [
        (convolution, IMAGES, [(2, 3, 9, 40), (1, 3, 33, 1)]),
        (Doubling, IMAGES, [(2, 3, 8, 40), (1, 3, 2, 2)]),
        (Recurrent, SERIES, [(2, 1, 4), (3, 30, 4)]),
        (lambda: nn.TransformerEncoderLayer(4, 2, batch_first=True), SERIES, [(2, 1, 4), (1, 50, 4)]),
    ],
    ids=["convolution", "down and up", "lstm", "transformer"],
)  # fmt: skip
def test_sizes_that_a_module_takes_are_free(make, example, others, tmp_path):
    module = make()
    model = kept(module, tmp_path, example)
    free = [size for size in model.signature.inputs[0].shape if isinstance(size, str)]
    assert len(free) == example.ndim - 1
    for shape in (example.shape, *others):
        rows = RNG.normal(size=shape).astype(np.float32)
        expected = answer(module, rows).numpy()
        np.testing.assert_allclose(model.predict(rows), expected, rtol=1e-4, atol=1e-5)


def test_tokens_and_their_mask_share_a_length(tmp_path):
    module = Masked()
    ids, mask = RNG.integers(0, 50, (8, 7)), np.ones((8, 7), np.float32)
    model = kept(module, tmp_path, (torch.from_numpy(ids), torch.from_numpy(mask)))
    assert [spec.shape for spec in model.signature.inputs] == [("batch", "ids.1")] * 2
    for length in (1, 7, 40):
        rows = {"ids": RNG.integers(0, 50, (3, length)), "mask": np.ones((3, length), np.float32)}
        expected = answer(module, rows["ids"], rows["mask"]).numpy()
        np.testing.assert_allclose(model.predict(rows), expected, atol=1e-5)
        tensors = {name: torch.from_numpy(array) for name, array in rows.items()}
        np.testing.assert_array_equal(model.predict(tensors), model.predict(rows))
    with pytest.raises(SignatureError, match=r"dimension 'ids\.1' is 4"):
        model.predict({"ids": ids[:, :4], "mask": mask[:, :5]})


class Branching(nn.Module):
    def forward(self, x):
        return x if x.shape[2] > 20 else -x


class Counting(nn.Module):
    def forward(self, x):
        return x * int(x.shape[3])


@pytest.mark.parametrize(
    ("make", "example"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 18, 3)), IMAGES),
        (Branching, IMAGES),
        (Counting, IMAGES),
        (nn.ReLU, X),
    ],
    ids=["flattened", "branching", "counting", "matrix"],
)  # fmt: skip
def test_sizes_that_a_graph_would_answer_otherwise_are_fixed(make, example, tmp_path):
    module = make()
    model = kept(module, tmp_path, example)
    assert model.signature.inputs[0].shape == ("batch", *example.shape[1:])
    np.testing.assert_allclose(model.predict(example), answer(module, example).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "rtol", "taken"), [("float16", 1e-2, "float16"), ("bfloat16", 5e-2, "float32")]
)
def test_half_precision_has_a_tolerance_of_its_own(dtype, rtol, taken, tmp_path):
    """numpy has no bfloat16, and a graph computes with such weights in float32."""
    module = dense().to(getattr(torch, dtype))
    tensor = torch.from_numpy(X).to(getattr(torch, dtype))
    model = kept(module, tmp_path, tensor)
    assert model.manifest.parity.rtol == rtol
    assert model.signature.inputs[0].dtype == model.signature.outputs[0].dtype == taken
    expected = answer(module, tensor).float().numpy()
    np.testing.assert_allclose(model.predict(X), expected, rtol=rtol, atol=rtol)
    assert next(module.parameters()).dtype == getattr(torch, dtype)


def test_compiled_parts_and_parallel_modules(tmp_path):
    module = dense()
    expected = answer(module, X).numpy()
    inside, whole = dense(), dense()
    for other in (inside, whole):
        other.load_state_dict(module.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        inside[0] = torch.compile(inside[0])
        whole.compile()
    for made in (inside, whole, nn.DataParallel(module)):
        model = kept(made, tmp_path, X)
        np.testing.assert_allclose(model.predict(X), expected, atol=1e-5)


def test_a_frame_names_the_columns_of_a_module(tmp_path):
    module = nn.Sequential(dense(), nn.Softmax(-1))
    frame = pd.DataFrame(X.astype(np.float64), columns=["a", "b", "c", "d"])
    model = kept(
        module,
        tmp_path,
        frame,
        classes=["no", "perhaps", "yes"],
        outputs={"probabilities": "output"},
    )
    shares = answer(module, X).numpy()
    np.testing.assert_allclose(model.predict_proba(frame[["d", "c", "b", "a"]]), shares, atol=1e-6)
    assert (model.predict(frame) == np.array(model.classes_)[shares.argmax(axis=1)]).all()
    assert model.manifest.parity.label_flips == 0
    assert str(model.signature) == (
        "(input: float32[batch, 4]) -> (label: string[batch]; probabilities: float32[batch, 3])"
    )
    binary = nn.Sequential(dense(), nn.Linear(3, 1), nn.Sigmoid())
    other = kept(binary, tmp_path, frame, classes=[0, 1], outputs={"probabilities": "output"})
    second = answer(binary, X).numpy().reshape(-1)
    np.testing.assert_allclose(other.predict_proba(frame)[:, 1], second, atol=1e-6)
    assert other.classes_.tolist() == [0, 1]
    named = kept(module, tmp_path, X, names=["a", "b", "c", "d"])
    np.testing.assert_allclose(named.predict(frame), shares, atol=1e-6)
    with pytest.raises(ConversionError, match="column 'd' of the example does not hold numbers"):
        kept(module, tmp_path, frame.assign(d="x"))


def test_what_a_module_answers_to_gaps_is_known_of_its_columns_too(tmp_path):
    class Counted(nn.Module):
        def forward(self, x):
            return torch.where(torch.isnan(x), torch.zeros(()), x).sum(1, keepdim=True)

    model = kept(Counted(), tmp_path, X, names=["a", "b", "c", "d"])
    assert all(column.nullable for column in model.signature.inputs[0].columns)
    assert model.predict([{"a": 1.0, "b": None, "c": 2.0, "d": 3.0}]).tolist() == [[6.0]]


@pytest.mark.parametrize(
    "steps",
    [
        mk.Preprocess(size=(16, 20), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        mk.Preprocess(size=(16, 20), interpolation="bicubic"),
        mk.Preprocess(size=18, crop=(16, 16)),
        mk.Preprocess(size=17, mean=0.5, std=0.5, antialias=False),
    ],
)
def test_images_go_in_as_they_are(steps, tmp_path):
    """The parity check compares with torch's own interpolation, for several sizes."""
    module = convolution()
    photos = RNG.integers(0, 256, (4, 30, 22, 3), dtype=np.uint8)
    model = kept(module, tmp_path, photos, preprocess=steps)
    spec = model.signature.inputs[0]
    assert (spec.dtype, spec.shape[0], spec.shape[3]) == ("uint8", "batch", 3)
    for height, width in ((30, 22), (61, 97), (5, 3)):
        rows = RNG.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        pixels = torch.from_numpy(rows).permute(0, 3, 1, 2).float()
        size = steps.size
        if isinstance(size, int):
            shorter = min(height, width)
            size = (height * size // shorter, width * size // shorter)
        if size is not None:
            for along in ((height, size[1]), size):
                pixels = nn.functional.interpolate(
                    pixels, along, mode=steps.interpolation, antialias=steps.antialias
                ).clamp(0, 255)
        if steps.crop is not None:
            top, left = (round((side - 16) / 2) for side in size)
            pixels = pixels[:, :, top : top + 16, left : left + 16]
        channels = [torch.tensor(value).reshape(-1, 1, 1) for value in (steps.mean, steps.std)]
        pixels = (pixels * steps.scale - channels[0]) / channels[1]
        expected = answer(module, pixels).numpy()
        np.testing.assert_allclose(model.predict(rows), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(SignatureError, match=r"uint8|integers"):
        model.predict(rows.astype(np.float32))


def test_an_example_of_a_preprocess_is_images(tmp_path):
    with pytest.raises(ConversionError, match="images as they come: uint8"):
        kept(convolution(), tmp_path, IMAGES, preprocess=mk.Preprocess())


def test_pixels_are_refused_where_floats_were_trained_on(tmp_path):
    model = kept(convolution(), tmp_path, IMAGES)
    with pytest.raises(SignatureError, match=r"preprocess=mk\.Preprocess"):
        model.predict((IMAGES * 40 + 128).astype(np.uint8))


def test_other_mistakes_are_told(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about scripts
        scripted = torch.jit.script(nn.Linear(4, 2))
    for module, example, message in (
        (scripted, X, "a scripted module"),
        (nn.Linear(4, 2), (X, X), "not arguments of forward"),
        (nn.Linear(4, 2), pd.DataFrame(X[:, :3]), "forward refuses"),
        (nn.Linear(4, 2), X.astype(np.float64), r"example=X\.astype\(np\.float32\)"),
    ):
        with pytest.raises(ConversionError, match=message):
            kept(module, tmp_path, example)
    assert list(tmp_path.iterdir()) == []


def test_a_module_in_use_keeps_its_mode_and_the_process_its_streams(tmp_path):
    """Its answer is asked for and exported meanwhile, which is when its forward looks around."""
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.utils.weight_norm(nn.Linear(4, 2))

        def forward(self, x):
            streams = sys.stdout is stdout and sys.stderr is stderr
            seen.append((live.training, live.inner.training, self is live, streams))
            return self.inner(x)

    stdout, stderr = sys.stdout, sys.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older weight_norm, whose weights cannot be copied
        live = Watching()
    live(torch.from_numpy(X))
    seen.clear()
    weights = [parameter.data_ptr() for parameter in live.parameters()]
    model = kept(live, tmp_path, X)
    assert set(seen) == {(True, True, False, True)}
    assert weights == [parameter.data_ptr() for parameter in live.parameters()]
    np.testing.assert_allclose(model.predict(X), answer(live, torch.from_numpy(X)), atol=1e-6)


def test_a_module_that_cannot_be_copied_is_saved_in_evaluation_mode(tmp_path):
    module = nn.Linear(4, 2)
    module.lock = threading.Lock()
    with pytest.raises(ConversionError, match=r"cannot be copied .*: call its eval\(\)"):
        kept(module, tmp_path, X)
    np.testing.assert_allclose(
        kept(module.eval(), tmp_path, X).predict(X), answer(module, torch.from_numpy(X)), atol=1e-6
    )


class Calling(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 4), function

    def forward(self, x):
        return self.function(self.linear(x))


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()

    def forward(self, x):
        return self.second(self.first(x).bfloat16()).float()


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(4, 8, proj_size=3, batch_first=True)

    def forward(self, x):
        return self.cells(x[:, None])[0][:, 0]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Calling(lambda x: x.median(1).values), r"no ONNX for the operator aten\.median"),
        (Calling(lambda x: torch.cumprod(x, 1)), r"no ONNX for the operator prims\.prod"),
        (Half(), r"Gemm.*in float32"),
        (Projected(), r"LSTM"),
    ],
    ids=["median", "cumprod", "bfloat16 inside", "LSTM with projections"],
)
def test_an_operator_that_is_lacking_is_named(module, words, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about projections
        with pytest.raises(ConversionError, match=words) as caught:
            kept(module, tmp_path, X)
    assert "joblib" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_exporter_prints_nothing(tmp_path):
    code = (
        "import numpy as np, torch, modelkit as mk\n"
        "module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1))\n"
        "rows = np.ones((4, 3, 8, 8), np.float32)\n"
        f"mk.save(module, {str(tmp_path / 'm.mk')!r}, example=rows, name='m', version='1')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
