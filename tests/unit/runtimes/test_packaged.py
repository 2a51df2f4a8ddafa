"""Pickles open the package again as it was asked for; copies are the same Model."""

import copy
import pickle

import numpy as np
import pytest

import modelkit as mk
from modelkit.errors import ClosedError, IntegrityError


def rows_for(model, count=64):
    (spec,) = model.signature.inputs
    return np.random.default_rng(0).normal(size=(count, spec.shape[1])).astype(np.float32)


def test_a_pickle_opens_the_package_again_as_it_was_asked_for(boosting_mk, monkeypatch):
    monkeypatch.chdir(boosting_mk.parent)
    with mk.load(boosting_mk.name, device=["cuda:7", "cpu"], threads=3) as model:
        data = pickle.dumps(model)
        x = rows_for(model)
        expected = model.predict(x)
    assert len(data) < 1000
    monkeypatch.chdir("/")
    with pickle.loads(data) as model:
        assert model.manifest == mk.inspect(boosting_mk)
        assert model.placement.threads == 3
        np.testing.assert_array_equal(model.predict(x), expected)
        assert pickle.dumps(model) == data


def test_a_file_that_changed_is_not_unpickled(boosting_mk, penguins_mk, tmp_path):
    path = tmp_path / "model.mk"
    path.write_bytes(boosting_mk.read_bytes())
    with mk.load(path, device="cpu") as model:
        data = pickle.dumps(model)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(data)
    path.write_bytes(penguins_mk.read_bytes())
    with pytest.raises(IntegrityError, match="not the"):
        pickle.loads(data)


def test_what_has_no_path_is_not_pickled(boosting_mk):
    with boosting_mk.open("rb") as file:
        sources = [boosting_mk.read_bytes(), memoryview(boosting_mk.read_bytes()), file]
        for source in sources:
            with (
                mk.load(source) as model,
                pytest.raises(TypeError, match="write the package to a file"),
            ):
                pickle.dumps(model)


def test_what_is_closed_is_not_pickled(boosting_mk):
    model, function = mk.load(boosting_mk), mk.FunctionModel(double, SIGNATURE, batchable=True)
    batcher = mk.Batcher(function, plan="learn")
    for closed in (model, batcher, function):
        closed.close()
        with pytest.raises(ClosedError, match="cannot be pickled"):
            pickle.dumps(closed)


def test_copies_are_the_same_model(boosting_mk):
    with mk.load(boosting_mk.read_bytes()) as model, mk.Batcher(model, plan="learn") as batcher:
        for shared in (model, batcher):
            assert copy.copy(shared) is shared
            assert copy.deepcopy([shared])[0] is shared


SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float32", ("n", 2)),), (mk.TensorSpec("y", "float32", ("n", 2)),)
)


def double(feeds):
    return {"y": feeds["x"] * 2}


def test_a_function_model_is_pickled_if_its_function_is():
    x = np.ones((3, 2), np.float32)
    model = pickle.loads(pickle.dumps(mk.FunctionModel(double, SIGNATURE, batchable=True)))
    assert model.batchable
    np.testing.assert_array_equal(model.predict(x), 2 * x)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(mk.FunctionModel(lambda feeds: feeds, SIGNATURE))
