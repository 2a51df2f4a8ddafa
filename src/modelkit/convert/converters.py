"""How models of each library are converted: a library is added by a module of its own, and a branch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from modelkit.convert import boosting, graphs, sklearn, torch
from modelkit.convert.modules import is_module
from modelkit.convert.notes import Notes
from modelkit.convert.source import Source
from modelkit.errors import ConversionError

# The distributions whose versions a package records.
TRAINED_WITH = {
    "xgboost": ("scikit-learn", "xgboost", "xgboost-cpu"),
    "lightgbm": ("scikit-learn", "spox", "lightgbm"),
    "catboost": ("scikit-learn", "catboost"),
}
Ways = Sequence[Callable[[], Source]]


def conversions(model: Any, example: Any, notes: Notes) -> tuple[Ways, tuple[str, ...]]:
    """The conversions of a model in the order to try them, and the distributions that it is of.

    No library is imported to find out which it is of. Raises ConversionError for a model of none.
    """
    if is_module(model):
        return torch.conversions(model, example, notes), ("torch", "onnxscript")
    if sklearn.is_estimator(model) or boosting.is_booster(model):
        known = TRAINED_WITH.get(sklearn.package_of(model), ("scikit-learn", "spox"))
        return sklearn.conversions(model, example, notes), known
    if isinstance(model, graphs.FORMS):
        return [partial(graphs.from_onnx, model, example, notes)], ()
    name = type(model).__name__
    raise ConversionError(
        f"cannot save {name}; pass an estimator of scikit-learn, XGBoost, LightGBM or CatBoost, "
        "a torch module, or an ONNX model as path, bytes or ModelProto",
        step=name,
    )
