"""Write a package: convert, prove, and put one file in place in a single step."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from modelkit import golden as golden_rows
from modelkit.convert.boosting import as_estimator
from modelkit.convert.graph import (
    Source,
    from_onnx,
    opsets,
    read_proto,
    row_bytes,
    serialize,
    split_weights,
    take,
)
from modelkit.convert.parity import gate, open_signature
from modelkit.convert.sklearn import from_sklearn, is_estimator, number_dtypes
from modelkit.convert.torch import from_torch, is_module
from modelkit.errors import ConversionError, GraphError, ModelkitError, ParityError
from modelkit.manifest import FORMAT, Attachment, Manifest, Member, Parity, check_metadata, check_name
from modelkit.package import container, scan
from modelkit.package.load import GRAPH, MANIFEST, WEIGHTS, WEIGHTS_NAME
from modelkit.runtimes.onnx import OnnxModel
from modelkit.signature import Feeds, Signature

LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu")  # those that every package is made with
TRAINED_WITH = {  # and those of its source, by the name that parity has for it
    "scikit-learn": ("scikit-learn", "skl2onnx"),
    "XGBoost": ("scikit-learn", "skl2onnx", "onnxmltools", "xgboost", "xgboost-cpu"),
    "LightGBM": ("scikit-learn", "skl2onnx", "onnxmltools", "lightgbm"),
    "CatBoost": ("catboost",),
    "torch": ("torch", "onnxscript"),
}


def save(  # noqa: PLR0913 - what the design names, all but two by keyword
    model: object,
    path: str | os.PathLike[str],
    *,
    example: object = None,
    name: str,
    version: str,
    golden: object = None,
    profile: Any = None,
    background: object = None,
    metadata: dict[str, Any] | None = None,
) -> Manifest:
    """Convert a trained model, prove that the result agrees with it, and write one package file.

    The file appears whole or not at all: it is written beside `path` and renamed over it. Equal inputs and
    library versions give equal bytes. No row of `example` is stored.

    Args:
        model: a fitted scikit-learn estimator or pipeline; an XGBoost, LightGBM or CatBoost model; a torch module;
            or an ONNX model as a path, bytes or ModelProto.
        path: where to write; an existing file is replaced.
        example: rows as `fit` was given, or as a module's `forward` takes them, at most 2,048 of which are
            compared. Needed for everything but ONNX models.
        name: lower-case letters, digits and '._-', at most 64.
        version: letters, digits and '.+_-', at most 64.
        golden: rows to store and replay in `Model.verify`; drawn at random by default.
        profile: a `Profile` of the rows the model was trained on, which `Monitor` then compares served rows with.
        background: rows that explanations are relative to, a few hundred typical ones. They are stored as they are:
            whoever can read the package can read these rows.
        metadata: a dict of JSON values to keep in the manifest: where the data came from, a metric, an owner.

    Returns:
        The manifest that was written; `manifest.digest` identifies the package.

    Raises:
        ConversionError: if the model cannot be converted; its subclass ParityError if the graph disagrees.
        ManifestError: if name, version or metadata is not allowed.
        GraphError: if an ONNX model uses what a package may not contain.
        DriftError: if the profile has other columns than the model takes.
    """
    check_name(name, version)
    kept = check_metadata({} if metadata is None else metadata)
    proven = _prove(model, example)
    npz = golden_rows.MEDIA_TYPE
    attached = [(golden_rows.NAME, npz, _golden(proven, golden))]
    if background is not None:
        attached.append(("background", npz, golden_rows.encode(proven.signature.coerce(background), {})))
    if profile is not None:
        attached.append(profile.to_attachment(proven.signature))
    members: container.Members = {GRAPH: proven.graph}
    if proven.weights:
        members[WEIGHTS] = proven.weights
    members |= {f"{key}.npz": data for key, _, data in attached}
    proto = proven.source.proto
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        signature=proven.signature,
        opsets=opsets(proto),
        row_bytes=row_bytes(proto),
        parity=proven.parity,
        versions=_versions(proven.parity.against),
        files=tuple(Member(p, len(data), hashlib.sha256(data).hexdigest()) for p, data in members.items()),
        attachments=tuple(Attachment(key, f"{key}.npz", media) for key, media, _ in attached),
        metadata=kept,
    )
    raw = manifest.to_json()
    _write(Path(path), {MANIFEST: raw, **members})
    return Manifest.from_json(raw)


@dataclass(frozen=True)
class _Proven:
    """A graph that agrees with its source, in the bytes that will be written."""

    source: Source
    graph: bytes
    weights: bytes
    signature: Signature
    parity: Parity

    def model(self) -> OnnxModel:
        return _build(self.graph, self.weights, self.signature)


def _build(graph: bytes, weights: bytes, signature: Signature) -> OnnxModel:
    return OnnxModel(graph, signature, weights=memoryview(weights) if weights else None)


def _prove(model: object, example: object) -> _Proven:
    """The first of the ways to convert a model that the runtime takes and the gate passes.

    Raises what the gate said where one came that far, for that says most about the model.
    """
    refusals: list[Exception] = []
    for convert in _ways(model, example):
        try:
            source = convert()
            weights = split_weights(source.proto, WEIGHTS_NAME)
            graph = serialize(source.proto)
            scan.check(graph, WEIGHTS_NAME, len(weights) if weights else None)
            signature, parity = gate(source, partial(_build, graph, weights), _example_feeds(source))
        except (ConversionError, GraphError) as error:
            refusals.append(error)
        else:
            return _Proven(source, graph, weights, signature, parity)
    raise next((error for error in refusals if isinstance(error, ParityError)), refusals[0])


def _ways(model: object, example: object) -> list[Callable[[], Source]]:
    model = as_estimator(model)
    if is_module(model):
        return [partial(from_torch, model, example)]
    if is_estimator(model):
        return [partial(from_sklearn, model, example, numbers) for numbers in number_dtypes(model)]
    proto = read_proto(model)
    if proto is None:
        raise ConversionError(
            f"cannot save a {type(model).__name__}; pass an estimator of scikit-learn, XGBoost, LightGBM or "
            f"CatBoost, a torch module, or an ONNX model as path, bytes or ModelProto",
            step=type(model).__name__,
        )
    return [partial(from_onnx, proto, example)]


def _example_feeds(source: Source) -> Feeds | None:
    """The example as tensors, for a graph that came without a source; random ones where there is no example."""
    if source.truth is not None:
        return open_signature(source.signature).coerce(take(source.rows, 512))
    if source.rows is not None:
        return source.signature.coerce(source.rows)
    return golden_rows.draw(source.signature, None)


def _golden(proven: _Proven, rows: object) -> bytes:
    signature = proven.signature
    example = _example_feeds(proven.source) if rows is None else None
    feeds = golden_rows.draw(signature, example) if rows is None else signature.coerce(rows)
    with proven.model() as model:
        try:
            outputs = model.run(signature.columns(feeds))
        except ModelkitError:
            raise
        except Exception as error:
            raise ConversionError(
                f"the graph does not run on rows drawn for its signature {signature}: {error}; "
                f"pass example= or golden= with rows it accepts"
            ) from error
    return golden_rows.encode(feeds, outputs)


def _versions(against: str | None) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in (*LIBRARIES, *TRAINED_WITH.get((against or "").partition(" ")[0], ())):
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _write(path: Path, members: Mapping[str, Any]) -> None:
    """Write beside the target, flush to disk, rename over it: a reader sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in container.write(dict(members), aligned=frozenset({WEIGHTS})):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 - mkstemp gives 0600; a package is for others to read
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
