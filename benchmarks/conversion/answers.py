"""What a source answers to rows, how far other answers are from it, and rows that are out of the ordinary."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

# The verb of the source for each output; one that is not named here is called as its verb is.
VERBS = {
    "label": "predict",
    "prediction": "predict",
    "probability": "predict",
    "probabilities": "predict_proba",
    "scores": "decision_function",
    "decision": "decision_function",
    "transformed": "transform",
}
FAR = 1e6
ODD = "İ ß ΑΣ \u3000naïve\u00a0"
Answers = dict[str, np.ndarray]


def verb_of(output: str) -> tuple[str, int | None]:
    """The verb of the source that gives an output, and which of its answers, where it gives a list."""
    name, _, last = output.rpartition("_")
    if name in VERBS and last.isdecimal():
        return VERBS[name], int(last)
    return VERBS.get(output, output), None


def asked(model: Any, verb: str, rows: Any) -> Any:
    """The answer of a source to one verb, dense."""
    xgboost = sys.modules.get("xgboost")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if xgboost is not None and isinstance(model, xgboost.Booster):
            return model.predict(xgboost.DMatrix(rows))
        answer = getattr(model, verb)(rows)
    return answer.toarray() if hasattr(answer, "toarray") else answer


def truth(model: Any, rows: Any, outputs: tuple[str, ...]) -> Answers:
    """What a source answers, by output."""
    found = {}
    for output in outputs:
        verb, place = verb_of(output)
        answer = asked(model, verb, rows)
        found[output] = np.asarray(answer if place is None else answer[place])
    return found


def truth_of(model: Any, rows: Any, outputs: tuple[str, ...]) -> Answers | None:
    """The same; None for rows that the source refuses, which need not be taken."""
    try:
        return truth(model, rows, outputs)
    except Exception:  # each library has errors of its own
        return None


def ties(model: Any, rows: Any) -> np.ndarray:
    """Whether the two best scores of each row are at most one unit in the last place apart."""
    verbs = ("decision_function", "predict_proba")
    verb = next((verb for verb in verbs if hasattr(model, verb)), None)
    scores = np.asarray(asked(model, verb, rows)) if verb else np.zeros(0)
    if verb is None or scores.ndim > 2:
        return np.zeros(len(rows), bool)
    if scores.ndim == 1:
        return np.abs(scores) <= np.finfo(scores.dtype).eps
    best = np.sort(scores, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0] <= np.spacing(np.abs(best[:, 1]))


@dataclass(frozen=True)
class Difference:
    """The largest difference relative to the source, labels flipped, and those of them that are ties."""

    relative: float = 0.0
    flips: int = 0
    ties: int = 0


def compared(expected: Answers, got: Answers, tied: Callable[[], np.ndarray]) -> Difference:
    relative = 0.0
    flips = even = 0
    for name, right in expected.items():
        answer = np.asarray(got[name]).reshape(right.shape)
        if right.dtype.kind == "f" and name != "label":
            relative = max(relative, apart(right, answer))
            continue
        other = (
            answer.astype(str) != right.astype(str) if right.dtype.kind in "OU" else answer != right
        )
        if other.any():
            rows = other if other.ndim == 1 else other.any(axis=1)
            even += int((rows & tied()).sum())
            flips += int(rows.sum())
    return Difference(relative, flips, even)


def apart(expected: np.ndarray, got: np.ndarray) -> float:
    """The largest difference relative to each number, or to the output's median number where that is larger."""
    if not expected.size:
        return 0.0
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    if same.all():
        return 0.0
    finite = np.abs(expected[np.isfinite(expected)])
    usual = float(np.median(finite)) if finite.size else 0.0
    with np.errstate(all="ignore"):
        found = np.abs(expected - got) / np.maximum(np.abs(expected), usual)
    found = np.where(same, 0.0, np.where(np.isnan(found), np.inf, found))
    return float(found.max())


def variants(X: Any, seen: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each a name, the rows that the package is given, and those that the source is given."""
    yield "fresh", X, X
    if isinstance(X, list):
        odd = [text + ODD for text in X]
        yield "unseen", odd, odd
        empty = [text if at % 5 else "" for at, text in enumerate(X)]
        yield "gaps", empty, empty
        return
    again = recombined(seen)
    yield "recombined", again, again
    narrow = in_float32(X)
    if narrow is not None:
        yield "float32", narrow, widened(narrow)
    for name, change in (
        ("extreme", extreme),
        ("infinite", infinite),
        ("gaps", gaps),
        ("unseen", unseen),
    ):
        changed = change(X)
        if changed is not None:
            yield name, changed, changed


def recombined(X: Any) -> Any:
    """Rows whose values are those of the training, of a row of its own in each column: at edges and thresholds."""
    rng = np.random.default_rng(0)
    if not hasattr(X, "dtypes"):
        return np.column_stack([X[rng.permutation(len(X)), at] for at in range(X.shape[1])])
    X = X.copy()
    for name in X.columns:
        X[name] = X[name].array[rng.permutation(len(X))]
    return X


def floats(frame: Any) -> list[str]:
    return [name for name, dtype in frame.dtypes.items() if str(dtype) in ("float64", "float32")]


def words(frame: Any) -> list[str]:
    kinds = ("str", "object", "category")
    return [name for name, dtype in frame.dtypes.items() if str(dtype) in kinds]


def in_float32(X: Any) -> Any:
    """The rows of a caller who has float32; None where there are no floats."""
    if not hasattr(X, "dtypes"):
        return X.astype(np.float32)
    return X.astype(dict.fromkeys(floats(X), "float32")) if floats(X) else None


def widened(X: Any) -> Any:
    if not hasattr(X, "dtypes"):
        return X.astype(np.float64)
    return X.astype(dict.fromkeys(floats(X), "float64"))


def extreme(X: Any) -> Any:
    """Numbers a million times as large, each second row with the sign turned; None where there are no floats."""
    if hasattr(X, "dtypes") and not floats(X):
        return None
    if not hasattr(X, "dtypes"):
        return FAR * X * np.where(np.arange(len(X)) % 2, -1, 1)[:, None]
    X = X.copy()
    for name in floats(X):
        X[name] = FAR * X[name] * np.where(np.arange(len(X)) % 2, -1, 1)
    return X


def infinite(X: Any) -> Any:
    """With each seventh number infinite, one way or the other; None where there are no floats."""
    if not hasattr(X, "dtypes"):
        places = np.add.outer(np.arange(X.shape[0]), np.arange(X.shape[1]))
        return np.where(places % 7, X, np.where(places % 2, np.inf, -np.inf))
    if not floats(X):
        return None
    X = X.copy()
    for at, name in enumerate(floats(X)):
        lost = (np.arange(len(X)) + at) % 7 == 0
        X[name] = X[name].mask(lost, np.inf if at % 2 else -np.inf)
    return X


def gaps(X: Any) -> Any:
    """With each fifth value missing, in columns that can have gaps."""
    if not hasattr(X, "dtypes"):
        places = np.add.outer(np.arange(X.shape[0]), np.arange(X.shape[1]))
        return np.where(places % 5, X, np.nan)
    X = X.copy()
    for at, name in enumerate([*floats(X), *words(X)]):
        lost = (np.arange(len(X)) + at) % 5 == 0
        X[name] = X[name].mask(lost)
    return X


def unseen(X: Any) -> Any:
    """With words that were never seen; None for rows without words."""
    if not hasattr(X, "dtypes") or not words(X):
        return None
    X = X.copy()
    for at, name in enumerate(words(X)):
        new = (np.arange(len(X)) + at) % 3 == 0
        column = X[name]
        if str(column.dtype) == "category":
            value = "never seen" if column.cat.categories.dtype.kind not in "iufb" else 1_000_003
            column = column.cat.add_categories([value])
        else:
            value = "never seen"
        X[name] = column.mask(new, value)
    return X
