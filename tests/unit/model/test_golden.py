"""Golden rows: which are kept, and what they find out."""

import numpy as np
import pytest
from helpers.forge import members_of

import modelkit as mk
from modelkit.errors import IntegrityError, PackageError
from modelkit.model import golden


def test_golden_rows_can_be_given(boosting, breast_cancer, tmp_path):
    X, _ = breast_cancer
    mk.save(boosting, tmp_path / "m.mk", example=X, name="m", version="1", golden=X[:3])
    with mk.load(tmp_path / "m.mk") as model:
        feeds, outputs = golden.decode_golden(model.attachments["golden"], model.signature)
        np.testing.assert_array_equal(feeds["X"], X[:3].to_numpy(np.float32))
        np.testing.assert_array_equal(outputs["label"], boosting.predict(X[:3]))
        assert model.verify() == 0.0
        model.warmup()


def test_verify_notices_a_model_that_computes_something_else(dense_mk):
    from modelkit.runtimes.onnx import OnnxModel
    from modelkit.runtimes.packaged import Packaged

    whole = members_of(dense_mk.read_bytes())
    manifest = mk.inspect(dense_mk)
    weights = np.frombuffer(whole["model/model.onnx.data"], np.float32) * np.float32(1.01)
    changed = OnnxModel(
        whole["model/model.onnx"],
        manifest.signature,
        weights=memoryview(weights).cast("B"),
        packaged=Packaged(manifest, {"golden": memoryview(whole["golden.npz"])}),
    )
    with changed as model, pytest.raises(IntegrityError, match="golden rows differs by 0"):
        model.verify()
    with pytest.raises(PackageError, match="lacks golden rows"):
        mk.FunctionModel(lambda feeds: feeds, manifest.signature).verify()


def test_a_warm_up_of_too_many_bytes():
    rows = {"x": np.broadcast_to(np.float32(0), (4, 1 << 20))}
    golden.check_warmth(rows, 4, 256)
    with pytest.raises(PackageError, match="4096 golden rows"):
        golden.check_warmth(rows, 4, 4096)
