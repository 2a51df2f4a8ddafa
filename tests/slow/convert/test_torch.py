"""Torch modules become packages whose batch dimension is open, or are refused with the reason."""

import warnings

import numpy as np
import pytest

import modelkit as mk
from modelkit.errors import BatchError, ConversionError, SignatureError
from modelkit.testing import check_model

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
nn = torch.nn
X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def save(module, path, example=X):
    return mk.save(module, path, example=example, name="m", version="1")


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.embedding = nn.Linear(4, 3), nn.Embedding(10, 4)

    def forward(self, x, ids):
        hidden = self.linear(x + self.embedding(ids).mean(1))
        return {"scores": hidden, "shares": hidden.softmax(-1)}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        sequence, (last, _) = self.lstm(x)
        return sequence, last[0]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("make", "example"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)), X),
        (lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh()), torch.from_numpy(X)),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), X[:, None, :, None] * X[:, None, None, :]),
        (lambda: nn.TransformerEncoderLayer(4, 2, batch_first=True), np.stack([X, 2 * X, X + 1], axis=1)),
        (Recurrent, np.stack([X, 2 * X, X + 1], axis=1)),
        (Two, {"x": X, "ids": np.arange(60).reshape(20, 3) % 10}),
    ],
    ids=["dropout", "batch norm", "convolution", "transformer", "lstm", "two inputs"],
)  # fmt: skip
def test_a_module_answers_alike_at_every_batch_size(make, example, tmp_path):
    module = make()
    manifest = save(module, tmp_path / "m.mk", example)
    assert manifest.parity.against.startswith("torch ")
    assert manifest.parity.batch_invariant
    assert manifest.signature.batch == "batch"
    module.eval()
    arrays = {
        k: np.asarray(v)
        for k, v in (
            example if isinstance(example, dict) else {manifest.signature.inputs[0].name: example}
        ).items()
    }
    with mk.load(tmp_path / "m.mk") as model:
        check_model(model, arrays, rtol=1e-3, atol=1e-5)
        for size in (1, 3, 17):
            rows = {name: array[:size] for name, array in arrays.items()}
            with torch.no_grad():
                expected = module(**{name: torch.from_numpy(array) for name, array in rows.items()})
            expected = expected if isinstance(expected, dict | tuple) else (expected,)
            for got, array in zip(
                model.run(rows).values(),
                expected.values() if isinstance(expected, dict) else expected,
                strict=True,
            ):
                np.testing.assert_allclose(got, array.numpy(), rtol=1e-4, atol=1e-5)


def test_the_mode_of_every_submodule_is_left_as_it_was(tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    module.train()
    module[2].eval()
    save(module, tmp_path / "m.mk")
    assert [part.training for part in module.modules()] == [True, True, True, False]


class Fixed(nn.Module):
    def forward(self, x):
        return x[:, :3].reshape(2, -1).reshape(-1, 3)


class Choosing(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (Fixed(), X, "fixed the batch dimension of .'output'"),
        (Choosing(), X, "cannot export Choosing with an open batch dimension"),
        (nn.Linear(4, 2), X.astype(np.float64), "forward refuses 20 rows .input float64"),
        (nn.Linear(4, 2), None, "pass example="),
        (nn.Linear(4, 2), X[:1], "at least two rows"),
        (nn.Linear(4, 2), {"z": X}, "not arguments of forward"),
    ],
)
def test_what_cannot_be_exported_is_refused(module, example, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        save(module, tmp_path / "m.mk", example)
    assert list(tmp_path.iterdir()) == []


class Sequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.linear = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        states, _ = self.cells(x)
        return self.linear(states[:, -1])


def test_what_is_not_finite_is_refused_where_the_graph_would_answer_otherwise(tmp_path):
    """torch answers NaN for a row with NaN in it, and the graph's LSTM a number."""
    rows = np.stack([X, 2 * X, X + 1], axis=1)
    manifest = save(Sequences(), tmp_path / "m.mk", rows)
    assert manifest.signature.inputs[0].finite
    assert mk.inspect(tmp_path / "m.mk").signature == manifest.signature
    model = mk.load(tmp_path / "m.mk")
    for value in (np.nan, np.inf, -np.inf):
        strange = rows.copy()
        strange[3, 1, 2] = value
        for given in (strange, strange.astype(np.float64), {"x": strange.tolist()}):
            with pytest.raises(SignatureError, match="row 3"):
                model.predict(given)
    assert model.verify() == 0
    assert model.predict(rows).shape == (20, 2)
    assert "refused" in model._repr_html_()


def test_what_is_not_finite_is_answered_where_the_graph_agrees(tmp_path):
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    manifest = save(module, tmp_path / "m.mk")
    assert not manifest.signature.inputs[0].finite
    strange = X.copy()
    strange[::2, 1], strange[1::2, 3] = np.nan, np.inf
    expected = module(torch.from_numpy(strange)).detach().numpy()
    np.testing.assert_allclose(mk.load(tmp_path / "m.mk").predict(strange), expected, atol=1e-5)


def test_each_input_is_asked_by_itself(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.linear = nn.GRU(4, 3, batch_first=True), nn.Linear(4, 3)

        def forward(self, series, fixed, ids):
            return self.cells(series)[0][:, -1] + self.linear(fixed) + ids

    rows = {"series": np.stack([X, X], axis=1), "fixed": X, "ids": np.arange(20)[:, None]}
    inputs = {
        spec.name: spec.finite for spec in save(Both(), tmp_path / "m.mk", rows).signature.inputs
    }
    assert inputs == {"series": True, "fixed": False, "ids": False}


def test_a_compiled_module_is_the_one_that_was_compiled(tmp_path):
    module = Two()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        compiled = torch.compile(module)
    example = {"x": X, "ids": np.arange(60).reshape(20, 3) % 10}
    manifest = save(compiled, tmp_path / "m.mk", example)
    assert manifest.parity.against == "torch Two"
    assert [spec.name for spec in manifest.signature.inputs] == ["x", "ids"]
    with mk.load(tmp_path / "m.mk") as model:
        answers = module(**{name: torch.from_numpy(array) for name, array in example.items()})
        np.testing.assert_allclose(
            model.run(example)["scores"], answers["scores"].detach().numpy(), atol=1e-5
        )


def test_a_module_that_refuses_one_row_is_refused(tmp_path):
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, track_running_stats=False))
    with pytest.raises(
        ConversionError,
        match=r"forward refuses 1 row .*give a normalisation over the batch running statistics",
    ):
        save(module, tmp_path / "m.mk")
    assert list(tmp_path.iterdir()) == []


class Looked(nn.Module):
    """Looks codes up in one of the ways that torch has."""

    def __init__(self, look_up):
        super().__init__()
        self.table, self.bag, self.linear = (
            nn.Embedding(8, 4),
            nn.EmbeddingBag(8, 4),
            nn.Linear(4, 2),
        )
        self.look_up = look_up

    def forward(self, codes):
        return self.linear(self.look_up(self, codes))


@pytest.mark.parametrize(
    "look_up",
    [
        lambda m, codes: m.table(codes).mean(1),
        lambda m, codes: m.table(codes[:, 0]) + m.table(codes[:, 1] * 2 - codes[:, 1]),
        lambda m, codes: m.bag(codes),
        lambda m, codes: torch.index_select(m.table.weight, 0, codes[:, 1]),
        lambda m, codes: torch.gather(m.table.weight[:, 0] + 0.0 * codes[:, :1], 1, codes).repeat(1, 2),
        lambda m, codes: nn.functional.one_hot(codes[:, 1], 8).float() @ m.table.weight,
        lambda m, codes: m.table.weight[codes[:, 1]],
    ],
    ids=["table", "computed", "bag", "index_select", "gather", "one_hot", "from the end"],
)  # fmt: skip
def test_an_index_that_torch_refuses_is_refused(look_up, tmp_path):
    module = Looked(look_up).eval()
    codes = np.arange(32).reshape(16, 2) % 8
    save(module, tmp_path / "m.mk", codes)
    with mk.load(tmp_path / "m.mk") as model:
        for code in (-1, 8, 7, -(2**40)):
            rows = codes[:5].copy()
            rows[3, 1] = code
            try:
                expected = module(torch.from_numpy(rows)).detach().numpy()
            except Exception:  # whatever torch calls it
                with pytest.raises((SignatureError, BatchError), match=r"row 3: |invalid index"):
                    model.predict(rows)
            else:
                assert np.allclose(model.predict(rows), expected, atol=1e-5)
