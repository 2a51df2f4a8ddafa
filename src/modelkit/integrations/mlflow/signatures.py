"""The signature of a package in the types of MLflow."""

from __future__ import annotations

from typing import Any

from modelkit.errors import SignatureError, importing
from modelkit.integrations.mlflow.opened import beside_rows
from modelkit.signature.signature import Signature
from modelkit.signature.spec import AS_OBJECTS, TensorSpec, numpy_dtype

# Where MLflow has no type of a width, the next that holds all values.
MLFLOW_TYPES = {
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "integer"),
    **dict.fromkeys(("int64", "uint32"), "long"),
    **dict.fromkeys(("float16", "float32"), "float"),
    "float64": "double",
    "bool": "boolean",
    "string": "string",
}


def model_signature(signature: Signature) -> Any:
    """MLflow's form of a signature: named columns, or tensors where there are none.

    A column is declared as of any type, because each type of MLflow refuses rows that a model was
    trained on: "long" those with a missing value, "double" those without, "string" categories of
    pandas. Each is required: a column that is optional may be left out of the arguments of a
    `spark_udf`, which then fills it with missing values. A value of any type may be missing all the
    same. The parameter `outputs` names the outputs that a call wants.

    Raises:
        SignatureError: if columns and tensors are mixed, no output has a value a row, or MLflow has
            no type for an output.
        MissingExtraError: if MLflow is not installed.
    """
    with importing("mlflow", "modelkit.integrations.mlflow"):
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    outputs = beside_rows(signature)
    names = [spec.name for spec in outputs]
    columns = [ColSpec(_mlflow_type(spec), spec.name) for spec in outputs]
    wanted = ParamSpec("outputs", DataType.string, default=names, shape=(-1,))
    return ModelSignature(
        inputs=_inputs(signature), outputs=Schema(columns), params=ParamSchema([wanted])
    )


def _inputs(signature: Signature) -> Any:
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    columns = []
    tensors = []
    for spec in signature.inputs:
        columns += [ColSpec(AnyType(), column.name) for column in spec.columns]
        if not spec.columns:
            shape = tuple(-1 if isinstance(size, str) else size for size in spec.shape)
            dtype = numpy_dtype(spec.dtype)
            tensors.append(TensorSpec(dtype, shape, spec.name))
    if columns and tensors:
        names = [spec.name for spec in signature.inputs]
        raise SignatureError(
            f"the inputs {names} mix columns and tensors without columns, which MLflow does not "
            "have in one signature"
        )
    return Schema(columns or tensors)


def _mlflow_type(spec: TensorSpec) -> Any:
    """The type of an output's value of a row, which is an array where it has several."""
    from mlflow.types import DataType
    from mlflow.types.schema import Array

    dtype = "string" if spec.dtype in AS_OBJECTS else spec.dtype
    if dtype not in MLFLOW_TYPES:
        raise SignatureError(
            f"output {spec.name!r} is {dtype}, for which MLflow has no type; save the model without "
            "it"
        )
    kind = DataType[MLFLOW_TYPES[dtype]]
    for _ in spec.shape[1:]:
        kind = Array(kind)
    return kind
