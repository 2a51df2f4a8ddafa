"""What kind of task a model has, and the truth of its rows, read from what the caller holds."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, get_args

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.columns import read_column
from modelkit.model.manifest import Manifest
from modelkit.signature import frames
from modelkit.signature.signature import Signature

OUTLIERS = (-1, 1)  # what outlier detectors call rows: -1 for the odd ones
CLUSTERERS = (
    "KMeans",
    "MiniBatchKMeans",
    "BisectingKMeans",
    "GaussianMixture",
    "BayesianGaussianMixture",
)
NUMBERS = (bool, int, float, np.number, np.bool_)
LABELS = (str, *NUMBERS)
MOST_NAMED = 5  # of labels that a message shows


def task_kind(
    signature: Signature, manifest: Manifest | None = None, *, queries: bool = False
) -> TaskKind:
    """The kind of task that a model has, by what it gives.

    Args:
        signature: of the model.
        manifest: of its package, which says whether labels are classes or clusters; or None.
        queries: whether the rows belong to queries, so the model ranks them.

    Raises:
        UsageError: if the kind does not follow from the arguments.
    """
    if queries:
        return "ranking"
    if signature.classes is not None:
        return "binary" if len(signature.classes) == 2 else "multiclass"
    primary = signature.primary
    if primary == "embedding":
        return "retrieval"
    if primary == "prediction":
        return "regression"
    source = "" if manifest is None else manifest.parity.against or ""
    if primary == "label":
        (shape,) = [spec.shape for spec in signature.outputs if spec.name == "label"]
        if len(shape) == 2 and shape[1] != 1:
            return "multilabel"
        if source.rpartition(" ")[2] in CLUSTERERS:
            return "clustering"
        if "scores" in signature.output_names:
            return "binary"
    raise UsageError(
        f"nothing says what the outputs {list(signature.output_names)} of this model are; pass "
        f"kind=, one of {', '.join(get_args(TaskKind))}"
    )


def read_task(
    kind: TaskKind,
    classes: tuple[Any, ...] | None,
    y: Any,
    *,
    sample_weight: Any = None,
    clusters: Any = None,
    queries: Any = None,
    positive: Any = None,
) -> Answered:
    """Rows with their truth, before a model has answered them.

    Args:
        kind: of task.
        classes: of a classifier; None for an outlier detector, whose classes are -1 and 1.
        y: the truth of n rows: labels, values, (n, L) of 0 and 1, or how relevant each row is.
            Of several labels the columns of a frame, or of a dict, have names.
        sample_weight: the weight of each row, (n,), at least 0.
        clusters: what rows belong together, (n,), of any kind of value.
        queries: the query of each row, (n,), of any kind of value; for "ranking".
        positive: see `positive_place`.

    Raises:
        UsageError: if these do not fit the task or each other, or a value is missing.
    """
    check_kind(kind, classes)
    known: tuple[Any, ...] = ()
    if kind in ("binary", "multiclass"):
        known = OUTLIERS if classes is None else classes
    place = positive_place(kind, classes, positive)
    if kind in ("multilabel", "regression"):
        names, y = read_labels(y)
        known = names if kind == "multilabel" else ()
    truth = truth_of(kind, known, y)
    n = len(truth)
    if not n:
        raise UsageError("X is empty: pass rows to evaluate")
    asked = read_groups("queries", queries, n)
    if kind == "ranking" and asked is None:
        raise UsageError("a ranking is evaluated by query: pass queries=, the query of each row")
    together = read_groups("clusters", clusters, n)
    return Answered(
        kind,
        truth,
        classes=known,
        positive=place,
        weights=read_weights(sample_weight, n, asked),
        clusters=asked if together is None else together,
        queries=asked,
    )


def check_kind(kind: TaskKind, classes: tuple[Any, ...] | None) -> None:
    """Raise UsageError for an unknown kind, and where the classes are too many or too few."""
    if kind not in get_args(TaskKind):
        raise UsageError(f"kind is one of {', '.join(get_args(TaskKind))}, not {kind!r}")
    if kind == "multiclass" and classes is None:
        raise UsageError("kind='multiclass' needs a model whose signature has classes")
    if kind == "binary" and classes is not None and len(classes) != 2:
        raise UsageError(f"kind='binary' is for two classes, and this model has {len(classes)}")


def positive_place(kind: TaskKind, classes: tuple[Any, ...] | None, positive: Any) -> int:
    """The place of the positive class of a "binary" task.

    Args:
        kind: of task.
        classes: of a classifier; None for an outlier detector.
        positive: one of them; None for the second, and for the outliers of a detector.

    Raises:
        UsageError: for another value, and for a value at another kind of task.
    """
    known = OUTLIERS if classes is None else classes
    if positive is None:
        return 0 if classes is None else 1
    if kind != "binary":
        raise UsageError(
            f"positive={positive!r:.80} is for a task of two classes, and this one is {kind}: leave it "
            "out, and read Evaluation.classes, which has the figures of each"
        )
    if not isinstance(positive, LABELS) or positive not in known:
        raise UsageError(
            f"positive={positive!r:.80} is not a class of this model: pass one of {known!r:.200}"
        )
    return known.index(positive)


def read_labels(y: Any) -> tuple[tuple[str, ...], Any]:
    """The names of several labels, none where they lack names, and their columns side by side."""
    if not isinstance(y, Mapping) and not hasattr(y, "columns"):
        return (), y
    names, columns = frames.read_frame(y)
    named = dict(zip(map(str, names), columns, strict=True))
    return tuple(named), np.column_stack([whole_column(*each) for each in named.items()])


def truth_of(kind: TaskKind, classes: tuple[Any, ...], y: Any) -> Array:
    """The truth in the form that Answered has it. Raises UsageError."""
    if kind in ("binary", "multiclass"):
        return class_places(whole_column("y", y), classes)
    if kind == "clustering":
        return text_codes("y", y)
    if kind == "ranking":
        gains = _numbers("y", y)
        if gains.ndim != 1 or (gains < 0).any():
            raise UsageError("y of a ranking is how relevant each row is, (n,), at least 0")
        return gains
    values = _numbers("y", y)
    if kind == "multilabel" and (values.ndim != 2 or not np.isin(values, (0, 1)).all()):
        raise UsageError(
            f"y of several labels is (n, labels) of 0 and 1, not {values.shape}; evaluate an output "
            "of more than two classes by itself"
        )
    return values.reshape(-1, 1) if values.ndim == 1 else values


def class_places(labels: Array, classes: tuple[Any, ...]) -> Array:
    """The place of each label among the classes, int64 (n,). Raises UsageError."""
    places = {name: at for at, name in enumerate(classes)}
    found = np.array([places.get(label, -1) for label in labels.tolist()], np.int64)
    unknown = found < 0
    if unknown.any():
        odd = sorted({repr(label) for label in labels[unknown].tolist()})[:MOST_NAMED]
        raise UsageError(
            f"y holds {', '.join(odd)} in {int(unknown.sum()):,} rows, which is not a class of this "
            f"model: {classes!r:.200}; write labels as the model does, and leave out rows of other "
            "classes"
        )
    return found


def read_weights(weights: Any, n: int, queries: Array | None) -> Array | None:
    """The weights of n rows, or None. Raises UsageError."""
    if weights is None:
        return None
    found = _numbers("sample_weight", weights)
    if found.shape != (n,):
        raise UsageError(f"sample_weight is one number for each of {n:,} rows; got {found.shape}")
    if (found < 0).any() or not found.any():
        raise UsageError(
            f"sample_weight is numbers of at least 0, one above it; the least is {found.min():g}"
        )
    with np.errstate(over="ignore", under="ignore"):
        squares = float(np.square(found).sum())
    if not 0 < squares < inf:
        raise UsageError(
            f"sample_weight goes up to {found.max():g}, whose square no float holds; divide by that"
        )
    if queries is not None:
        first = np.unique(queries, return_index=True)[1]
        if (found != found[first][queries]).any():
            raise UsageError("sample_weight of a ranking must be equal within each query")
    return found


def read_groups(name: str, groups: Any, n: int) -> Array | None:
    """The group of each row as a number, int64 (n,), or None. Raises UsageError."""
    if groups is None:
        return None
    column = whole_column(name, groups)
    if len(column) != n:
        raise UsageError(f"{name} has {len(column):,} values, and there are {n:,} rows")
    return text_codes(name, column)


def text_codes(name: str, values: Any) -> Array:
    """Values of any kind as numbers from 0 on, in the order in which they first come, int64 (n,).

    Raises UsageError.
    """
    column = whole_column(name, values)
    known = column.astype(str) if column.dtype == object else column
    _, first, codes = np.unique(known, return_index=True, return_inverse=True)
    places = np.empty(len(first), np.int64)
    places[np.argsort(first)] = np.arange(len(first))
    return places[codes]


def whole_column(name: str, values: Any) -> Array:
    """A column in any form. Raises UsageError where a value is missing."""
    column, gone = read_column(name, values)
    if gone.any():
        row = int(np.flatnonzero(gone)[0])
        raise UsageError(
            f"{name} is missing in {int(gone.sum()):,} of {len(gone):,} rows, first in row {row}; "
            "leave such rows out"
        )
    return column


def _numbers(name: str, values: Any) -> Array:
    """Finite numbers in any form as doubles. Raises UsageError for others."""
    whole = frames.whole_array(values)
    found = whole if hasattr(whole, "dtype") else np.asarray(whole)
    objects = found.dtype == object and all(isinstance(item, NUMBERS) for item in np.ravel(found))
    if found.dtype.kind not in "biuf" and not objects:
        raise UsageError(f"{name} holds values that are not numbers: {np.asarray(found)[:3]!r:.80}")
    doubles = np.asarray(found, np.float64)
    if doubles.ndim not in (1, 2):
        raise UsageError(f"{name} is (n,) or (n, k) numbers; got {doubles.shape}")
    odd = np.unique(np.nonzero(~np.isfinite(doubles))[0])
    if len(odd):
        raise UsageError(
            f"{name} is missing or infinite in {len(odd):,} of {len(doubles):,} rows, first in row "
            f"{odd[0]}; leave such rows out"
        )
    return doubles
