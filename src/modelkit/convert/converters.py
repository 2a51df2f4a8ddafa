"""The converters of trained models, asked in order: the first that owns a model converts it.

A library is added by a module with a Converter, and one line here.
"""

from __future__ import annotations

from modelkit.convert import graphs, sklearn, torch
from modelkit.convert.source import Converter
from modelkit.errors import ConversionError

CONVERTERS: tuple[Converter, ...] = (torch.CONVERTER, *sklearn.CONVERTERS, graphs.CONVERTER)


def converter_of(model: object) -> Converter:
    """The converter of a model. Raises ConversionError for a model of no known library."""
    for converter in CONVERTERS:
        if converter.owns(model):
            return converter
    name = type(model).__name__
    raise ConversionError(
        f"cannot save {name}; pass an estimator of scikit-learn, XGBoost, LightGBM or CatBoost, "
        "a torch module, or an ONNX model as path, bytes or ModelProto",
        step=name,
    )
