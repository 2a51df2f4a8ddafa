"""Exact methods: a sum of trees from its leaf tables, a sum over columns from what each column changes alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.errors import AdditivityError, GraphError
from modelkit.explain.structure import Exact, NoStructureError, Player, cut, read, whole_proto
from modelkit.explain.subject import CHUNK, CONTRIBUTIONS, LATER, Subject
from modelkit.explain.table import LeafTable, TooDeepError
from modelkit.signature import Feeds, Signature
from modelkit.spec import TensorSpec

TOLERANCE = 1e-5


def check_gap(gap: Array, served: Array) -> None:
    """Raise AdditivityError where values add up to something else than what was served."""
    allowed = TOLERANCE * max(1.0, float(np.max(np.abs(served), initial=0)))
    worst = float(np.max(gap, initial=0))
    if not worst <= allowed:
        raise AdditivityError(
            f"the values add up to {worst:.3g} beside what the model served, where at most "
            f"{allowed:.3g} is rounding; "
            f"use method='sampling', and report this model",
            gap=worst,
        )


class ExactMethod:
    """An exact method, ready to run."""

    def __init__(
        self,
        subject: Subject,
        found: Exact,
        space: str,
        names: tuple[str, ...],
        run: Callable[[Feeds], tuple[Array, Array]],
    ) -> None:
        self.kind, self.space, self.names, self._found, self._run = (
            found.kind,
            space,
            names,
            found,
            run,
        )
        self._row = (
            {name: feed[:1] for name, feed in subject.background.items()},
            subject.at_background[:1],
        )

    @staticmethod
    def build(subject: Subject, method: str, output: str, reasons: list[str]) -> ExactMethod | None:
        """The exact method for this model, or None, with the reasons in `reasons`."""
        if method in ("enumeration", "sampling"):
            reasons.append(f"method={method!r} was asked for")
            return None
        declared = (
            _declared(subject, output, reasons) if method in ("auto", CONTRIBUTIONS) else None
        )
        if declared is not None or method == CONTRIBUTIONS:
            return declared
        graph = getattr(subject.model.base, "graph", None)
        if graph is None:
            reasons.append("the model has no graph to read")
            return None
        try:
            found = read(whole_proto(*graph), subject.signature, subject.served)
            if method not in ("auto", found.kind):
                raise NoStructureError(f"the graph has the structure for {found.kind!r}")
            if found.link == "exp" and (found.scale <= 0 or found.shift):
                raise NoStructureError(
                    "an exponential is followed by a factor that is not positive"
                )
            if found.link != "identity" and output in ("probability", "value"):
                raise NoStructureError(
                    f"the {output} comes after a {found.link}, and values are exact before it alone"
                )
            run = (
                _run_trees(subject, found)
                if found.kind == "trees"
                else _run_additive(subject, found)
            )
        except (NoStructureError, TooDeepError, GraphError) as error:
            reasons.append(str(error))
            return None
        space, names = _space(subject, found)
        reasons.append(
            "the graph is a sum of trees"
            if found.kind == "trees"
            else "the graph is a sum over columns"
        )
        exact = ExactMethod(subject, found, space, names, run)
        few = {name: feed[:64] for name, feed in subject.background.items()}
        try:
            check_gap(exact.explain(few, subject.at_background[:64])[2], subject.at_background)
        except AdditivityError as error:
            reasons.append(f"its values do not add up to what is served: {error}")
            return None
        return exact

    def explain(self, feeds: Feeds, served: Array) -> tuple[Array, Array, Array]:
        """Values, base, and the distance to what was served."""
        if not len(served):  # the shapes are those of one row
            values, base, gap = self.explain(*self._row)
            return values[:0], base[:0], gap[:0]
        values, base = self._run(feeds)
        scale, shift = (
            (1.0, 0.0) if self._found.link != "identity" else (self._found.scale, self._found.shift)
        )
        values, base = values * scale, base * scale + shift
        if self._found.link == "identity" and (values.shape[2], served.shape[1]) == (
            1,
            2,
        ):  # of two probabilities
            values, base = (
                np.concatenate([-values, values], axis=2),
                np.concatenate([1 - base, base]),
            )
        margin = base + values.sum(axis=1)
        after = _after_link(margin, self._found, served.shape[1])
        gap = np.abs(after - served)
        if after.shape != served.shape or margin.shape[1] not in (1, gap.shape[1]):
            gap = np.full(margin.shape, np.inf)  # another output than the one that is served
        if margin.shape[1] == 1:
            gap = gap.max(axis=1, keepdims=True, initial=0)
        if (
            self._found.link == "exp"
        ):  # what is served is the exponential, and its factor is a term before it
            base = base + np.log(self._found.scale)
        return values, np.broadcast_to(base, margin.shape).copy(), gap


def _declared(subject: Subject, output: str, reasons: list[str]) -> ExactMethod | None:
    """The contributions that a model gives as an output of its own, where they and one base add up to what it serves.

    Additive models of other libraries write them: they are relative to a base of the model's, not
    to the background.
    """
    spec = next((spec for spec in subject.signature.outputs if spec.name == CONTRIBUTIONS), None)
    if spec is None:
        return None
    from onnx import ModelProto

    served = subject.at_background
    links = {"identity": served}
    with np.errstate(all="ignore"):
        if subject.space == "probability" and served.shape[1] == 2:
            links["logistic"] = np.log(served[:, 1:] / served[:, :1])
        elif subject.space == "value":
            links["exp"] = np.log(served)
    d = len(subject.players)

    def values(feeds: Feeds) -> Array:
        got = subject.model._run(feeds, (CONTRIBUTIONS,), LATER)[CONTRIBUTIONS]
        return got.reshape(len(got), d, -1).astype(np.float64)

    shape_fits = len(spec.shape) in (2, 3) and spec.shape[1] == d
    for link, margin in links.items() if shape_fits else ():
        if link != "identity" and output in ("probability", "value"):
            continue
        parts = values(subject.background)
        if parts.shape[2] != margin.shape[1] or not np.isfinite(margin).all():
            continue
        base = np.median(margin - parts.sum(axis=1), axis=0)
        found = Exact(CONTRIBUTIONS, CONTRIBUTIONS, ModelProto(), link)
        exact = ExactMethod(
            subject, found, *_space(subject, found), partial(_with_base, values, base)
        )
        try:
            check_gap(exact.explain(subject.background, served)[2], served)
        except AdditivityError:
            continue
        reasons.append(f"the model has an output {CONTRIBUTIONS!r} that adds up to what it serves")
        return exact
    reasons.append(f"the output {CONTRIBUTIONS!r} and no one base add up to what is served")
    return None


def _with_base(values: Callable[[Feeds], Array], base: Array, feeds: Feeds) -> tuple[Array, Array]:
    return values(feeds), base


def _space(subject: Subject, found: Exact) -> tuple[str, tuple[str, ...]]:
    if found.link == "identity":
        return subject.space, subject.names
    if found.link in ("logistic", "softmax", "share") and len(subject.names) == 2:
        return "margin", subject.names[1:]
    return "margin", subject.names


def _after_link(margin: Array, found: Exact, columns: int) -> Array:
    """What would be served for these margins."""
    if found.link == "identity":
        return margin
    if found.link == "exp":
        return np.asarray(np.exp(margin) * found.scale + found.shift)
    if margin.shape[1] == 1:
        with np.errstate(over="ignore"):
            likely = 1 / (1 + np.exp(-margin))
        return np.concatenate([1 - likely, likely], axis=1) if columns == 2 else likely
    if found.link in ("logistic", "share"):
        likely = 1 / (1 + np.exp(-margin))
        return np.asarray(
            likely if found.link == "logistic" else likely / likely.sum(axis=1, keepdims=True)
        )
    odds = np.exp(margin - margin.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _run_trees(subject: Subject, found: Exact) -> Callable[[Feeds], tuple[Array, Array]]:
    assert found.leaves is not None  # noqa: S101 - for the type checker
    assert found.groups is not None  # noqa: S101
    encode = _encoder(subject, found, found.leaves.dtype)
    _check_groups(subject, found, encode)
    table = LeafTable(found.leaves, found.groups, encode(subject.background))
    d = len(subject.players)

    def run(feeds: Feeds) -> tuple[Array, Array]:
        values = table.explain(encode(feeds))
        if values.shape[1] < d:
            values = np.pad(values, ((0, 0), (0, d - values.shape[1]), (0, 0)))
        return _two_classes(values, table.base, found.link)

    return run


def _check_groups(subject: Subject, found: Exact, encode: Callable[[Feeds], Array]) -> None:
    """Move each raw column by itself, and see that only those columns move that are said to depend on it.

    Leaf tables add up under any grouping, so the additivity check would not notice a wrong one.
    Raises NoStructureError.
    """
    if found.tensor in subject.background or found.groups is None:
        return
    few = {name: feed[:64] for name, feed in subject.background.items()}
    before = encode(few)
    for number, player in enumerate(subject.players):
        moved = {name: feed.copy() for name, feed in few.items()}
        column = moved[player.tensor][:, player.column]
        moved[player.tensor][:, player.column] = np.roll(column, 1)
        after = encode(moved)
        others = found.groups != number
        if not np.array_equal(before[:, others], after[:, others], equal_nan=True):
            raise NoStructureError(f"column {player.name!r} moves what should not depend on it")


def _run_additive(subject: Subject, found: Exact) -> Callable[[Feeds], tuple[Array, Array]]:
    """A sum of functions of one column each: what a column adds is what changes where it alone does."""
    ask = _encoder(subject, found, np.float64)
    reference = {name: feed[:1] for name, feed in subject.background.items()}
    at_reference = ask(reference)[0]
    means = np.stack(
        [
            _alone(ask, reference, subject.background, player).mean(axis=0)
            for player in subject.players
        ]
    )

    def run(feeds: Feeds) -> tuple[Array, Array]:
        values = (
            np.stack([_alone(ask, reference, feeds, player) for player in subject.players], axis=1)
            - means
        )
        return _two_classes(values, at_reference + (means - at_reference).sum(axis=0), found.link)

    return run


def _alone(ask: Callable[[Feeds], Array], reference: Feeds, feeds: Feeds, player: Player) -> Array:
    """The additive value where one column is that of `feeds` and all others are those of the reference row."""
    n = len(feeds[player.tensor])
    mixed = {name: np.repeat(feed, n, axis=0) for name, feed in reference.items()}
    mixed[player.tensor][:, player.column] = feeds[player.tensor][:, player.column]
    return ask(mixed)


def _two_classes(values: Array, base: Array, link: str) -> tuple[Array, Array]:
    """The log-odds of the second class where there are two."""
    if link == "softmax" and values.shape[2] == 2:
        return values[:, :, 1:] - values[:, :, :1], base[1:] - base[:1]
    if (
        link in ("share", "logistic") and values.shape[2] == 2
    ):  # one column is the other with its sign turned
        return values[:, :, 1:], base[1:]
    return values, base


def _encoder(subject: Subject, found: Exact, dtype: Any) -> Callable[[Feeds], Array]:
    """What turns feeds into the tensor that an exact method starts from: the graph, cut there."""
    if found.tensor in subject.background:
        return lambda feeds: feeds[found.tensor].astype(dtype, copy=False)
    from onnx import TensorProto

    from modelkit.runtimes.onnx import OnnxModel

    kinds = {
        np.float32: (TensorProto.FLOAT, "float32"),
        np.float64: (TensorProto.DOUBLE, "float64"),
    }
    failure: GraphError | None = None
    for element, name in (kinds[dtype], *kinds.values()):
        spec = TensorSpec(found.tensor, name, ("batch", "width"))
        graph = cut(found.proto, found.tensor, element).SerializeToString()
        try:
            part = OnnxModel(
                graph, Signature(subject.signature.inputs, (spec,)), threads=1, chunk=CHUNK
            )
        except GraphError as error:
            failure = error
            continue
        return lambda feeds: (
            part._run(feeds, (found.tensor,), LATER)[found.tensor]
            .reshape(len(next(iter(feeds.values()))), -1)
            .astype(dtype, copy=False)
        )
    assert failure is not None  # noqa: S101 - for the type checker
    raise failure
