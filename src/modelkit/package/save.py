"""Write a package: convert, prove, and put one file in place in a single step."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from modelkit import golden as golden_rows
from modelkit.convert.boosting import as_estimator
from modelkit.convert.classes import read_classes
from modelkit.convert.parity import MAX_ROWS, check_takes_example, gate, open_signature
from modelkit.convert.sklearn import from_sklearn, is_estimator, number_dtypes
from modelkit.convert.source import Source, from_onnx, settled, take
from modelkit.convert.torch import from_torch, is_module
from modelkit.embedding.encoder import TextEncoder
from modelkit.embedding.examples import made_up
from modelkit.errors import ConversionError, GraphError
from modelkit.manifest import (
    FORMAT,
    WEIGHTS_REF,
    Manifest,
    Parity,
    check_metadata,
    check_name,
)
from modelkit.model import Model, Outputs
from modelkit.npz import MEDIA_TYPE
from modelkit.package import container, scan, trust
from modelkit.package.attach import NewAttachment, new_attachments, with_attachments
from modelkit.package.encoders import proof
from modelkit.package.load import (
    GRAPH,
    NATIVE,
    TERMS,
    TOKENIZER,
    WEIGHTS_MEMBER,
    open_encoder,
)
from modelkit.package.write import member_of, write_package
from modelkit.proto import forget_ranks, opsets, read_proto, row_bytes, serialize, split_weights
from modelkit.recipe import TEXT, Recipe
from modelkit.runtimes.onnx import FOLDED_BYTES, OnnxModel
from modelkit.runtimes.texts import TextModel
from modelkit.signature import Feeds, Signature
from modelkit.texts.terms import Terms, encode_terms
from modelkit.texts.vectorizer import Texts

LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
)  # those that every package is made with
MEASURED_BYTES = 4 << 20  # of an input that rows of a graph without a source are drawn for
TRAINED_WITH = {  # and those of its source, by the name that parity has for it
    "scikit-learn": ("scikit-learn", "skl2onnx", "spox"),
    "XGBoost": ("scikit-learn", "skl2onnx", "xgboost", "xgboost-cpu"),
    "LightGBM": ("scikit-learn", "skl2onnx", "spox", "lightgbm"),
    "CatBoost": ("scikit-learn", "skl2onnx", "catboost"),
    "torch": ("torch", "onnxscript"),
}


def save(  # noqa: PLR0913 - what the design names, all but two by keyword
    model: object,
    path: str | os.PathLike[str],
    *,
    example: object = None,
    name: str,
    version: str,
    format: str = "onnx",  # noqa: A002 - the name that the design fixes
    golden: object = None,
    profile: Any = None,
    background: object = None,
    metadata: dict[str, Any] | None = None,
    allow: Collection[str] = (),
) -> Manifest:
    """Convert a trained model, prove that the result agrees with it, and write one package file.

    The file appears whole or not at all: it is written beside `path` and renamed over it. Equal
    inputs and library versions give equal bytes. No row of `example` is stored.

    Args:
        model: a fitted scikit-learn estimator or pipeline; an XGBoost, LightGBM or CatBoost model;
            a torch module; an ONNX model as a path, bytes or ModelProto; or a TextEncoder.
        path: where to write; an existing file is replaced. Where it is a symbolic link, the link
            stays, and the file that it names is replaced, or made.
        example: rows as `fit` was given, or as a module's `forward` takes them, at most 2,048 of
            which are compared. Needed for everything but ONNX models and encoders. For an encoder,
            what its vectors are compared with: {"text": n strings, "embedding": (n, d) vectors of
            another implementation}.
        name: lower-case letters, digits and '._-', at most 64.
        version: letters, digits and '.+_-', at most 64.
        format: "onnx"; or "joblib" to pickle a fitted estimator as it is, where it cannot be
            converted. Such a package needs the same libraries in the same versions, and runs code
            when it is opened: see `load`.
        golden: rows to store and replay in `Model.verify`; drawn at random by default.
        profile: a `Profile` of the rows the model was trained on, which `Monitor` then compares
            served rows with.
        background: rows that explanations are relative to, a few hundred typical ones. They are
            stored as they are: whoever can read the package can read these rows.
        metadata: a dict of JSON values to keep in the manifest: where the data came from, a metric,
            an owner.
        allow: domains of operators that an ONNX model may use beyond the default ones; `load` must
            then be given them.

    Returns:
        The manifest that was written; `manifest.digest` identifies the package.

    Raises:
        ConversionError: if the model cannot be converted; its subclass ParityError if the graph
            disagrees.
        ManifestError: if name, version or metadata is not allowed.
        GraphError: if an ONNX model uses what a package may not contain.
        DriftError: if the profile has other columns than the model takes.
    """
    check_name(name, version)
    kept = check_metadata({} if metadata is None else metadata)
    proven = _prove_as(format, model, example, golden, trust.check_allow(allow) - {trust.JOBLIB})
    added = [NewAttachment(golden_rows.GOLDEN, MEDIA_TYPE, _golden(proven, golden))]
    added += new_attachments(proven.signature, profile=profile, background=background)
    members = dict(proven.members)
    proto = proven.source.proto
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        signature=proven.signature,
        opsets=opsets(proto),
        row_bytes=row_bytes(proto),
        parity=proven.parity,
        versions=_versions(proven),
        files=tuple(member_of(file, data) for file, data in members.items()),
        metadata=kept,
        runtime=format,
        requires=proven.requires,
        encoder=proven.encoder,
        texts=proven.source.texts,
    )
    return write_package(path, with_attachments(manifest, members, added), members)


@dataclass(frozen=True)
class _Proven:
    """A model that agrees with its source, in the bytes that will be written, and how to run these."""

    source: Source
    members: container.Members
    build: Callable[[Signature], Model]
    signature: Signature
    parity: Parity
    requires: dict[str, str] = field(default_factory=dict)
    encoder: Recipe | None = None
    golden: Feeds | None = None
    example: Feeds | None = None


def _prove_as(
    format: str,  # noqa: A002
    model: object,
    example: object,
    golden: object,
    domains: Collection[str],
) -> _Proven:
    if format == "onnx" and isinstance(model, TextEncoder):
        return _prove_encoder(model, example, domains)
    if format == "onnx":
        return _prove(model, example, golden, domains)
    if format == "joblib":
        return _prove_joblib(model, example)
    raise ConversionError(
        f"format {format!r} is unknown; use 'onnx', or 'joblib' for what cannot be converted"
    )


def _prove_joblib(model: object, example: object) -> _Proven:
    """A pickled estimator, compared with the one that is in memory."""
    from modelkit.convert.native import from_estimator
    from modelkit.runtimes.joblib import JoblibModel

    source, estimator = from_estimator(as_estimator(model), example)
    modules = estimator.modules()
    build = partial(JoblibModel, estimator.dump())
    members: container.Members = {NATIVE: build.args[0]}
    example = _example(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an estimator that is asked about rows unlike its own
        signature, parity = gate(source, build, None)
        rows = _known_rows(source, build(signature), example)
    return _Proven(
        source,
        members,
        build,
        signature,
        parity,
        trust.required(modules),
        golden=rows,
        example=example,
    )


def _known_rows(source: Source, model: Model, example: Feeds | None) -> Feeds | None:
    """Drawn rows with values of the example, where the source takes none but those it knows; else None."""
    from modelkit.convert.native import shared_values

    drawn = next(golden_rows.draws(model.signature, example))
    with model:
        try:
            model.run(model.signature.columns(drawn))
        except Exception:  # noqa: BLE001 - whatever a pickled estimator says to a value that it does not know
            return next(golden_rows.draws(shared_values(source, model.signature), example))
    return None


def _prove_encoder(encoder: TextEncoder, example: object, domains: Collection[str]) -> _Proven:
    """A text encoder, whose vectors were made alone and in a batch, and compared with the reference if there is one."""
    inner = encoder.token_model
    if not isinstance(inner, OnnxModel):
        raise ConversionError(
            f"only an encoder of an ONNX graph can be saved, and this one runs {inner!r}"
        )
    graph, weights = inner.graph
    scan.check_graph(graph, WEIGHTS_REF, None if weights is None else len(weights), domains=domains)
    recipe, parity = proof(encoder, example)
    large: container.Members = {} if weights is None else {WEIGHTS_MEMBER: weights}
    members = {GRAPH: bytes(graph), **large, TOKENIZER: encoder.tokenizer}
    proto = read_proto(graph)
    assert proto is not None  # noqa: S101 - for the type checker: bytes are read or raise
    source = Source(proto, recipe.signature)

    def build(_: Signature) -> Model:
        return open_encoder(members, recipe, origin=None)

    texts = made_up(golden_rows.GOLDEN_ROWS, recipe.max_tokens)
    fitting = encoder.token_count(texts) <= recipe.max_tokens
    rows = recipe.signature.coerce(
        {TEXT: [text for text, fits in zip(texts, fitting, strict=True) if fits] or ["a"]}
    )
    return _Proven(source, members, build, recipe.signature, parity, encoder=recipe, golden=rows)


def _build(
    graph: bytes, weights: bytes, signature: Signature, *, folded: int = FOLDED_BYTES
) -> OnnxModel:
    return OnnxModel(
        graph, signature, weights=memoryview(weights) if weights else None, folded=folded
    )


def _build_texts(
    graph: bytes,
    weights: bytes,
    texts: Texts,
    terms: tuple[Terms, ...],
    signature: Signature,
    *,
    folded: int,
) -> Model:
    return TextModel(
        graph,
        signature,
        texts,
        terms,
        weights=memoryview(weights) if weights else None,
        folded=folded,
    )


def _prove(model: object, example: object, golden: object, domains: Collection[str]) -> _Proven:
    """The first of the ways to convert a model that the runtime takes and the gate passes.

    Raises what the gate said where one came that far, for that says most about the model.
    """
    refusals: list[Exception] = []
    said: list[Exception] = []
    for convert in _ways(model, example, golden):
        try:
            source = convert()
            weights = split_weights(source.proto, WEIGHTS_REF)
            graph = serialize(source.proto)
            found = scan.check_graph(
                graph, WEIGHTS_REF, len(weights) if weights else None, domains=domains
            )
            build: Callable[[Signature], Model] = partial(
                _build, graph, weights, folded=found.folding.limit
            )
            feeds: Feeds | None = None
            if source.texts is not None:
                build = partial(
                    _build_texts,
                    graph,
                    weights,
                    source.texts,
                    source.terms,
                    folded=found.folding.limit,
                )
            if source.truth is None:
                source, feeds = _asked(source, build)
                graph = serialize(source.proto)
                build = partial(_build, graph, weights, folded=found.folding.limit)
        except (ConversionError, GraphError) as error:
            refusals.append(error)
            continue
        try:
            signature, parity = gate(source, build, feeds)
        except GraphError as error:
            refusals.append(_unloadable(source, error))
        except ConversionError as error:
            said.append(error)
        else:
            members: container.Members = (
                {GRAPH: graph, WEIGHTS_MEMBER: weights} if weights else {GRAPH: graph}
            )
            if source.terms:
                members[TERMS] = encode_terms(source.terms)
            return _Proven(source, members, build, signature, parity, example=_example(source))
    raise (said or refusals)[0]


def _unloadable(source: Source, error: GraphError) -> Exception:
    """What to say of a graph that onnxruntime refuses: one that was converted is not the caller's."""
    if source.truth is None:
        return error
    refusal = ConversionError(
        f"{source.against} cannot be converted: onnxruntime refuses the graph that the converter "
        "made; an estimator can be saved with format='joblib'"
    )
    refusal.__cause__ = error
    return refusal


def _ways(model: object, example: object, golden: object) -> list[Callable[[], Source]]:
    model = as_estimator(model)
    if is_module(model):
        return [partial(from_torch, model, example)]
    if is_estimator(model):
        return [partial(from_sklearn, model, example, numbers) for numbers in number_dtypes(model)]
    proto = read_proto(model)
    if proto is None:
        raise ConversionError(
            f"cannot save a {type(model).__name__}; pass an estimator of scikit-learn, XGBoost, "
            "LightGBM or "
            f"CatBoost, a torch module, or an ONNX model as path, bytes or ModelProto",
            step=type(model).__name__,
        )
    return [partial(from_onnx, proto, golden if example is None else example)]


def _example(source: Source) -> Feeds | None:
    """The example as tensors, or None where there is none."""
    if source.truth is not None:
        signature = open_signature(source.signature)
        check_takes_example(source, signature)
        return signature.coerce(take(source.rows, 512))
    return (
        None
        if source.rows is None
        else _few(source.signature, source.signature.coerce(source.rows))
    )


def _asked(source: Source, build: Callable[[Signature], Model]) -> tuple[Source, Feeds]:
    """Rows that a graph without a source runs on, and the source with what they tell of its signature.

    They are those of the example; drawn ones of its sizes where it has few, and of any where there
    is none.
    """
    signature = source.signature
    with build(signature) as model:
        if source.rows is None:
            run = _run_first(
                model, golden_rows.draws(signature, None, MEASURED_BYTES), "rows drawn at random"
            )
        else:
            given = _few(signature, signature.coerce(source.rows))
            if not signature.count(given):
                raise ConversionError("the example has no rows")
            run = _run_first(model, [given], "the rows that were given")
            if signature.count(run[0]) < golden_rows.GOLDEN_ROWS:
                with suppress(ConversionError):
                    run = _run_first(
                        model,
                        golden_rows.draws(signature, run[0], MEASURED_BYTES),
                        "rows like these",
                    )
        runs, rows = [run], signature.count(run[0])
        other = signature.take(run[0], np.arange(rows - 1 if rows > 1 else 2) % rows)
        with suppress(
            ConversionError
        ):  # a graph of one size, whatever it says; the gate measures that
            runs.append(_run_first(model, [other], "another number of rows"))
    known = settled(signature, runs)
    forget_ranks(source.proto, known)
    return replace(
        source, signature=replace(known, classes=read_classes(source.proto, run[1]))
    ), run[0]


def _few(signature: Signature, feeds: Feeds) -> Feeds:
    rows = signature.count(feeds)
    return (
        feeds
        if rows <= MAX_ROWS
        else signature.take(feeds, np.linspace(0, rows - 1, MAX_ROWS).astype(int))
    )


def _golden(proven: _Proven, rows: object) -> bytes:
    signature = proven.signature
    if rows is not None:
        candidates, what = iter([signature.coerce(rows)]), "the golden rows"
    elif proven.golden is not None:
        candidates, what = iter([proven.golden]), "rows made up for it"
    else:
        candidates = _draws(signature, proven)
        what = "rows drawn at random"
    with proven.build(signature) as model:
        feeds, outputs = _run_first(model, candidates, what)
    return golden_rows.encode_rows(feeds, outputs)


def _draws(signature: Signature, proven: _Proven) -> Iterator[Feeds]:
    """Random rows like those of the example; texts are drawn from the terms that the model knows."""
    for feeds in golden_rows.draws(signature, proven.example):
        for terms in proven.source.terms:
            column = terms.vectorizer.column
            feeds[column] = golden_rows.draw_texts(terms.vocabulary, len(feeds[column]))
        yield feeds


def _run_first(model: Model, candidates: Iterable[Feeds], what: str) -> tuple[Feeds, Outputs]:
    """The first of these rows that a model runs on, and what it answers.

    Raises ConversionError where there is none.
    """
    for feeds in candidates:
        try:
            return feeds, model.run(model.signature.columns(feeds))
        except Exception as error:  # noqa: BLE001 - whatever a pickled estimator calls it
            refused = error
    shapes = {name: feed.shape for name, feed in feeds.items()}
    said = " ".join(str(refused).split())
    raise ConversionError(
        f"the model does not run on {what}, at last of the shapes {shapes}: {said}; pass rows that "
        "it takes as "
        f"example=, or as golden= to store them as they are"
    ) from refused


def _versions(proven: _Proven) -> dict[str, str]:
    trained = TRAINED_WITH.get((proven.parity.against or "").partition(" ")[0], ())
    libraries = proven.requires or (
        *LIBRARIES,
        *trained,
        *(("tokenizers",) if proven.encoder else ()),
    )
    return {"python": platform.python_version(), **trust.installed(libraries)}
