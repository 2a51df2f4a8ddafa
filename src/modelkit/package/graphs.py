"""Save a model as an ONNX graph that was compared with its source, or that came without one."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from modelkit._internal import fields
from modelkit.convert.classes import check_classes, read_classes
from modelkit.convert.converters import conversions
from modelkit.convert.graphs import settled
from modelkit.convert.notes import Notes
from modelkit.convert.parity.causes import BATCH, RANDOM
from modelkit.convert.parity.check import (
    MAX_ROWS,
    check_takes_example,
    open_signature,
    prove_parity,
)
from modelkit.convert.parity.rows import spread
from modelkit.convert.source import Prefix, Source
from modelkit.errors import ConversionError, GraphError, ParityError
from modelkit.model.manifest import WEIGHTS_REF
from modelkit.model.model import Model, Outputs
from modelkit.package import container, scan
from modelkit.package.contents import GRAPH, TERMS, WEIGHTS_MEMBER
from modelkit.package.draws import GOLDEN_ROWS, draws
from modelkit.package.proven import Proven, run_first
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.proto import forget_ranks, serialize, split_weights
from modelkit.runtimes.terms.terms import encode_terms
from modelkit.runtimes.texts import TextModel
from modelkit.signature.signature import Feeds, Signature

MEASURED_BYTES = 4 << 20  # of an input that rows of a graph without a source are drawn for
EXAMPLE_ROWS = 512  # of an example that golden rows are drawn like


@dataclass(frozen=True)
class ProvenGraph:
    """A graph that may be packaged, and the rows that it ran on, where it came without a source.

    `folded` is the limit in bytes of the constants that the runtime may compute when it opens the
    graph.
    """

    source: Source
    graph: bytes
    weights: bytes
    folded: int
    feeds: Feeds | None = None

    def build(self, signature: Signature) -> Model:
        """A Model of the graph."""
        source = self.source
        weights = memoryview(self.weights) if self.weights else None
        if source.texts is None:
            return OnnxModel(self.graph, signature, weights=weights, folded=self.folded)
        return TextModel(
            self.graph, signature, source.texts, source.terms, weights=weights, folded=self.folded
        )

    def members(self) -> container.Members:
        """The files of its package."""
        found: container.Members = {GRAPH: self.graph}
        if self.weights:
            found[WEIGHTS_MEMBER] = self.weights
        if self.source.terms:
            found[TERMS] = encode_terms(self.source.terms)
        return found


def prove_graph(
    model: object, example: object, golden: object, domains: Collection[str], notes: Notes
) -> Proven:
    """The first way to convert the model that the runtime takes and the parity check passes.

    Raises the parity check's error if one way came that far: it says most about the model.
    """
    ways, trained_with = conversions(model, example, notes)
    refused: list[Exception] = []
    disagreed: list[Exception] = []
    for convert in ways:
        graph = None
        try:
            source = convert()
            graph = _checked(source, golden, domains)
            signature, parity = prove_parity(graph.source, graph.build, graph.feeds)
        except GraphError as error:
            refused.append(_unloadable(source, error))
        except ConversionError as error:
            if graph is None:
                refused.append(error)
            elif isinstance(error, ParityError):
                disagreed.append(_first_apart(source, error, domains))
            else:
                disagreed.append(error)
        else:
            texts = graph.source.texts
            return Proven(
                graph.source,
                graph.members(),
                graph.build,
                signature,
                parity,
                runtime="onnx" if texts is None else "texts",
                options={} if texts is None else fields.write_object(texts, defaults=False),
                trained_with=trained_with,
                example=example_of(graph.source),
            )
    raise (disagreed or refused)[0]


def _first_apart(source: Source, error: ParityError, domains: Collection[str]) -> ParityError:
    """What to say of a model that parts from its graph: where in a pipeline the two do so first."""
    inexact: Prefix | None = None  # the last step whose numbers are equal but for their last digits
    for prefix in source.prefixes[:-1]:
        try:
            graph = _checked(prefix.convert(), None, domains)
            _, parity = prove_parity(graph.source, graph.build, None)
        except ParityError as earlier:
            return _placed(earlier, prefix, inexact)
        except Exception:  # of steps that make no model by themselves
            return error
        if parity.max_abs:
            inexact = prefix
    return _placed(error, source.prefixes[-1], inexact) if source.prefixes else error


def _placed(error: ParityError, prefix: Prefix, inexact: Prefix | None) -> ParityError:
    """The error of the parity check, with the place of a step in front, and the step before that jumps."""
    said = f"{prefix.place}: {error}" if prefix.place else str(error)
    if inexact is not None and prefix.jumps and not any(cause in said for cause in (RANDOM, BATCH)):
        said += (
            f"; or put FunctionTransformer(np.round, kw_args={{'decimals': 9}}) behind {inexact.place}, "
            f"for the last digits of {inexact.step} differ"
        )
    about = vars(error) | {"step": prefix.step, "place": prefix.place}
    refusal = ParityError(said, **about)
    refusal.__cause__ = error.__cause__
    return refusal


def _unloadable(source: Source, error: GraphError) -> Exception:
    """What to say of a graph that is refused: one that was converted is not the caller's."""
    if source.truth is None:
        return error
    if source.prefixes:  # of an estimator
        fix = "the graph that was made of it is refused; save the model with format='joblib'"
        step = source.prefixes[-1].step
    else:
        fix = f"{error}; compute that part with other operators, or in float32"
        step = ""
    refusal = ConversionError(f"{source.against} cannot be converted: {fix}", step=step)
    refusal.__cause__ = error
    return refusal


def _checked(source: Source, golden: object, domains: Collection[str]) -> ProvenGraph:
    """The graph of a source, once its operators and sizes were found to be allowed."""
    weights = split_weights(source.proto)
    raw = serialize(source.proto)
    size = len(weights) if weights else None
    found = scan.check_graph(raw, WEIGHTS_REF, size, domains=domains)
    graph = ProvenGraph(source, found.graph, weights, found.folding.limit)
    if source.truth is not None:
        return graph
    if source.rows is None:
        graph = replace(graph, source=replace(source, rows=golden))
    return _tried(graph)


def _tried(graph: ProvenGraph) -> ProvenGraph:
    """A graph without a source, with rows that it ran on and the signature that its answers show."""
    with graph.build(graph.source.signature) as model:
        runs = [_first_run(model, graph.source.rows)]
        feeds, _ = runs[0]
        rows = model.signature.count(feeds)
        other = np.arange(rows - 1 if rows > 1 else 2) % rows
        with suppress(ConversionError):  # of a graph of one size; the parity check measures that
            taken = model.signature.take(feeds, other)
            runs.append(run_first(model, [taken], "another number of rows"))
    proto = graph.source.proto
    signature = settled(graph.source.signature, runs)
    forget_ranks(proto, signature)
    _, answers = runs[0]
    if signature.classes is None:
        signature = replace(signature, classes=read_classes(proto, answers))
    elif graph.source.named:
        check_classes(signature.classes, answers)
    source = replace(graph.source, signature=signature)
    return replace(graph, source=source, graph=serialize(proto), feeds=feeds)


def _first_run(model: Model, example: object) -> tuple[Feeds, Outputs]:
    """Rows that a model runs on, and its answers.

    The rows are the example's; drawn ones of its sizes where it has few, and of any sizes where
    there is none.
    """
    signature = model.signature
    if example is None:
        drawn = draws(signature, None, MEASURED_BYTES)
        return run_first(model, drawn, "rows drawn at random")
    given = _coerced(signature, example)
    if not signature.count(given):
        raise ConversionError("example is empty; pass some rows, such as example=X[:64]")
    run = run_first(model, [given], "the rows that were given")
    feeds, _ = run
    if signature.count(feeds) < GOLDEN_ROWS:
        with suppress(ConversionError):
            drawn = draws(signature, feeds, MEASURED_BYTES)
            run = run_first(model, drawn, "rows like these")
    return run


def example_of(source: Source) -> Feeds | None:
    """The example as tensors, or None where there is none."""
    if source.truth is not None:
        signature = open_signature(source.signature)
        check_takes_example(source, signature)
        return signature.coerce(spread(source.rows, EXAMPLE_ROWS))
    if source.rows is None:
        return None
    return _coerced(source.signature, source.rows)


def _coerced(signature: Signature, example: object) -> Feeds:
    """The rows of an example as tensors; some of them where they are many."""
    feeds = signature.coerce(example)
    rows = signature.count(feeds)
    if rows <= MAX_ROWS:
        return feeds
    return signature.take(feeds, np.linspace(0, rows - 1, MAX_ROWS).astype(int))
