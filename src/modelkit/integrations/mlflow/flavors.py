"""Models that others logged to MLflow, as packages: nothing of them is unpickled unasked."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelkit.errors import ConversionError, ModelkitError, PackageError, UntrustedError, importing
from modelkit.integrations.mlflow.logged import LOADER
from modelkit.model.manifest import Manifest

FEATURE = "mlflow.import_model"
PICKLE = "pickle"
# What is made before it reads the file of a model; all are names of the library itself.
NATIVE_CLASSES = {
    "xgboost": (
        *("Booster", "XGBClassifier", "XGBRegressor", "XGBRanker"),
        *("XGBRFClassifier", "XGBRFRegressor"),
    ),
    "catboost": ("CatBoost", "CatBoostClassifier", "CatBoostRanker", "CatBoostRegressor"),
}
FLAVORS = ("onnx", "xgboost", "lightgbm", "catboost", "sklearn")
BOOSTER = "lightgbm.basic.Booster"


def import_model(
    uri: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    example: object,
    allow: Collection[str] = (),
    **options: Any,
) -> Manifest:
    """Write a model of MLflow as a package, after the proof of `mk.save` that both agree.

        from modelkit.integrations.mlflow import import_model
        import_model("models:/churn@champion", "churn.mk", example=X_train)

    The flavors onnx, xgboost, lightgbm and catboost are read from the files of these libraries, and
    a skops file by skops. None of these runs code from the model. What is pickled does, and needs
    your consent.

    Args:
        uri: such as "models:/churn@champion" or "runs:/.../model", or a local folder.
        path: where to write the package.
        example: rows as the model was trained on; a few hundred. The input example that MLflow may
            have stored has five rows, which prove too little.
        allow: "pickle" for a pickled model; for a skops file, each type that skops does not know,
            whatever the model says about it itself; for an ONNX model, domains of operators.
        options: others of `mk.save`, such as name and version.

    Returns:
        The manifest of the package.

    Raises:
        UntrustedError: with what you would have to allow, before anything of it is made.
        ConversionError: if no flavor of the model can be converted; its subclass ParityError if the
            package disagrees with the model.
        PackageError: if the model does not say where its file is, or names one outside of its
            folder, has links out of it, or has a file that its library cannot read.
        TypeError: if `allow` is a bare string.
        MissingExtraError: if MLflow, or the library of the flavor, is not installed.
    """
    if isinstance(allow, str):
        raise TypeError(f"allow is a collection of names, not the text {allow!r}")
    with importing("mlflow", FEATURE):
        from mlflow.artifacts import download_artifacts
        from mlflow.models import Model
    uri = os.fspath(uri)
    _check_links(uri)
    with TemporaryDirectory() as folder:
        root = Path(download_artifacts(artifact_uri=uri, dst_path=folder)).resolve()
        flavors = Model.load(str(root)).flavors
        flavor = next((name for name in FLAVORS if name in flavors), None)
        if flavor is None:
            _refuse_package(flavors)
            raise ConversionError(
                f"the model has the flavors {sorted(flavors)}, and those that can be converted are "
                f"{', '.join(FLAVORS)}"
            )
        with _reading(flavor):
            model = _read(flavor, flavors[flavor], root, allow)
        if flavor == "onnx":
            options = {**options, "allow": allow}
        # It needs onnx, which opening a logged package does not.
        from modelkit.package.save import save

        return save(model, path, example=example, **options)


def _refuse_package(flavors: Mapping[str, Any]) -> None:
    """Raise ConversionError for a model that is a package already, with the way back to it."""
    pyfunc = flavors.get("python_function", {})
    if pyfunc.get("loader_module") != LOADER:
        return
    raise ConversionError(
        "the model is a package of modelkit, as log_model logs it, so there is nothing to import: "
        "mlflow.artifacts.download_artifacts(uri) gives a folder, and the package is its file "
        f"{str(pyfunc.get('data'))!r}, which mk.load and Registry.register take"
    )


@contextmanager
def _reading(flavor: str) -> Iterator[None]:
    """What a library says to a file that is none of its own becomes a PackageError."""
    try:
        yield
    except ModelkitError:
        raise
    except Exception as error:
        raise PackageError(
            f"the flavor {flavor} of the model cannot be read ({type(error).__name__}: {error}); "
            "its file is damaged, or was written by a release of that library that this one does "
            "not read"
        ) from error


def _read(flavor: str, config: Mapping[str, Any], root: Path, allow: Collection[str]) -> Any:
    """What `mk.save` converts: a fitted model, or the path of a graph."""
    place = _inside(root, config.get("pickled_model" if flavor == "sklearn" else "data"))
    if flavor == "onnx":
        return place
    if flavor in NATIVE_CLASSES:
        return _from_native(flavor, config, place)
    if flavor == "lightgbm" and config.get("model_class", BOOSTER) == BOOSTER:
        with importing("lightgbm", FEATURE):
            return import_module("lightgbm").Booster(model_file=str(place))
    if config.get("serialization_format") == "skops":
        return _from_skops(place, allow)
    return _from_pickle(flavor, root, allow)


def _from_native(library: str, config: Mapping[str, Any], place: Path) -> Any:
    """A model of XGBoost or CatBoost that reads its own file.

    Raises UntrustedError for all but a few classes of the library.
    """
    if library == "xgboost":
        kind = str(config.get("model_class", "xgboost.core.Booster"))
        form = []
    else:
        kind = f"catboost.{config.get('model_type')}"
        form = [config.get("save_format", "cbm")]
    first, _, rest = kind.partition(".")
    name = rest.rpartition(".")[2]
    known = NATIVE_CLASSES[library]
    if first != library or name not in known:
        raise UntrustedError(
            f"the model wants to be a {kind!r}; of {library}, only {', '.join(known)} can be loaded"
        )
    with importing(library, FEATURE):
        model = getattr(import_module(library), name)()
    model.load_model(str(place), *form)
    return model


def _from_skops(place: Path, allow: Collection[str]) -> Any:
    """An estimator from a skops file. Raises UntrustedError with the types that you would allow."""
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
    """What MLflow itself unpickles. Raises UntrustedError without consent."""
    if PICKLE not in allow:
        raise UntrustedError(
            "the model is pickled, so that reading it runs whatever code is in it; if you trust "
            'its author, pass allow={"pickle"}'
        )
    return import_module(f"mlflow.{flavor}").load_model(str(root))


def _check_links(uri: str) -> None:
    """Raise PackageError for links out of a folder of this machine: a copy would follow them."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    folder = Path(local_file_uri_to_path(uri)).resolve()
    for place in folder.rglob("*"):
        if not place.resolve().is_relative_to(folder):
            raise PackageError(
                f"{place} is a link to {place.resolve()}, outside the folder of the model, whose "
                "contents would become part of the package; copy what belongs to the model into it"
            )


def _inside(root: Path, name: object) -> Path:
    """The file that a model names. Raises PackageError for none, and for one elsewhere."""
    place = (root / str(name)).resolve()
    if name is None or not place.is_file() or not place.is_relative_to(root):
        raise PackageError(f"the model names the file {name!r}, which is not in its folder")
    return place
