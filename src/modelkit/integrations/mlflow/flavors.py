"""Models that others logged to MLflow, as packages: nothing of them is unpickled unasked."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelkit.errors import ConversionError, PackageError, UntrustedError, importing
from modelkit.manifest import Manifest
from modelkit.package.save import save

FEATURE = "mlflow.import_model"
PICKLE = "pickle"
# What is made before it reads the file of a model; all are names of the library itself.
CLASSES = {
    "xgboost": (
        *("Booster", "XGBClassifier", "XGBRegressor", "XGBRanker"),
        *("XGBRFClassifier", "XGBRFRegressor"),
    ),
    "catboost": ("CatBoost", "CatBoostClassifier", "CatBoostRanker", "CatBoostRegressor"),
}
FLAVORS = ("onnx", "xgboost", "lightgbm", "catboost", "sklearn")


def import_model(
    uri: str,
    path: str | os.PathLike[str],
    *,
    example: object,
    name: str,
    version: str,
    allow: Collection[str] = (),
    **options: Any,
) -> Manifest:
    """Write a model of MLflow as a package, after the proof of `mk.save` that both agree.

    The flavors onnx, xgboost, lightgbm and catboost are read from the files of these libraries, and
    a skops file by skops. None of these runs code from the model. What is pickled does, and needs
    your consent.

    Args:
        uri: such as "models:/churn@champion" or "runs:/.../model", or a local folder.
        path: where to write the package.
        example: rows as the model was trained on; a few hundred. The input example that MLflow may
            have stored has five rows, which prove too little.
        name: see `mk.save`.
        version: see `mk.save`.
        allow: "pickle" for a pickled model; for a skops file, each type that skops does not know,
            whatever the model says about it itself; for an ONNX model, domains of operators.
        options: others of `mk.save`.

    Raises:
        UntrustedError: with what you would have to allow, and before anything of it is read.
        ConversionError: if no flavor of the model can be converted; its subclass ParityError if the
            package disagrees with the model.
        PackageError: if the model names a file outside of its folder.
        MissingExtraError: if MLflow, or the library of the flavor, is not installed.
    """
    with importing("mlflow", FEATURE):
        from mlflow.artifacts import download_artifacts
        from mlflow.models import Model
    with TemporaryDirectory() as folder:
        root = Path(download_artifacts(artifact_uri=uri, dst_path=folder)).resolve()
        flavors = Model.load(str(root)).flavors
        flavor = next((name for name in FLAVORS if name in flavors), None)
        if flavor is None:
            raise ConversionError(
                f"the model has the flavors {sorted(flavors)}, and those that can be converted are "
                f"{', '.join(FLAVORS)}"
            )
        model = _read(flavor, flavors[flavor], root, allow)
        if flavor == "onnx":
            options = {**options, "allow": allow}
        return save(model, path, example=example, name=name, version=version, **options)


def _read(
    flavor: str,
    told: Mapping[str, Any],
    root: Path,
    allow: Collection[str],
) -> Any:
    """What `mk.save` converts: a fitted model, or the path of a graph."""
    place = _inside(root, told["pickled_model" if flavor == "sklearn" else "data"])
    if flavor == "onnx":
        return place
    if flavor in CLASSES:
        return _boosted(flavor, told, place)
    booster = "lightgbm.basic.Booster"
    if flavor == "lightgbm" and told.get("model_class", booster) == booster:
        with importing("lightgbm", FEATURE, "boosting"):
            return import_module("lightgbm").Booster(model_file=str(place))
    if told.get("serialization_format") == "skops":
        return _from_skops(place, allow)
    return _from_pickle(flavor, root, allow)


def _inside(root: Path, told: str) -> Path:
    """The file that a model names. Raises PackageError for one outside of its folder."""
    place = (root / told).resolve()
    if not place.is_relative_to(root):
        raise PackageError(f"the model names the file {told!r}, which is outside of its folder")
    return place


def _boosted(
    library: str,
    told: Mapping[str, Any],
    place: Path,
) -> Any:
    """A model that reads its own file. Raises UntrustedError for all but a few classes."""
    if library == "xgboost":
        kind = told.get("model_class", "xgboost.core.Booster")
        form = []
    else:
        kind = f"catboost.{told['model_type']}"
        form = [told.get("save_format", "cbm")]
    first, _, rest = kind.partition(".")
    name = rest.rpartition(".")[2]
    if first != library or name not in CLASSES[library]:
        known = ", ".join(CLASSES[library])
        raise UntrustedError(
            f"the model wants to be a {kind!r}, which is none of {library}'s {known}"
        )
    with importing(library, FEATURE, "boosting"):
        model = getattr(import_module(library), name)()
    model.load_model(str(place), *form)
    return model


def _from_skops(place: Path, allow: Collection[str]) -> Any:
    with importing("skops", FEATURE):
        from skops import io
    kinds = io.get_untrusted_types(file=place)
    odd = sorted(kind for kind in kinds if kind not in allow)
    if odd:
        raise UntrustedError(
            f"the skops file holds types that skops does not know: {odd}; if you trust them, pass "
            f"allow={odd}"
        )
    return io.load(place, trusted=list(kinds))


def _from_pickle(flavor: str, root: Path, allow: Collection[str]) -> Any:
    if PICKLE not in allow:
        raise UntrustedError(
            "the model is pickled, so that reading it runs whatever code is in it; if you trust "
            'whoever wrote it, pass allow={"pickle"}'
        )
    module = import_module(f"mlflow.{flavor}")
    return module.load_model(str(root))
