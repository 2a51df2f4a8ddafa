"""The one rule: a Model turns a batch into a batch.

`Model` has two hooks that every Model implements, `signature` and `_run`; everything a user calls
is written once on top of them. The verbs call `_call` and `_acall`, which coerce the rows in the
caller's thread and run. A Wrapper, see `modelkit.model.wrapper`, passes both on to the Model it wraps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Any, Self, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.model import golden, sklearn
from modelkit.model.call import PLAIN, Action, Call, make_call
from modelkit.model.device import Placement
from modelkit.model.manifest import Manifest
from modelkit.signature.signature import Feeds, Signature, primary_of, why_no_probabilities

__all__ = ["PLAIN", "Call", "Model", "Outputs", "make_call", "primary_of"]

Outputs = dict[str, Array]


class Model(ABC):
    """Has a `signature` and runs batches. Subclasses implement `signature` and `_run`; the verbs are final.

        model = mk.load("churn.mk")
        model.predict(X)  # labels
        model.run(X)["probabilities"]

    A loaded Model is pickled by the absolute path and the digest of its package, and opened again from there
    with the device and threads that were asked for: a file that changed in between raises IntegrityError. A Model
    from bytes or a file object raises TypeError, a closed one ClosedError. Copies, deep ones too, are the same Model.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """What this model takes and gives."""

    @abstractmethod
    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        """The named outputs for coerced `feeds`; must be safe to call from any thread."""

    def _prepare(self, feeds: Feeds) -> tuple[Feeds, int]:
        """Coerced feeds in the form in which they are cheapest to run, and their size.

        Only what gathers calls asks, once a call. The size is the number of rows, or a cost in a
        unit of the model's own, such as the tokens of texts. The tensors it gives join on axis 0,
        one row a place; `_run` and `_prepare` take them in place of coerced feeds.
        """
        return feeds, self.signature.count(feeds)

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
            deadline: seconds from now after which the answer is of no use: a Batcher drops the call then.
            priority: 0, or -1 for work that may wait in a Batcher.
            key: what a Rollout routes by. A Model ignores the ones of the three that it does not
                use.

        Raises:
            SignatureError: if the rows do not fit the signature.
            BatchError: if the graph cannot run on them, as on images of another size.
            ClosedError: if the model was closed.
            ForkedModelError: if the model is not on the CPU, and this process was forked after it was loaded.
        """
        signature = self.signature
        return self._call(X, signature.output_names, make_call(deadline, priority, key))

    @final
    def predict(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Array:
        """The primary output as an array of n rows: labels, predictions or embeddings.

            model.predict([{"age": 40, "income": 52_000, "plan": "plus"}], deadline=30.0)

        It takes the arguments of `run` and raises the same errors; also SignatureError, if the
        model lacks a primary output.
        """
        signature = self.signature
        name = signature.primary or primary_of(signature)
        return self._call(X, (name,), make_call(deadline, priority, key))[name]

    @final
    @sklearn.OnlyWhere(why_no_probabilities)
    def predict_proba(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Array:
        """Class probabilities, shape (n, len(classes)), columns in the order of `classes_`.

        A mixture gives the probabilities of its components, which its labels number from 0. It takes what `run`
        takes, and raises what that raises. A model without classes or probabilities, or of several
        labels, lacks the attribute.
        """
        outputs = self._call(X, ("probabilities",), make_call(deadline, priority, key))
        return outputs["probabilities"]

    @final
    async def arun(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Outputs:
        """As `run`, with the same arguments, without blocking the event loop."""
        signature = self.signature
        return await self._acall(X, signature.output_names, make_call(deadline, priority, key))

    @final
    async def apredict(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Array:
        """As `predict`, with the same arguments, without blocking the event loop."""
        signature = self.signature
        name = signature.primary or primary_of(signature)
        outputs = await self._acall(X, (name,), make_call(deadline, priority, key))
        return outputs[name]

    @final
    @sklearn.OnlyWhere(why_no_probabilities)
    async def apredict_proba(
        self, X: object, *, deadline: float | None = None, priority: int = 0, key: str | None = None
    ) -> Array:
        """As `predict_proba`, with the same arguments, without blocking the event loop."""
        outputs = await self._acall(X, ("probabilities",), make_call(deadline, priority, key))
        return outputs["probabilities"]

    # Properties that a Wrapper passes on from the Model it wraps.

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
        """The Model without its Monitors and Meters; itself if it has none."""
        return self

    def _for_key(self, key: str | None) -> Model:
        """What answers calls with this key, and stays what it is for as long as it is held."""
        return self

    def _check_access(self, action: Action) -> bool:
        """Raise AccessDenied where a policy forbids it; returns whether one was asked."""
        del action  # nothing here has a policy
        return False

    @property
    def placement(self) -> Placement | None:
        """Where the model really runs; None for your own function, which decides itself."""
        return None

    @property
    def closed(self) -> bool:
        """Whether it was closed, and answers no more."""
        return False

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the package this model was loaded from, or None."""
        return None

    @property
    def name(self) -> str | None:
        """The name in the manifest, or None."""
        return None if self.manifest is None else self.manifest.name

    @property
    def version(self) -> str | None:
        """The version in the manifest, or None."""
        return None if self.manifest is None else self.manifest.version

    @property
    def attachments(self) -> Mapping[str, memoryview]:
        """The attachments of the package, by name."""
        return MappingProxyType({})

    @property
    def batchable(self) -> bool:
        """Whether a row's answer was shown not to depend on the rows it is batched with."""
        return self.manifest is not None and self.manifest.parity.batch_invariant

    def _why_not_batchable(self) -> str:
        """Why a Batcher refuses a model that is not `batchable`, and what to do about it."""
        manifest = self.manifest
        if manifest is not None:
            return f"its package says: {manifest.parity}"
        return (
            "nothing shows that a row's answer is independent of its batch; if you know that it "
            "is, pass FunctionModel(..., batchable=True)"
        )

    @property
    def runs_at_once(self) -> int:
        """How many runs the model does in parallel."""
        where = self.placement
        if where is None or where.split:
            return 1
        return where.threads

    @property
    def endless(self) -> bool:
        """Whether rows can make a run arbitrarily long, so that only a deadline ends it."""
        return False

    def _use_threads(self, threads: int) -> None:
        """Use so many threads of the CPU from the next run on, where the model has threads.

        A Rollout asks for it, whose two arms share the threads of one Model. It takes as long as
        opening the graph again, and runs under way end as they began. A Model of several Models
        hands it on.
        """
        del threads  # a function has none

    @final
    def warmup(self) -> None:
        """Run the golden rows at every batch size that was proven, before the first request comes.

        They belong to `base`, which runs them unseen by its layers; of a Rollout, the champion's.

        Raises PackageError for a model without golden rows, and where they do not run.
        """
        pinned = self._for_key(None)  # held until the end, so that it is not closed meanwhile
        model = pinned.base
        feeds, _ = golden.rows_in(model.attachments, model.signature, model)
        sizes = model.manifest.parity.batch_sizes if model.manifest is not None else ()
        for batch in golden.repeated(feeds, sizes, model.signature):
            golden.replayed(model._run, batch, model.signature)

    @final
    def verify(self) -> float:
        """Run the golden rows again; returns the largest relative difference from saved answers.

        Like `warmup`, it runs `base`: its answers were proven, without the layers around it.

        Raises IntegrityError where the difference is above the tolerance in the manifest, or a
        label differs: this machine, runtime or device does not compute what was proven. Raises
        PackageError for a model without golden rows, and where they do not run.
        """
        pinned = self._for_key(None)
        model = pinned.base
        feeds, expected = golden.rows_in(model.attachments, model.signature, model)
        got = golden.replayed(model._run, feeds, model.signature)
        parity = None if model.manifest is None else model.manifest.parity
        tolerance = 0.0 if parity is None else parity.rtol + parity.atol
        return golden.largest_difference(expected, got, tolerance)

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
    def __exit__(self, *raised: object) -> None:
        self.close()

    @final
    async def __aenter__(self) -> Self:
        return self

    @final
    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    @final
    def __copy__(self) -> Self:
        return self

    @final
    def __deepcopy__(self, memo: object) -> Self:
        return self

    # The face of an estimator: what scikit-learn's scorers and displays ask for.

    @property
    def classes_(self) -> Array:
        """The labels of a classifier, in the order of the columns of `predict_proba`."""
        if self.signature.classes is None:
            raise AttributeError(
                "this model is not a classifier: its signature does not name classes"
            )
        return np.asarray(self.signature.classes)

    @final
    @sklearn.OnlyWhere(sklearn.why_no_scores)
    def decision_function(self, X: object) -> Array:
        """What a classifier without probabilities, or an outlier detector, decides by.

        For n rows as `run` takes them it gives the output `scores`, (n,) or (n, classes). A model
        without that output lacks the attribute, so that scikit-learn's scorers ask for something
        else.
        """
        return self._call(X, ("scores",), PLAIN)["scores"]

    @final
    @sklearn.OnlyWhere(sklearn.why_no_score)
    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """What scikit-learn's tools use where no metric is named.

        That is the accuracy of a classifier and R2 of a regressor; `mk.evaluate` has more. Other
        models lack the attribute.
        """
        return sklearn.score(self.signature, y, self.predict(X), sample_weight)

    @final
    def fit(self, X: object = None, y: object = None, **_: object) -> Self:
        """Raises TypeError, as a model is trained; scikit-learn's tools ask whether there is one."""
        raise TypeError(
            f"{type(self).__name__} is already trained and cannot be fitted; to evaluate it with "
            "tools that clone and fit, wrap it: sklearn.frozen.FrozenEstimator(model)"
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        return sklearn.tags(self.signature)

    def __dir__(self) -> list[str]:
        names = {*super().__dir__()} - {
            "fit"
        }  # which scikit-learn asks for, and which always raises
        return [name for name in names if name not in sklearn.OPTIONAL or hasattr(self, name)]

    def __repr__(self) -> str:
        named = "" if self.name is None else f" {self.name} {self.version}"
        return fields.cut(f"<{type(self).__name__}{named}: {self.signature}>")

    def _facts(self) -> list[tuple[str, str]]:
        """The first lines of the notebook card; a wrapper adds its own."""
        where = self.placement
        if where is None:
            return []
        return [
            ("placement", str(where)),
            ("device", where.reason),
            ("threads", where.threads_reason),
        ]

    def _repr_html_(self) -> str:
        from modelkit.report import html

        facts = self._facts()
        title = type(self).__name__
        if self.manifest is not None:
            title = f"{self.name} {self.version}"
            facts += [
                ("parity", str(self.manifest.parity)),
                ("digest", f"sha256:{self.manifest.digest}"),
            ]
        if self.signature.classes is not None:
            facts.append(("classes", html.some(self.signature.classes)))
        return html.card(
            title, facts, ("", "tensor", "dtype", "shape", "columns"), self.signature.table()
        )
