"""A package as `mlflow.pyfunc` opens and calls it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import IntegrityError, SignatureError, importing
from modelkit.model.model import Model
from modelkit.package.load import load
from modelkit.package.source import inspect, plain_digests
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec

DIGEST_VARIABLE = "MODELKIT_DIGEST"  # of the environment: the package that may be opened


@final
class PackagePyfunc:
    """A Model with the one method that MLflow calls."""

    def __init__(self, model: Model) -> None:
        with importing("pandas", "modelkit.integrations.mlflow", "frames"):
            from pandas import DataFrame, Index, Series
        self._model = model
        self._frame = DataFrame
        self._series = Series
        self._outputs = [spec.name for spec in beside_rows(model.signature)]
        self._names = Index(self._outputs)

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A frame with a column an output, under the index of the rows; texts are objects.

        Args:
            rows: what MLflow let pass: a frame, or arrays by name.
            params: "outputs" names those that are wanted; by default, all with a value a row.

        Raises SignatureError for rows that do not fit, and for unknown outputs.
        """
        wanted = self._wanted(params or {})
        found = self._model.run(rows)
        columns = {name: cells_of(found[name]) for name in wanted}
        index = rows.index if hasattr(rows, "iloc") else None
        names = self._names if wanted == self._outputs else wanted
        return self._framed(columns, names, index)

    def _framed(self, columns: Mapping[str, Array], names: Any, index: Any) -> Any:
        """Columns as a frame, each of the dtype that it has, which is not found out value by value."""
        kinds = {values.dtype for values in columns.values()}
        if len(kinds) == 1:
            block = one_block(columns, *kinds)
            return self._frame(block, index, names, *kinds, copy=False)
        series = {}
        for name, values in columns.items():
            series[name] = self._series(values, index, values.dtype)
        return self._frame(series, copy=False)

    def _wanted(self, params: Mapping[str, Any]) -> list[str]:
        """The outputs that a call names. Raises SignatureError for unknown ones."""
        asked = params.get("outputs")
        wanted = self._outputs if asked is None else [*dict.fromkeys(asked)]
        if wanted == self._outputs:
            return wanted
        if not wanted or not set(wanted) <= set(self._outputs):
            raise SignatureError(f"outputs={wanted}, and the model has {self._outputs}")
        return wanted


def cells_of(values: Array) -> Array:
    """The values of an output, one a row, (n,): several of a row are one object, an array."""
    if values.ndim == 1:
        return values
    return np.fromiter(values, object, len(values))


def one_block(columns: Mapping[str, Array], dtype: np.dtype[Any]) -> Array:
    """Columns of one dtype as one array, (n, width): a frame of one is made in half the time."""
    block = np.empty((max(map(len, columns.values())), len(columns)), dtype)
    for j, values in enumerate(columns.values()):
        block[:, j] = values
    return block


def open_logged(path: str, model_config: Mapping[str, Any] | None = None) -> PackagePyfunc:
    """Open the package of a logged model; MLflow calls this.

    A digest in the environment variable MODELKIT_DIGEST, and one in `model_config`, each have to be
    the package's. What MLflow stored itself is not a trust: who can change the package there can
    change the digest beside it.

    Raises PackageError; IntegrityError for another digest, and for a logged model that has lost the
    setting "digest", without which MLflow would drop yours.
    """
    digest = inspect(path).digest
    for where, wanted in _pins(model_config or {}).items():
        if not isinstance(wanted, str) or not wanted:
            raise IntegrityError(f"{where} is set and empty, which pins nothing", got=digest)
        if digest not in plain_digests(wanted):
            raise IntegrityError(
                f"the package has digest {digest}, and {where} asks for {wanted}",
                expected=wanted,
                got=digest,
            )
    return PackagePyfunc(load(path, digest=digest))


def _pins(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """The digests that are asked for, by where they stand."""
    if "digest" not in model_config:
        raise IntegrityError(
            "the logged model lacks the setting 'digest', so MLflow passes on none of yours: its "
            "MLmodel was changed, or written by other means; log the package by log_model"
        )
    pins = {"model_config": model_config["digest"]}
    if DIGEST_VARIABLE in os.environ:
        pins[DIGEST_VARIABLE] = os.environ[DIGEST_VARIABLE]
    return pins


def beside_rows(signature: Signature) -> list[TensorSpec]:
    """The outputs that have a value for each row.

    Raises SignatureError where there is none.
    """
    rows = signature.row_dim
    found = [spec for spec in signature.outputs if rows is not None and spec.shape[:1] == (rows,)]
    if not found:
        raise SignatureError(
            f"none of the outputs {list(signature.output_names)} has a value for each row, and "
            "MLflow answers with a frame"
        )
    return found
