"""Packages in MLflow: logged without pickle, opened by its pyfunc, mirrored in its registry."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

from modelkit.errors import SignatureError, importing
from modelkit.manifest import Manifest
from modelkit.package.load import inspect
from modelkit.signature import Signature
from modelkit.spec import AS_OBJECTS

LOADER = "modelkit.integrations.mlflow"
DIGEST_VARIABLE = "MODELKIT_DIGEST"  # of the environment: the package that may be opened
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def log_model(
    package: str | os.PathLike[str],
    *,
    name: str | None = None,
    **options: Any,
) -> Any:
    """Log a package to the current run of MLflow, as a model that `mlflow.pyfunc` opens.

    Nothing is pickled: the model is the file itself, and MLflow opens it by `mk.load`. Numbers of
    the rows are declared as of any type, so that a column of integers may have missing values;
    what fits is decided by the package's own signature.

    Args:
        package: the path of a package.
        name: the name of the logged model; by default that of the package.
        options: those of `mlflow.pyfunc.log_model`, such as `registered_model_name`.

    Returns:
        MLflow's `ModelInfo`. Its metadata has the digest of the package.

    Raises:
        PackageError: if it is no package.
        MissingExtraError: if MLflow is not installed.
    """
    with importing("mlflow", LOADER):
        import mlflow
    manifest = inspect(package)
    settings = {
        "signature": model_signature(manifest.signature),
        "pip_requirements": requirements(),
        "metadata": {"modelkit": _identity(manifest)},
    }
    return mlflow.pyfunc.log_model(
        name=manifest.name if name is None else name,
        loader_module=LOADER,
        data_path=os.fspath(Path(package).absolute()),
        **(settings | options),
    )


def _identity(manifest: Manifest) -> dict[str, str]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "model_digest": manifest.model_digest,
    }


def requirements() -> list[str]:
    """What a process needs to open a package, with the versions of this one."""
    found = [f"modelkit-sdk=={metadata.version('modelkit-sdk')}"]
    for library in (*RUNTIMES, "numpy", "pandas"):
        try:
            found.append(f"{library}=={metadata.version(library)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def model_signature(signature: Signature) -> Any:
    """MLflow's form of a signature: named columns, or tensors where there are none."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType, DataType

    columns = []
    tensors = []
    for spec in signature.inputs:
        for column in spec.columns:
            kind = DataType.string if column.dtype in AS_OBJECTS else AnyType()
            columns.append(ColSpec(kind, column.name, required=kind is DataType.string))
        if not spec.columns:
            shape = tuple(-1 if isinstance(size, str) else size for size in spec.shape)
            tensors.append(TensorSpec(_numpy(spec.dtype), shape, spec.name))
    if columns and tensors:
        names = [spec.name for spec in signature.inputs]
        raise SignatureError(
            f"the inputs {names} mix columns and tensors without columns, which MLflow does not "
            "have in one signature"
        )
    return ModelSignature(inputs=Schema(columns or tensors))


def _numpy(dtype: str) -> Any:
    from modelkit.spec import numpy_dtype

    return numpy_dtype("string" if dtype in AS_OBJECTS else dtype)
