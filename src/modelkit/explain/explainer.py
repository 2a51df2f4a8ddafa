"""Choose the best method that fits a model, run it, and check what it says against what the model served."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit import golden
from modelkit.cast import MISSING, Array
from modelkit.errors import AdditivityError, ExplainError, GraphError, PackageError
from modelkit.explain import sampling
from modelkit.explain.explanation import Explanation
from modelkit.explain.structure import Exact, NoStructureError, Player, cut, players_of, read, whole_proto
from modelkit.explain.table import LeafTable, TooDeepError
from modelkit.model import Call, Model
from modelkit.signature import Feeds, Signature
from modelkit.spec import TensorSpec, numpy_dtype

METHODS = ("auto", "additive", "trees", "enumeration", "sampling")
SPACES = ("auto", "margin", "probability", "value")
BACKGROUND = "background"  # the attachment of a package that holds background rows
LATER = Call(priority=-1)  # explanations wait for predictions
CHUNK = 4096  # model rows at once
ENUMERATED_ROWS = 20_000  # of the model for one explained row, where that makes the answer exact
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Plan:
    """What an Explainer would do: the method, whether it is exact, model rows for each explained row, and why."""

    method: str
    exact: bool
    output_space: str
    rows_per_row: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        how = "exact" if self.exact else "sampled"
        why = "".join(f"\n  {reason}" for reason in self.reasons)
        return f"{self.method} ({how}) of the {self.output_space}, {self.rows_per_row} model rows for each row{why}"


@final
class Explainer:
    """Says why a Model gave an output: Shapley values of its raw columns over a background.

    Args:
        model: any Model. The graph is read from `model.base`; the model itself is asked where a graph does not do.
        background: rows that stand for "a column is not known": a few hundred typical ones. By default those that
            were stored in the package.
        method: "auto" for the first of "additive", "trees", "enumeration" and "sampling" that fits, or one of them.
        output: "auto"; "margin" for what comes before a sigmoid, softmax or exponential; "probability" or "value" for
            what is served. With "auto", margins where an exact method explains them.
        budget: model rows for each explained row that sampling may use; by default each background row once.
        group: "raw": values are of the columns a caller passes, whatever encodes them.
        seed: of sampling. The same row, seed, background and package give the same values from any thread.

    Raises:
        ExplainError: if there is no background, or the model's inputs or outputs cannot be explained.
        SignatureError: if the background does not fit the model.
    """

    def __init__(  # noqa: PLR0913 - all but one by keyword
        self,
        model: Model,
        *,
        background: Any = None,
        method: str = "auto",
        output: str = "auto",
        budget: int | None = None,
        group: str = "raw",
        seed: int | None = None,
    ) -> None:
        for what, value, known in (("method", method, METHODS), ("output", output, SPACES), ("group", group, ("raw",))):
            if value not in known:
                raise ExplainError(f"{what} {value!r} is unknown; use one of {list(known)}")
        self._model, self._seed = model, 0 if seed is None else seed
        signature = model.signature
        players = players_of(signature)
        if players is None or signature.batch is None:
            raise ExplainError(f"only inputs of rows by columns can be explained, not {signature}")
        self._players, self._signature = players, signature
        self._background = _read_background(model, background)
        self._count = len(next(iter(self._background.values())))
        self._served = _served_output(signature)
        self._at_background = self._ask_model(self._background)
        self._names = _output_names(signature, self._served, self._at_background.shape[1])
        self._reasons: list[str] = []
        self._space = "value" if self._served != "probabilities" else "probability"
        self._exact = _Exact.build(self, model, method, output, self._reasons)
        self._method = self._choose(method, output, budget)
        pairs = self._pairs(budget) if self._method == "sampling" else 0
        self._draw = sampling.draw(len(players), self._count, pairs, self._seed) if pairs else None

    def _choose(self, method: str, output: str, budget: int | None) -> str:
        if self._exact is not None:
            return self._exact.kind
        if method in ("additive", "trees"):
            raise ExplainError(f"method {method!r} does not fit this model: {'; '.join(self._reasons)}")
        if output == "margin":
            raise ExplainError(f"no exact method reaches the margin of this model: {'; '.join(self._reasons)}")
        d = len(self._players)
        rows = self._count << d
        fits = d <= sampling.MOST_ENUMERATED and rows <= max(budget or 0, ENUMERATED_ROWS)
        if method == "enumeration" and not fits:
            raise ExplainError(
                f"enumeration takes 2^{d} times {self._count} model rows for each row; pass a smaller background, "
                f"budget={rows}, or method='sampling'"
            )
        if method == "enumeration" or (method == "auto" and fits):
            self._reasons.append(f"all {1 << d} coalitions of {d} columns fit the budget")
            return "enumeration"
        return "sampling"

    def _pairs(self, budget: int | None) -> int:
        steps = max(2 * (len(self._players) - 1), 1)
        pairs = self._count if budget is None else budget // steps
        if pairs < 10:
            raise ExplainError(
                f"a budget of {budget} model rows gives {pairs} random orders of {len(self._players)} columns; at least "
                f"10 are needed: budget={10 * steps}, or a larger background"
            )
        return pairs

    @property
    def background_id(self) -> str:
        """The sha256 of the background as the model takes it."""
        digest = hashlib.sha256()
        for name, feed in self._background.items():
            digest.update(name.encode() + str(feed.shape).encode())
            digest.update("\0".join(map(str, feed.ravel())).encode() if feed.dtype == object else feed.tobytes())
        return digest.hexdigest()

    def plan(self, X: Any = None) -> Plan:
        """What `explain` would do, why, and what it would cost. Runs nothing; `X` is checked where it is given."""
        if X is not None:
            self._signature.coerce(X)
        d = len(self._players)
        cost = {"additive": d + 1, "trees": 1, "enumeration": (self._count << d) + 1}.get(self._method)
        if cost is None:
            cost = 2 * (d - 1) * len(self._draw[0]) + 1 if self._draw is not None else 1
        space = self._exact.space if self._exact is not None else self._space
        return Plan(self._method, self._method != "sampling", space, cost, tuple(self._reasons))

    def explain(self, X: Any, *, progress: bool = False) -> Explanation:
        """Explain each row of a batch.

        Args:
            X: n rows, in any form the model takes.
            progress: show a bar, for many rows and a slow model.

        Raises:
            SignatureError: if the rows do not fit the model.
            AdditivityError: if exact values do not add up to what the model served.
        """
        feeds = self._signature.coerce(X)
        served = self._ask_model(feeds)
        if self._exact is not None:
            values, base, gap = self._exact.explain(feeds, served)
            errors, evaluations = None, self.plan().rows_per_row * len(served)
        else:
            values, base, errors, evaluations = self._black_box(feeds, served, progress=progress)
            gap = np.abs(base + values.sum(axis=1) - served)
        exact = self._method != "sampling"
        if exact:
            _check_gap(gap, served)
        manifest = self._model.manifest
        return Explanation(
            values=values,
            base_values=base,
            data=_table(self._signature, feeds),
            feature_names=tuple(player.name for player in self._players),
            output_names=self._names if self._exact is None else self._exact.names,
            output_space=self._space if self._exact is None else self._exact.space,
            method=self._method,
            exact=exact,
            additivity_gap=gap,
            std_error=errors,
            fidelity=None,
            evaluations=evaluations,
            seed=self._seed,
            background_id=self.background_id,
            background_rows=self._count,
            model_digest=None if manifest is None else manifest.digest,
            warnings=self._warnings(),
        )

    def _warnings(self) -> tuple[str, ...]:
        if self._draw is not None and len(self._draw[0]) < self._count:
            return (f"the budget reaches {len(self._draw[0])} of {self._count} background rows",)
        return ()

    def _black_box(self, feeds: Feeds, served: Array, *, progress: bool) -> tuple[Array, Array, Array | None, int]:
        """Values, base, standard errors and model rows, from answers of the model alone."""
        n, d, k = len(served), len(self._players), served.shape[1]
        values, base = np.zeros((n, d, k)), np.zeros((n, k))
        errors = None if self._draw is None else np.zeros((n, d, k))
        evaluations = n
        for i in _progress(n, show=progress):
            row = {name: feed[i] for name, feed in feeds.items()}
            ask = self._mixer(row)
            if d == 1:
                values[i, 0], base[i] = served[i] - self._at_background.mean(axis=0), self._at_background.mean(axis=0)
            elif self._draw is None:
                values[i], base[i] = sampling.enumerate_all(ask, d, self._count)
                evaluations += self._count << d
            else:
                assert errors is not None  # noqa: S101 - for the type checker
                ranks, rows = self._draw
                values[i], errors[i], base[i] = sampling.sample(ask, ranks, rows, served[i], self._at_background)
                evaluations += 2 * (d - 1) * len(ranks)
        return values, base, errors, evaluations

    def _mixer(self, row: dict[str, Array]) -> sampling.Ask:
        """Answers for rows mixed of one row and the background."""

        def ask(masks: Array, rows: Array) -> Array:
            parts = []
            for start in range(0, len(masks), CHUNK):
                mask, chosen = masks[start : start + CHUNK], rows[start : start + CHUNK]
                mixed, at = {}, 0
                for name, feed in self._background.items():
                    wide = feed.shape[1]
                    mixed[name] = np.where(mask[:, at : at + wide], row[name], feed[chosen])
                    at += wide
                parts.append(self._ask_model(mixed))
            return np.concatenate(parts)

        return ask

    def _ask_model(self, feeds: Feeds) -> Array:
        """The served output as (n, k) doubles."""
        got = self._model._run(feeds, (self._served,), LATER)[self._served]
        return got.reshape(len(got), -1).astype(np.float64)


def _check_gap(gap: Array, served: Array) -> None:
    allowed = TOLERANCE * max(1.0, float(np.max(np.abs(served), initial=0)))
    worst = float(np.max(gap, initial=0))
    if not worst <= allowed:
        raise AdditivityError(
            f"the values add up to {worst:.3g} beside what the model served, where at most {allowed:.3g} is rounding; "
            f"use method='sampling', and report this model",
            gap=worst,
        )


def _progress(n: int, *, show: bool) -> Any:
    if not show:
        return range(n)
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return range(n)
    return tqdm(range(n), desc="explain", unit="row")


def _read_background(model: Model, rows: Any) -> Feeds:
    if rows is not None:
        feeds = model.signature.coerce(rows)
    else:
        data = model.attachments.get(BACKGROUND)
        if data is None:
            raise ExplainError(
                "an explanation is relative to a background: pass background=X_train[:200], or store one in the "
                "package with mk.save(..., background=...)"
            )
        try:
            feeds, _ = golden.decode(data, Signature(model.signature.inputs, (TensorSpec("none", "float64", ("n",)),)))
        except PackageError as error:
            raise ExplainError(f"the background of the package cannot be read: {error}") from error
    if not len(next(iter(feeds.values()))):
        raise ExplainError("the background has no rows")
    return feeds


def _served_output(signature: Signature) -> str:
    if signature.has_probabilities:
        return "probabilities"
    name = signature.primary
    spec = next((spec for spec in signature.outputs if spec.name == name), None)
    if spec is None or numpy_dtype(spec.dtype).kind != "f":
        numeric = [spec.name for spec in signature.outputs if numpy_dtype(spec.dtype).kind == "f"]
        if not numeric:
            raise ExplainError("the model gives labels alone, and a label is no number to explain")
        return numeric[0]
    return spec.name


def _output_names(signature: Signature, served: str, count: int) -> tuple[str, ...]:
    if served == "probabilities" and signature.classes is not None:
        return tuple(map(str, signature.classes))
    return (served,) if count == 1 else tuple(f"{served}[{i}]" for i in range(count))


def _table(signature: Signature, feeds: Feeds) -> Array:
    """The rows as (n, d) values: numbers where all are, else objects with missing strings as None."""
    blocks = [feeds[spec.name] for spec in signature.inputs]
    if all(block.dtype != object for block in blocks):
        return np.concatenate([block.astype(np.float64) for block in blocks], axis=1)
    out = np.concatenate([block.astype(object) for block in blocks], axis=1)
    out[out == MISSING] = None
    return out


class _Exact:
    """An exact method, ready to run."""

    def __init__(
        self, found: Exact, space: str, names: tuple[str, ...], run: Callable[[Feeds], tuple[Array, Array]]
    ) -> None:
        self.kind, self.space, self.names, self._found, self._run = found.kind, space, names, found, run

    @staticmethod
    def build(owner: Explainer, model: Model, method: str, output: str, reasons: list[str]) -> _Exact | None:
        """The exact method for this model, or None, with the reasons in `reasons`."""
        if method in ("enumeration", "sampling"):
            reasons.append(f"method={method!r} was asked for")
            return None
        graph = getattr(model.base, "graph", None)
        if graph is None:
            reasons.append("the model has no graph to read")
            return None
        try:
            found = read(whole_proto(*graph), owner._signature, owner._served)
            if method not in ("auto", found.kind):
                raise NoStructureError(f"the graph has the structure for {found.kind!r}")
            if found.link != "identity" and output in ("probability", "value"):
                raise NoStructureError(f"the {output} comes after a {found.link}, and values are exact before it alone")
            run = _run_trees(owner, found) if found.kind == "trees" else _run_additive(owner, found)
        except (NoStructureError, TooDeepError, GraphError) as error:
            reasons.append(str(error))
            return None
        space, names = _space(owner, found)
        reasons.append("the graph is a sum of trees" if found.kind == "trees" else "the graph is a sum over columns")
        exact = _Exact(found, space, names, run)
        few = {name: feed[:64] for name, feed in owner._background.items()}
        try:
            _check_gap(exact.explain(few, owner._at_background[:64])[2], owner._at_background)
        except AdditivityError as error:
            reasons.append(f"its values do not add up to what is served: {error}")
            return None
        return exact

    def explain(self, feeds: Feeds, served: Array) -> tuple[Array, Array, Array]:
        """Values, base, and the distance to what was served."""
        values, base = self._run(feeds)
        scale, shift = (1.0, 0.0) if self._found.link != "identity" else (self._found.scale, self._found.shift)
        values, base = values * scale, base * scale + shift
        margin = base + values.sum(axis=1)
        after = _after_link(margin, self._found, served.shape[1])
        return values, np.broadcast_to(base, margin.shape).copy(), np.abs(after - served)[:, -margin.shape[1] :]


def _space(owner: Explainer, found: Exact) -> tuple[str, tuple[str, ...]]:
    if found.link == "identity":
        return owner._space, owner._names
    if found.link in ("logistic", "softmax", "share") and len(owner._names) == 2:
        return "margin", owner._names[1:]
    return "margin", owner._names


def _after_link(margin: Array, found: Exact, columns: int) -> Array:
    """What would be served for these margins."""
    if found.link == "identity":
        return np.concatenate([1 - margin, margin], axis=1) if columns == 2 and margin.shape[1] == 1 else margin
    if found.link == "exp":
        return np.asarray(np.exp(margin) * found.scale + found.shift)
    if margin.shape[1] == 1:
        with np.errstate(over="ignore"):
            likely = 1 / (1 + np.exp(-margin))
        return np.concatenate([1 - likely, likely], axis=1) if columns == 2 else likely
    if found.link in ("logistic", "share"):
        likely = 1 / (1 + np.exp(-margin))
        return np.asarray(likely if found.link == "logistic" else likely / likely.sum(axis=1, keepdims=True))
    odds = np.exp(margin - margin.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _run_trees(owner: Explainer, found: Exact) -> Callable[[Feeds], tuple[Array, Array]]:
    assert found.leaves is not None  # noqa: S101 - for the type checker
    assert found.groups is not None  # noqa: S101
    encode = _encoder(owner, found, found.leaves.dtype)
    table = LeafTable(found.leaves, found.groups, encode(owner._background))
    d = len(owner._players)

    def run(feeds: Feeds) -> tuple[Array, Array]:
        values = table.explain(encode(feeds))
        if values.shape[1] < d:
            values = np.pad(values, ((0, 0), (0, d - values.shape[1]), (0, 0)))
        return _two_classes(values, table.base, found.link)

    return run


def _run_additive(owner: Explainer, found: Exact) -> Callable[[Feeds], tuple[Array, Array]]:
    """A sum of functions of one column each: what a column adds is what changes where it alone does."""
    ask = _encoder(owner, found, np.float64)
    reference = {name: feed[:1] for name, feed in owner._background.items()}
    at_reference = ask(reference)[0]
    means = np.stack([_alone(ask, reference, owner._background, player).mean(axis=0) for player in owner._players])

    def run(feeds: Feeds) -> tuple[Array, Array]:
        values = np.stack([_alone(ask, reference, feeds, player) for player in owner._players], axis=1) - means
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
    if link in ("share", "logistic") and values.shape[2] == 2:  # one column is the other with its sign turned
        return values[:, :, 1:], base[1:]
    return values, base


def _encoder(owner: Explainer, found: Exact, dtype: Any) -> Callable[[Feeds], Array]:
    """What turns feeds into the tensor that an exact method starts from: the graph, cut there."""
    if found.tensor in owner._background:
        return lambda feeds: feeds[found.tensor].astype(dtype, copy=False)
    from onnx import TensorProto

    from modelkit.runtimes.onnx import OnnxModel

    kinds = {np.float32: (TensorProto.FLOAT, "float32"), np.float64: (TensorProto.DOUBLE, "float64")}
    failure: GraphError | None = None
    for element, name in (kinds[dtype], *kinds.values()):
        spec = TensorSpec(found.tensor, name, ("batch", "width"))
        graph = cut(found.proto, found.tensor, element).SerializeToString()
        try:
            part = OnnxModel(graph, Signature(owner._signature.inputs, (spec,)), threads=1, chunk=CHUNK)
        except GraphError as error:
            failure = error
            continue
        return lambda feeds: part._run(feeds, (found.tensor,), LATER)[found.tensor].reshape(
            len(next(iter(feeds.values()))), -1
        ).astype(dtype, copy=False)
    assert failure is not None  # noqa: S101 - for the type checker
    raise failure
