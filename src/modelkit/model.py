"""The one rule: a Model turns a batch into a batch.

`Model` has two hooks that every Model implements, `signature` and `_run`; everything a user calls
is written once on top of them. The verbs call `_call` and `_acall`, which coerce the rows in the
caller's thread and run. A Wrapper, see `modelkit.wrapper`, passes both on to the Model it wraps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Self, final

import numpy as np

from modelkit import golden, scoring
from modelkit.cast import Array
from modelkit.device import Placement
from modelkit.errors import (
    BatchError,
    ClosedError,
    IntegrityError,
    ModelkitError,
    OutputCountError,
    PackageError,
    SignatureError,
)
from modelkit.manifest import Manifest
from modelkit.signature import Feeds, Signature
from modelkit.spec import TensorSpec, check_dims, numpy_dtype

Outputs = dict[str, Array]


@dataclass(frozen=True)
class Call:
    """How one call wants to be served.

    `deadline` is a point on `time.monotonic()`, `priority` is 0, or -1 for work that may wait, and
    `key` is what a rollout routes by. A bare model runs at once whatever they say; wrappers act on
    them.
    """

    deadline: float | None = None
    priority: int = 0
    key: str | None = None


PLAIN = Call()


def make_call(deadline: float | None, priority: int, key: str | None) -> Call:
    """A Call from what a user passes; `deadline` in seconds from now. Raises ValueError."""
    if deadline is None and priority == 0 and key is None:
        return PLAIN
    if priority not in (0, -1):
        raise ValueError(f"priority is 0, or -1 for work that may wait; got {priority!r}")
    if deadline is None:
        return Call(None, priority, key)
    if not deadline > 0:
        raise ValueError(f"deadline is in seconds from now and must be positive; got {deadline!r}")
    import time

    return Call(time.monotonic() + deadline, priority, key)


class Model(ABC):
    """Has a `signature` and runs batches. Subclasses implement `signature` and `_run`; the verbs are final.

    A loaded Model is pickled by the absolute path and the digest of its package, and opened again
    from there with the device and threads that were asked for: a file that changed in between
    raises IntegrityError. A Model from bytes or a file object has no path and raises TypeError, a
    closed one ClosedError. Copies, deep ones too, are the same Model.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """What this model takes and gives."""

    @abstractmethod
    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        """Answer with the named outputs for coerced `feeds`; must be safe to call from any thread."""

    def _cost(self, feeds: Feeds) -> int | None:
        """What these rows cost to run, in a unit of the model's own (a text encoder: tokens); None where rows count."""
        return None

    async def _arun(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        import asyncio

        return await asyncio.to_thread(self._run, feeds, outputs, call)

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """Coerce the rows and run them. All verbs come through here."""
        return self._run(self.signature.coerce(X), outputs, call)

    def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Awaitable[Outputs]:
        """As `_call`, for the async verbs."""
        return self._arun(self.signature.coerce(X), outputs, call)

    @final
    def run(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Outputs:
        """Every output by name, as arrays, for a batch of n rows.

        Args:
            X: n rows, in any form that `Signature.coerce` accepts.
            deadline: seconds from now after which the answer is worthless (a Batcher then drops the
                request).
            priority: 0, or -1 for work that may wait.
            key: what a rollout routes by.

        Raises:
            SignatureError: if the rows do not fit the signature.
            BatchError: if the graph cannot be run on them, such as images of a size it does not
                take.
            ClosedError: if the model was closed.
            ForkedModelError: if the model is on a GPU or the like, and this process was forked
                after it was loaded.
        """
        signature = self.signature
        return self._call(X, signature.output_names, make_call(deadline, priority, key))

    @final
    def predict(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Array:
        """The primary output as an array of n rows: labels, predictions or embeddings.

        See `run`.
        """
        signature = self.signature
        name = signature.primary or primary_of(signature)
        return self._call(X, (name,), make_call(deadline, priority, key))[name]

    @final
    def predict_proba(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Array:
        """Class probabilities, shape (n, len(classes)), columns in the order of `classes_`.

        See `run`.
        """
        signature = self.signature
        if not signature.has_probabilities:
            _no_probabilities(signature)
        return self._call(X, ("probabilities",), make_call(deadline, priority, key))[
            "probabilities"
        ]

    @final
    async def arun(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Outputs:
        """As `run`, without blocking the event loop."""
        signature = self.signature
        return await self._acall(X, signature.output_names, make_call(deadline, priority, key))

    @final
    async def apredict(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Array:
        """As `predict`, without blocking the event loop."""
        signature = self.signature
        name = signature.primary or primary_of(signature)
        return (await self._acall(X, (name,), make_call(deadline, priority, key)))[name]

    @final
    async def apredict_proba(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Array:
        """As `predict_proba`, without blocking the event loop."""
        signature = self.signature
        if not signature.has_probabilities:
            _no_probabilities(signature)
        return (await self._acall(X, ("probabilities",), make_call(deadline, priority, key)))[
            "probabilities"
        ]

    # What a Wrapper passes on from the Model it wraps.

    @property
    def inner(self) -> Model | None:
        """The wrapped Model; None for a Model that wraps nothing."""
        return None

    @property
    def base(self) -> Model:
        """The innermost Model."""
        return self

    @property
    def unobserved(self) -> Model:
        """What answers the same without showing a Monitor what it serves; the Model itself where there is none."""
        return self

    @property
    def placement(self) -> Placement | None:
        """Where the model really runs; None where that is up to a function of yours."""
        return None

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the package this model was loaded from, or None."""
        return None

    @property
    def attachments(self) -> Mapping[str, memoryview]:
        """The attachments of the package, by name."""
        return MappingProxyType({})

    @property
    def batchable(self) -> bool:
        """Whether a row's answer was shown not to depend on the rows it is batched with."""
        return self.manifest is not None and self.manifest.parity.batch_invariant

    def _why_not_batchable(self) -> str:
        """Why a Batcher refuses a model that is not `batchable`, and what to do, as the end of a sentence."""
        manifest = self.manifest
        if manifest is not None:
            return f"its package says: {manifest.parity}"
        return (
            "nothing shows that a row's answer is independent of its batch; if you know that it "
            "is, pass "
            "FunctionModel(..., batchable=True)"
        )

    @property
    def runs_at_once(self) -> int:
        """How many runs the model does side by side without one of them waiting for another."""
        where = self.placement
        if where is None or where.split:
            return 1
        return where.threads

    @final
    def warmup(self) -> None:
        """Run the golden rows at every batch size that was proven at save time, so that no request pays for it.

        Raises PackageError for a model that came without golden rows, or on whose machine they do
        not run.
        """
        feeds, _ = self._golden()
        rows = self.signature.count(feeds)
        sizes = self.manifest.parity.batch_sizes if self.manifest is not None else ()
        for size in sizes or (rows,):
            golden.check_warmth(feeds, rows, size)
            self._replay(
                self.signature.take(feeds, np.arange(size) % max(rows, 1))
                if size != rows
                else feeds
            )

    @final
    def verify(self) -> float:
        """Run the golden rows again and return the largest relative difference from what they gave at save time.

        Raises IntegrityError where it passes the tolerance in the manifest, or a label differs:
        then this machine, runtime or device does not compute what was proven. Raises PackageError
        for a model without golden rows, and where it does not run them.
        """
        feeds, expected = self._golden()
        got = self._replay(feeds)
        parity = self.manifest.parity if self.manifest is not None else None
        worst = 0.0
        for name, array in expected.items():
            if array.shape != got[name].shape:
                gap = np.inf
            elif array.dtype.kind != "f":
                gap = 0.0 if np.array_equal(array, got[name]) else np.inf
            else:
                with np.errstate(invalid="ignore"):
                    differs = np.abs(got[name] - array) / np.maximum(1.0, np.abs(array))
                gap = float(
                    np.where(
                        np.isnan(array) & np.isnan(got[name]) | (array == got[name]), 0, differs
                    ).max(initial=0)
                )
            if not gap <= (parity.rtol + parity.atol if parity is not None else 0.0):
                raise IntegrityError(
                    f"output {name!r} of the golden rows differs by {gap:.2g} from what it was at "
                    "save time; "
                    f"compare the versions in the manifest with `modelkit doctor`",
                    output=name,
                    difference=gap,
                )
            worst = max(worst, gap)
        return worst

    def _replay(self, feeds: Feeds) -> Outputs:
        try:
            return self._run(feeds, self.signature.output_names, PLAIN)
        except Exception as error:
            if isinstance(error, ModelkitError) and type(error) is not BatchError:
                raise
            raise PackageError(
                f"the golden rows, which ran at save time, do not run here: {error}"
            ) from error

    def _golden(self) -> tuple[Feeds, Outputs]:
        data = self.attachments.get(golden.GOLDEN)
        if data is None:
            raise PackageError(
                f"{type(self.base).__name__} holds no golden rows; they come with a saved package"
            )
        return golden.decode_golden(data, self.signature)

    def close(self) -> None:  # noqa: B027 - most wrappers hold nothing
        """Release what this model itself holds; a wrapper does not close what it wraps.

        Closing twice is fine.
        """

    @final
    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        import asyncio

        await asyncio.to_thread(self.close)

    @final
    def __enter__(self) -> Self:
        return self

    @final
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    @final
    async def __aenter__(self) -> Self:
        return self

    @final
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    @final
    def __copy__(self) -> Self:
        return self

    @final
    def __deepcopy__(self, memo: object) -> Self:
        return self

    # What scikit-learn's scorers and displays ask of an estimator.

    @property
    def classes_(self) -> Array:
        """The labels of a classifier, in the order of the columns of `predict_proba`."""
        if self.signature.classes is None:
            raise AttributeError("this model is not a classifier: its signature has no classes")
        return np.asarray(self.signature.classes)

    @property
    def n_features_in_(self) -> int:
        """The number of columns over all inputs."""
        sizes = [len(spec.columns) or (spec.shape or (None,))[-1] for spec in self.signature.inputs]
        if not all(isinstance(size, int) for size in sizes):
            raise AttributeError("the number of columns of this model's inputs is not fixed")
        return sum(size for size in sizes if isinstance(size, int))

    @final
    def score(self, X: object, y: Any, sample_weight: Any = None) -> float:
        """What scikit-learn's `score` of this kind of model is: accuracy of a classifier, R2 of a regressor.

        Args:
            X: n rows, as `run` takes them.
            y: their n true labels or values, or (n, k) where a row has k of them; of k labels all
                must be right.
            sample_weight: n weights of the rows; None for equal ones.

        Raises:
            SignatureError: if scikit-learn has no score for this kind of model, or another one: it
                says what to call.
            ValueError: if y does not fit what the model gives.
        """
        from sklearn.metrics import accuracy_score, r2_score

        source = None if self.manifest is None else self.manifest.parity.against
        metric = scoring.metric_for(self.signature, source)
        got = self.predict(X)
        if metric == scoring.R2:
            return float(r2_score(y, got, sample_weight=sample_weight))
        if got.ndim == 1:
            return float(accuracy_score(y, got, sample_weight=sample_weight))
        truth = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        if truth.shape != got.shape:
            raise ValueError(
                f"y has the shape {truth.shape}, and the labels of these rows {got.shape}"
            )
        return float(np.average((truth == got).all(axis=1), weights=sample_weight))

    @final
    def fit(self, X: object = None, y: object = None, **_: object) -> Self:
        """Refused: a model is a finished thing. Raises TypeError."""
        raise TypeError(
            f"{type(self).__name__} is already trained and cannot be fitted; to evaluate it with "
            "tools that "
            f"clone and fit, wrap it: sklearn.frozen.FrozenEstimator(model)"
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        signature = self.signature
        classifier, regressor = signature.classes is not None, signature.primary == "prediction"
        tags = Tags(
            estimator_type="classifier" if classifier else "regressor" if regressor else None,
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags() if classifier else None,
            regressor_tags=RegressorTags() if regressor else None,
            input_tags=InputTags(
                allow_nan=any(
                    column.nullable for spec in signature.inputs for column in spec.columns
                ),
                string=any(spec.dtype == "string" for spec in signature.inputs),
            ),
        )
        tags.requires_fit = False
        return tags

    def __repr__(self) -> str:
        name = "" if self.manifest is None else f" {self.manifest.name} {self.manifest.version}"
        return f"<{type(self).__name__}{name}: {self.signature}>"

    def _facts(self) -> list[tuple[str, str]]:
        """What the notebook card says first; a wrapper adds what it does."""
        where = self.placement
        if where is None:
            return []
        return [
            ("placement", str(where)),
            ("device", where.reason),
            ("threads", where.threads_reason),
        ]

    def _repr_html_(self) -> str:
        from modelkit import html

        facts = self._facts()
        title = type(self).__name__
        if self.manifest is not None:
            title = f"{self.manifest.name} {self.manifest.version}"
            facts += [
                ("parity", str(self.manifest.parity)),
                ("digest", f"sha256:{self.manifest.digest}"),
            ]
        if self.signature.classes is not None:
            facts.append(("classes", html.some(self.signature.classes)))
        return html.card(
            title, facts, ("", "tensor", "dtype", "shape", "columns"), self.signature.table()
        )


def primary_of(signature: Signature) -> str:
    """The name of the primary output. Raises SignatureError where there is none."""
    if signature.primary is not None:
        return signature.primary
    raise SignatureError(
        f"predict needs a primary output, and none of {list(signature.output_names)} is named "
        "label, prediction "
        f"or embedding; use run(X)[name], or name it: Signature(..., primary=name)",
        signature=signature,
    )


def _no_probabilities(signature: Signature) -> None:
    raise SignatureError(
        f"predict_proba needs classes and an output named probabilities; this model gives "
        f"{list(signature.output_names)}: use predict or run",
        signature=signature,
    )


@final
class FunctionModel(Model):
    """A Model from `fn(feeds) -> outputs`, for tests and for whoever brings their own runtime; it is not saved.

    Args:
        fn: takes coerced tensors by name and returns every output by name. The tensors may be the
            caller's own arrays, so they are read-only, and writing into one raises ValueError: copy
            what you change, with `feed.copy()`, or `torch.tensor(feed)` in place of
            `torch.from_numpy(feed)`.
        signature: what `fn` takes and gives.
        batchable: whether each row's answer is the same whatever rows it is batched with.
    """

    __slots__ = ("_batchable", "_fn", "_signature")

    def __init__(
        self,
        fn: Callable[[Feeds], Mapping[str, Any]],
        signature: Signature,
        batchable: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        self._fn: Callable[[Feeds], Mapping[str, Any]] | None = fn
        self._signature = signature
        self._batchable = batchable

    @property
    def batchable(self) -> bool:
        """What was said of the function."""
        return self._batchable

    @property
    def signature(self) -> Signature:
        """What the function takes and gives."""
        return self._signature

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        fn = self._fn
        if fn is None:
            raise ClosedError("the model was closed")
        sizes = check_dims(self.signature.inputs, feeds)
        batch = self.signature.batch
        if batch is not None and sizes[batch] == 0:
            return self.signature.empty(outputs)
        answer = fn(_read_only(feeds))
        if not isinstance(answer, Mapping):
            raise ModelkitError(
                f"the function gave a {type(answer).__name__}; it must give a dict of outputs by "
                "name"
            )
        specs = [spec for spec in self.signature.outputs if spec.name in outputs]
        absent = [spec.name for spec in specs if spec.name not in answer]
        if absent:
            raise ModelkitError(
                f"the function gave {list(answer)}, without the outputs {absent} of its signature"
            )
        arrays = {
            spec.name: check_output(
                answer[spec.name], spec, None if batch is None else sizes[batch], "function"
            )
            for spec in specs
        }
        check_dims(specs, arrays, sizes)
        return arrays

    def __reduce__(self) -> tuple[Any, ...]:
        if self._fn is None:
            raise ClosedError("the model was closed and cannot be pickled")
        return FunctionModel, (self._fn, self._signature, self._batchable)

    def close(self) -> None:
        """Drop the function; later calls raise ClosedError."""
        self._fn = None


def _read_only(feeds: Feeds) -> Feeds:
    """Views that cannot be written to: a quarter of a microsecond a tensor, whatever its size."""
    views: Feeds = {}
    for name, feed in feeds.items():
        view = feed[...]
        view.setflags(write=False)
        views[name] = view
    return views


def reopening(origin: partial[Model] | None, *, closed: bool) -> tuple[Any, ...]:
    """What a loaded Model is pickled as: the call that opens its package again.

    Raises ClosedError and TypeError.
    """
    if closed:
        raise ClosedError("the model was closed and cannot be pickled; load it again")
    if origin is None:
        raise TypeError(
            "a model is pickled by the path and digest of its package, and this one was loaded "
            "from memory: "
            "write the package to a file, load it by path, and pickle that model"
        )
    return origin, ()


def check_output(value: Any, spec: TensorSpec, rows: int | None, source: str) -> Array:
    """An answer of a function or estimator, `source`, as an array, if it is what the signature declares."""
    array = np.asarray(value)
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype != numpy_dtype(spec.dtype) or not spec.fits(array.shape):
        raise ModelkitError(f"the {source} gave {array.dtype} {array.shape} for the output {spec}")
    if rows is not None and len(array) != rows:
        raise OutputCountError(
            f"the {source} gave {len(array)} rows of {spec.name!r} for {rows} rows of input",
            expected=rows,
            got=len(array),
        )
    return array
