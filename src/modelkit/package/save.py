"""Write a package: convert, prove, and put one file in place in a single step."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modelkit._internal.npz import MEDIA_TYPE
from modelkit._internal.progress import bars
from modelkit.convert.asking import on_one_thread
from modelkit.convert.notes import Equivalents, NamesByInput, Notes
from modelkit.convert.preprocess import Preprocess
from modelkit.convert.sklearn import is_estimator
from modelkit.embedding.over_tokens import OverTokens
from modelkit.errors import ConversionError, SignatureError, UsageError, importing
from modelkit.model.golden import GOLDEN, encode_rows
from modelkit.model.manifest import FORMAT, Manifest, check_metadata, check_name, check_stated
from modelkit.model.model import Model
from modelkit.model.privacy import PrivacyClaim, check_privacy
from modelkit.package import draws, trust
from modelkit.package.attach import NewAttachment, new_attachments, with_attachments
from modelkit.package.contents import read_options
from modelkit.package.proven import Proven, run_first
from modelkit.package.write import check_target, member_of, write_package
from modelkit.signature.signature import Feeds, Signature, coerce_as

LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu")  # those that write every package
FORMATS = ("onnx", "joblib")


def save(
    model: object,
    path: str | os.PathLike[str],
    *,
    example: object = None,
    name: str | None = None,
    version: str = "0",
    format: str = "onnx",  # noqa: A002 - the name that the design fixes
    golden: object = None,
    profile: Any = None,
    background: object = None,
    metadata: dict[str, Any] | None = None,
    licence: str = "",
    owners: Sequence[str] = (),
    privacy: PrivacyClaim | dict[str, Any] | None = None,
    allow: Collection[str] = (),
    names: NamesByInput | None = None,
    classes: Sequence[Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    preprocess: Preprocess | None = None,
    converters: Equivalents | None = None,
    nullable: bool | Collection[str] | None = None,
    progress: bool | None = None,
) -> Manifest:
    """Convert a trained model, prove that the result agrees with it, and write one package file.

        manifest = mk.save(pipeline, "churn.mk", example=X_train, version="1.1.0")
        print(manifest.parity)

    The file appears whole or not at all: it is written beside `path` and renamed over it. Equal
    inputs and library versions give equal bytes. No row of `example` is stored.

    Args:
        model: a fitted scikit-learn estimator or pipeline; an XGBoost, LightGBM or CatBoost model;
            a torch module; an ONNX model as a path, bytes or ModelProto; or a TextEncoder or a
            Reranker.
        path: where to write, such as "churn.mk"; an existing file is replaced. If it is a symbolic
            link, the link stays, and the file that it names is replaced or created.
        example: rows in the form that you passed to `fit`, or that a module's `forward` takes; at
            most 2,048 of them are compared. Required, except for ONNX models, encoders and
            rerankers. For these, reference answers to compare with: {"text": n strings,
            "embedding": (n, d) vectors of another implementation}, or {"query": n strings, "text":
            n strings, "score": (n,) scores}.
        name: lower-case letters, digits and '._-', at most 64; by default the name of the
            file without its suffix.
        version: a text of letters, digits and '.+_-', at most 64.
        format: "onnx"; or "joblib" to pickle a fitted estimator as it is, where it cannot be
            converted. Such a package needs the same libraries in the same versions, and runs code
            when it is opened: see `load`.
        golden: rows to store and replay in `Model.verify`; drawn at random by default.
        profile: a `Profile` of the rows the model was trained on, which `Monitor` then compares
            served rows with.
        background: rows that explanations are relative to, a few hundred typical ones. They are
            stored as they are: whoever can read the package can read these rows.
        metadata: a dict of JSON values to keep in the manifest: where the data came from, a metric,
            a ticket.
        licence: the terms of use: an SPDX expression such as "Apache-2.0 OR MIT", or one line of
            text, at most 200 characters.
        owners: who is responsible for the model, such as ["imaging <imaging@example.org>"]: one
            line of text each, at most 200 characters.
        privacy: what you claim about the training, if it was differentially private: a dict, or a
            `types.PrivacyClaim`, of epsilon, delta and mechanism. It is shown "as claimed", because
            it is not checked.
        allow: domains of operators that an ONNX model may use beyond the default ones; you must
            then pass them to `load` too.
        names: the columns of an ONNX graph or a torch module: a list for its only input of two
            dimensions, a dict of lists by input for several. An example with column names has the
            same effect.
        classes: the labels of an ONNX graph or a torch module, in the order of its output
            `probabilities`; if it lacks `label`, the package adds it, with the most probable one.
        outputs: new names for outputs of an ONNX graph or a torch module, from new to old, such as
            {"probabilities": "output_1"}.
        preprocess: how images of integers become the input of an ONNX graph or a torch module, as a
            part of the graph; the example is then such images.
        converters: for classes of estimators that lack a converter, a function of the fitted
            estimator, such as {Winsorizer: function}. It returns a fitted estimator with the same
            answers that has a converter, such as a FunctionTransformer. Both are compared, as in
            any conversion.
        nullable: the names of the columns that may be missing, or False for none: the package
            refuses missing values, and infinities, in all others. By default, a column may be
            missing if the model was shown to answer then, as a forest does in any case. A model
            that refuses missing values, such as a linear one, cannot replace it later.
        progress: show a bar; by default in a notebook.

    Returns:
        The manifest that was written; `manifest.digest` identifies the package.

    Raises:
        ConversionError: if the model cannot be converted; its subclass ParityError if the graph
            disagrees.
        GraphError: if an ONNX model uses something that a package may not contain.
        UsageError: if an argument is out of range or does not go with the kind of model, the profile
            has other columns than the model takes, or the file has the suffix of another format,
            such as ".onnx" or ".pkl".
        MissingExtraError: if onnx, or the converter for the model's library, is not installed.
    """
    path = Path(path)
    check_target(path)
    stated = _stated(path, name, version, metadata, licence, owners, privacy)
    domains = trust.check_allow(allow) - {trust.JOBLIB}
    notes = Notes(names, classes, outputs, preprocess, converters)
    wanted = _listed_columns(nullable)
    with bars(progress, "save"), on_one_thread(model):
        proven = _prove(format, model, example, golden, domains, notes)
        if wanted is not None:
            proven = _with_nullable(proven, wanted)
        feeds, replayed = _golden(proven, golden)
    added = [NewAttachment(GOLDEN, MEDIA_TYPE, replayed)]
    added += new_attachments(proven.signature, profile=profile, background=background)
    members = dict(proven.members)
    manifest = Manifest(**stated, **_described(proven, feeds))
    read_options(manifest)
    return write_package(path, with_attachments(manifest, members, added), members)


def _stated(
    path: Path,
    name: str | None,
    version: str,
    metadata: dict[str, Any] | None,
    licence: str,
    owners: Sequence[str],
    privacy: PrivacyClaim | dict[str, Any] | None,
) -> dict[str, Any]:
    """The fields of a manifest that its author states. Raises UsageError, and TypeError."""
    name = path.stem if name is None else name
    check_name(name, version)
    check_stated(licence, owners)
    return {
        "name": name,
        "version": version,
        "metadata": check_metadata(metadata or {}),
        "licence": licence,
        "owners": tuple(owners),
        "privacy": check_privacy(privacy),
    }


def _prove(
    format: str,  # noqa: A002
    model: object,
    example: object,
    golden: object,
    domains: Collection[str],
    notes: Notes,
) -> Proven:
    """The model in the bytes of a package.

    Raises ConversionError, or its subclass ParityError, for a model that cannot be saved, and
    GraphError for what a package may not hold.
    """
    with importing("onnx", "saving a model", "save"):
        import onnx  # noqa: F401 - what converts needs it
    from modelkit.package import encoders, graphs, pickled

    if format not in FORMATS:
        raise UsageError(
            f"format {format!r} is unknown; use 'onnx', or 'joblib' for a model that cannot be "
            "converted"
        )
    if isinstance(model, type):
        name = model.__name__
        raise ConversionError(
            f"{name} is a class, not a model: make an instance, fit it, and save that", step=name
        )
    if not all(isinstance(kind, type) for kind in notes.converters or {}) or not isinstance(
        notes.converters, Mapping | None
    ):
        raise UsageError(
            "converters= is a dict from classes to functions of their fitted objects: pass one such as "
            f"{{Ratio: ratio_of}}; got {notes.converters!r:.80}"
        )
    if notes.converters is not None and (format != "onnx" or not is_estimator(model)):
        raise UsageError(
            "converters= says what classes of estimators compute, and is for estimators with format='onnx'; "
            "leave it out"
        )
    if format == "joblib":
        notes.refuse("an estimator")
        return pickled.prove_estimator(model, example)
    if isinstance(model, OverTokens):
        notes.refuse("an encoder or a reranker")
        return encoders.prove_encoder(model, example, domains)
    return graphs.prove_graph(model, example, golden, domains, notes)


def _listed_columns(nullable: Any) -> set[str] | None:
    """The columns that `nullable=` names; None where it says nothing. Raises UsageError."""
    if nullable is None:
        return None
    names = () if nullable is False else nullable
    listed = isinstance(names, Collection) and not isinstance(names, str | bytes)
    if not listed or not all(isinstance(name, str) for name in names):
        raise UsageError(
            "nullable= is a list of the columns that may be missing, or False for none, not "
            f"{nullable!r:.80}; leave it out for all in which the model answers"
        )
    return set(names)


def _with_nullable(proven: Proven, wanted: set[str]) -> Proven:
    """A model that takes missing values in these columns only. Raises UsageError."""
    signature = proven.signature
    able = {spec.name for spec in signature.inputs if not (spec.columns or spec.finite)}
    inputs = []
    for spec in signature.inputs:
        able |= {column.name for column in spec.columns if column.nullable}
        columns = tuple(
            column if column.name in wanted else replace(column, nullable=False, finite=False)
            for column in spec.columns
        )
        plain = "float" in spec.dtype and not spec.columns
        finite = spec.finite or (plain and spec.name not in wanted)
        inputs.append(replace(spec, columns=columns, finite=finite))
    odd = sorted(wanted - able)
    if odd:
        raise UsageError(
            f"nullable= names {odd}, in which the model was not shown to answer missing values; choose "
            f"among {sorted(able)!r:.300}"
        )
    signature = replace(signature, inputs=tuple(inputs))
    if proven.source.rows is not None:
        try:
            signature.coerce(proven.source.rows)
        except SignatureError as error:
            raise ConversionError(
                "nothing was saved, because with this nullable= the package would refuse rows of "
                f"its own example: {error}. Name the columns that may be missing, nullable=[...], "
                "or leave such rows out",
                problems=error.problems,
            ) from error
    return replace(proven, signature=signature)


def _described(proven: Proven, feeds: Feeds) -> dict[str, Any]:
    """The fields of a manifest that are known from what was proven, and from golden rows."""
    from modelkit.runtimes.proto import opsets, row_bytes

    proto = proven.source.proto
    libraries = proven.requires or (*LIBRARIES, *proven.trained_with)
    return {
        "format": FORMAT,
        "signature": proven.signature,
        "files": tuple(member_of(path, data) for path, data in proven.members.items()),
        "opsets": opsets(proto),
        "row_bytes": row_bytes(proto, proven.example or feeds),
        "parity": proven.parity,
        "versions": {"python": platform.python_version(), **trust.installed(libraries)},
        "requires": proven.requires,
        "runtime": proven.runtime,
        "options": proven.options,
        "structures": dict(proven.source.structures),
    }


def _golden(proven: Proven, rows: object) -> tuple[Feeds, bytes]:
    """The golden rows, and they and the model's answers to them, encoded."""
    signature = proven.signature
    candidates: Iterable[Feeds]
    if rows is not None:
        candidates = [coerce_as(signature, rows, "golden=")]
        what = "the golden rows"
    elif proven.golden is not None:
        candidates = [proven.golden]
        what = "rows made up for it"
    else:
        candidates = _draws(signature, proven)
        what = "rows drawn at random"
    with proven.build(signature) as model:
        if rows is None and signature.refusals:
            candidates = (_accepted(model, feeds) for feeds in candidates)
        feeds, outputs = run_first(model, candidates, what)
    return feeds, encode_rows(feeds, outputs)


def _draws(signature: Signature, proven: Proven) -> Iterator[Feeds]:
    """Random rows like the example's; texts are drawn from the terms that the model knows."""
    for feeds in draws.draws(signature, proven.example):
        for terms in proven.source.terms:
            column = terms.vectorizer.column
            feeds[column] = draws.draw_texts(terms.known, len(feeds[column]))
        yield feeds


def _accepted(model: Model, feeds: Feeds) -> Feeds:
    """The rows that a model does not refuse; all of them where it refuses all."""
    try:
        model.run(model.signature.columns(feeds))
    except SignatureError as error:
        others = np.setdiff1d(np.arange(model.signature.count(feeds)), error.rows)
        return model.signature.take(feeds, others) if len(others) else feeds
    return feeds
