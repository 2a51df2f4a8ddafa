"""How far two answers to the same rows are apart, and whether that is too far. Arithmetic alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.source import DECISION, TIES, Source
from modelkit.errors import ParityError

SHARES = ("probabilities", "probability")  # how the names of outputs that hold probabilities begin
TOLERANCE = {
    "float64": (1e-6, 1e-9),
    "float32": (1e-4, 1e-6),
    "float16": (1e-2, 1e-3),
    "bfloat16": (5e-2, 1e-2),
}  # rtol, atol by the dtype the graph computes in
LABEL = "label"  # the name of the output whose numbers, if it has any, are equal or not
ULPS = 4  # units in the last place by which the scores of a tie may be apart

Answers = dict[str, Array]


@dataclasses.dataclass
class Differences:
    """The running maxima of a comparison; `wrong` says of each row whether it passes the tolerance."""

    max_abs: float = 0.0
    max_rel: float = 0.0
    flips: int = 0
    ties: int = 0
    wrong: Array = dataclasses.field(default_factory=lambda: np.zeros(0, bool))

    @property
    def agree(self) -> bool:
        """Whether no label differs, and no number by more than the tolerance."""
        return not self.wrong.any()


def tolerance(source: Source) -> tuple[float, float]:
    """The rtol and atol for a graph: as for float32 where it rounds and its source does not.

    For a source in fewer bits they are ten units in its last place: it rounds each of its steps,
    and a runtime computes several in float32 before it rounds.
    """
    if source.half is not None:
        return TOLERANCE[source.half]
    rounds = source.rounds
    if rounds is None:
        specs = source.signature.inputs + source.signature.outputs
        rounds = any(spec.dtype in ("float32", "float16") for spec in specs)
    return TOLERANCE["float32" if rounds else "float64"]


def scales_of(truth: Answers, distances: frozenset[str]) -> dict[str, float]:
    """The largest size of each output of numbers that stays below 1, but for probabilities.

    Outputs in `distances` have a scale in any case: between 0 and sqrt(eps) times it they are
    rounding.
    """
    found = {}
    for name, values in truth.items():
        if values.dtype.kind != "f":
            continue
        size = float(np.abs(values).max(initial=0))
        small = 0 < size < 1 and not name.startswith(SHARES)
        if small or name in distances:
            found[name] = size
    return found


def compare(
    truth: Answers,
    got: Answers,
    rtol: float,
    atol: float,
    scales: Mapping[str, float] = MappingProxyType({}),
) -> Differences:
    """Differences between two answers to the same rows, relative to each number, or to a scale.

    A label may differ only where the source's own scores are a tie, and is then counted, as are rows
    whose neighbours are a tie. Raises ParityError for an output of another shape.
    """
    found = Differences()
    by_output = []
    if TIES in truth:
        found.ties += int(truth[TIES].sum())
    for name, expected in truth.items():
        if name in (DECISION, TIES):
            continue
        answer = got[name]
        _check_shape(name, expected, answer)
        if expected.dtype.kind == "f" and name != LABEL:
            gap = _gap(expected, answer)
            share = gap / np.maximum(scales.get(name, 1.0), np.abs(np.nan_to_num(expected)))
            merge(found, Differences(_most(gap), _most(share)))
            wrong = (share > rtol + atol).any(axis=tuple(range(1, share.ndim)))
        else:
            wrong, tied = _other_labels(truth, expected, answer, rtol, atol)
            found.ties += int(tied.sum())
            found.flips += int(wrong.sum())
        by_output.append(np.atleast_1d(wrong))
    if len({len(wrong) for wrong in by_output}) > 1:  # the rows of some are on another axis
        by_output = [np.array([wrong.any()]) for wrong in by_output]
    found.wrong = np.any(by_output, axis=0)
    return found


def _most(values: Array) -> float:
    return float(np.max(values, initial=0.0))


def _check_shape(name: str, expected: Array, got: Array) -> None:
    if expected.shape != got.shape:
        raise ParityError(
            f"the converted graph gives the output {name!r} in the shape {got.shape}, "
            f"and the source in {expected.shape}; pass example= in the form that you passed "
            "to fit, such as a list of texts, or save the model with format='joblib'"
        )


def _other_labels(
    truth: Answers, expected: Array, got: Array, rtol: float, atol: float
) -> tuple[Array, Array]:
    """The rows whose labels differ, and those whose labels differ at ties alone."""
    differs = expected.reshape(len(expected), -1) != got.reshape(len(expected), -1)
    wrong = np.zeros(len(expected), bool)
    for label, own in enumerate(differs.T):
        scores = _scores(truth, label if expected.ndim > 1 else None)
        rows = np.flatnonzero(own)
        if scores is not None and len(rows):
            rows = rows[~_is_tied(scores[rows], rtol, atol)]
        wrong[rows] = True
    return wrong, differs.any(axis=1) & ~wrong


def _scores(truth: Answers, label: int | None) -> Array | None:
    """The scores that a source decides a label by: one of several has its own. None for none."""
    decision = truth.get(DECISION)
    probabilities = truth.get("probabilities")
    if label is None:
        return probabilities if decision is None else decision
    own = truth.get(f"probabilities_{label}")
    if own is not None:
        return own if own.shape[1] > 1 else None
    if decision is not None and decision.ndim > 1 and decision.shape[1] > label:
        return decision[:, label]
    if probabilities is not None and probabilities.shape[1] > label:
        return 2 * probabilities[:, label] - 1
    return None


def _is_tied(scores: Array, rtol: float, atol: float) -> Array:
    """Whether the two best classes of each row are as good as equal; one score decides by its sign.

    In float64 that is a few units in the last place of the scores: source and graph add up the same
    numbers, at most in another order. In float32 it is the tolerance, since the scores themselves
    differ by so much.
    """
    if scores.ndim == 1:
        scores = np.stack([scores / 2, -scores / 2], axis=1)
    top = np.sort(scores, axis=1)
    size = np.maximum(1.0, np.abs(top).max(axis=1))
    allowed = ULPS * np.finfo(np.float64).eps * size
    if rtol > TOLERANCE["float64"][0]:
        allowed = 2 * (rtol * size + atol)
    return np.asarray(top[:, -1] - top[:, -2] <= allowed)


def _gap(a: Array, b: Array) -> Array:
    """|a - b|, zero where both are NaN or the same infinity, infinite where just one is."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    gap[(np.isnan(a) & np.isnan(b)) | (a == b)] = 0.0
    return np.nan_to_num(gap, nan=np.inf, posinf=np.inf)


def merge(total: Differences, found: Differences) -> None:
    """Add what was found to the running maxima."""
    total.max_abs = max(total.max_abs, found.max_abs)
    total.max_rel = max(total.max_rel, found.max_rel)
    total.ties += found.ties
