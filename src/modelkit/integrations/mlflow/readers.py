"""Fitted models from the files in which MLflow keeps them, each in the way of its library."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from modelkit.errors import UntrustedError, importing

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


def from_native(library: str, told: Mapping[str, Any], place: Path) -> Any:
    """A model of XGBoost or CatBoost that reads its own file.

    Raises UntrustedError for all but a few classes of the library.
    """
    if library == "xgboost":
        kind = str(told.get("model_class", "xgboost.core.Booster"))
        form = []
    else:
        kind = f"catboost.{told.get('model_type')}"
        form = [told.get("save_format", "cbm")]
    first, _, rest = kind.partition(".")
    name = rest.rpartition(".")[2]
    known = NATIVE_CLASSES[library]
    if first != library or name not in known:
        raise UntrustedError(
            f"the model wants to be a {kind!r}, which is none of {library}'s {', '.join(known)}"
        )
    with importing(library, FEATURE):
        model = getattr(import_module(library), name)()
    model.load_model(str(place), *form)
    return model


def lightgbm_booster(place: Path) -> Any:
    """A Booster of LightGBM from its text."""
    with importing("lightgbm", FEATURE):
        return import_module("lightgbm").Booster(model_file=str(place))


def from_skops(place: Path, allow: Collection[str]) -> Any:
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


def from_pickle(flavor: str, root: Path, allow: Collection[str]) -> Any:
    """What MLflow itself unpickles. Raises UntrustedError without consent."""
    if PICKLE not in allow:
        raise UntrustedError(
            "the model is pickled, so that reading it runs whatever code is in it; if you trust "
            'its author, pass allow={"pickle"}'
        )
    return import_module(f"mlflow.{flavor}").load_model(str(root))
