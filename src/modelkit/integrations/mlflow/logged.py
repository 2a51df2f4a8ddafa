"""A package as a model of MLflow: the file itself, what opens it, and what that needs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from modelkit.errors import SignatureError, UntrustedError, importing
from modelkit.integrations.mlflow.opened import beside_rows
from modelkit.model.manifest import Manifest
from modelkit.package.source import inspect
from modelkit.package.trust import installed
from modelkit.signature.signature import Signature
from modelkit.signature.spec import AS_OBJECTS, TensorSpec, numpy_dtype

LOADER = "modelkit.integrations.mlflow"
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
NEEDED = (*RUNTIMES, "numpy", "pandas")
# Where MLflow has no type of a width, the next that holds all values.
MLFLOW_TYPES = {
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "integer"),
    **dict.fromkeys(("int64", "uint32"), "long"),
    **dict.fromkeys(("float16", "float32"), "float"),
    "float64": "double",
    "bool": "boolean",
    "string": "string",
}


def log_model(package: str | os.PathLike[str], *, name: str | None = None, **options: Any) -> Any:
    """Log a package to MLflow, as a model that `mlflow.pyfunc` opens.

        from modelkit.integrations.mlflow import log_model
        log_model("churn.mk", registered_model_name="churn")

    Nothing is pickled: the model is the file itself, and MLflow opens it by `mk.load`. Numbers of
    the rows are declared as of any type, so a column of integers may have missing values;
    what fits is decided by the package's own signature.

    Args:
        package: the path of a package.
        name: the name of the logged model; by default the package's name, with "-" for the dots,
            which MLflow does not have there.
        options: further arguments of `mlflow.pyfunc.log_model`, such as `registered_model_name`. What stands in
            `metadata` and `model_config` is added to the package's own.

    Returns:
        MLflow's `ModelInfo`. Its metadata has the name, version and digests of the package.

    Raises:
        PackageError: if the file cannot be opened as a package; UntrustedError for one of joblib, which MLflow would
            unpickle wherever the model is opened, without asking.
        SignatureError: if MLflow cannot express the signature.
        TypeError: for anything but a path.
        MissingExtraError: if MLflow is not installed.
    """
    with importing("mlflow", LOADER):
        import mlflow
    manifest = inspect(_checked_path(package))
    if manifest.runtime == "joblib":
        raise UntrustedError(
            f"{manifest.name} {manifest.version} is pickled, and MLflow opens a model wherever it "
            'is served, without asking: save it with format="onnx", or log the estimator by '
            "mlflow.sklearn"
        )
    settings: dict[str, Any] = {
        "signature": model_signature(manifest.signature),
        "pip_requirements": requirements(),
    }
    # MLflow passes on only those settings that a logged model has, so that this one can be given
    # when it is opened.
    own: dict[str, dict[str, Any]] = {
        "metadata": {"modelkit": package_identity(manifest)},
        "model_config": {"digest": manifest.digest},
    }
    for setting, value in own.items():
        settings[setting] = _added(setting, options.pop(setting, None), value)
    with warnings.catch_warnings():
        # No rows are stored as an example: the signature is the package's own.
        warnings.filterwarnings("ignore", ".*input example was not provided")
        return mlflow.pyfunc.log_model(
            name=manifest.name.replace(".", "-") if name is None else name,
            loader_module=LOADER,
            data_path=str(Path(package).absolute()),
            **(settings | options),
        )


def _added(setting: str, given: Any, own: dict[str, Any]) -> dict[str, Any]:
    """What a caller gave with the package's own. Raises TypeError for anything but a dict."""
    if given is None:
        return own
    if not isinstance(given, Mapping):
        raise TypeError(
            f"log_model takes {setting} as a dict, to which {own} is added, not "
            f"{type(given).__name__}"
        )
    twice = [name for name in own if given.get(name, own[name]) != own[name]]
    if twice:
        raise TypeError(f"{setting} has {twice}, which log_model sets itself, to {own}")
    return {**given, **own}


def _checked_path(package: Any) -> str | os.PathLike[str]:
    """A path as it is. Raises TypeError for anything else."""
    if isinstance(package, str | os.PathLike):
        return package
    raise TypeError(
        "log_model takes the path of a package, which MLflow copies, not "
        f"{type(package).__name__}: write the package to a file first, as mk.save does"
    )


def package_identity(manifest: Manifest) -> dict[str, str]:
    """What a package is, by the names under which MLflow keeps it."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "model_digest": manifest.model_digest,
    }


def requirements() -> list[str]:
    """What a process needs to open a package, with the versions of this one."""
    found = {"modelkit-sdk": metadata.version("modelkit-sdk")}
    found |= installed(NEEDED)  # one of the two runtimes never is
    return [f"{library}=={version}" for library, version in found.items()]


def model_signature(signature: Signature) -> Any:
    """MLflow's form of a signature: named columns, or tensors where there are none.

    A column is declared as of any type, because each type of MLflow refuses rows that a model was
    trained on: "long" those with a missing value, "double" those without, "string" categories of
    pandas. Each is required: a column that is optional may be left out of the arguments of a
    `spark_udf`, which then fills it with missing values. A value of any type may be missing all the
    same. The parameter `outputs` names the outputs that a call wants.

    Raises:
        SignatureError: if columns and tensors are mixed, no output has a value a row, or MLflow
            lacks a type for an output.
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
            f"output {spec.name!r} is {dtype}, a type that MLflow lacks; save the model without it"
        )
    kind = DataType[MLFLOW_TYPES[dtype]]
    for _ in spec.shape[1:]:
        kind = Array(kind)
    return kind
