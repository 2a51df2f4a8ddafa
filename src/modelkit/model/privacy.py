"""What whoever trained a model claims of its differential privacy: a value of the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import final

from modelkit._internal import fields
from modelkit.errors import UsageError

MOST_LETTERS = 200  # of a mechanism
EXAMPLE = "{'epsilon': 1.0, 'delta': 1e-5, 'mechanism': 'DP-SGD, neighbours differ in one row'}"


@final
@dataclass(frozen=True)
class PrivacyClaim:
    """A claim that a training was differentially private. modelkit records it and does not prove it.

    For any two data sets that differ in one neighbour, and any set S of models, the training gives
    P(model of the first in S) <= exp(epsilon) P(model of the second in S) + delta (Dwork and Roth,
    The Algorithmic Foundations of Differential Privacy, 2014, definition 2.4).

    The digest of the package covers the claim, so signatures do too. `Manifest.model_digest` does
    not: a claim changes no answer, and an Evaluation of the model stays one of it.

        mk.types.PrivacyClaim(epsilon=1.0, delta=1e-5, mechanism="DP-SGD of Opacus, one row")

    Attributes:
        epsilon: at least 0 and finite.
        delta: at least 0 and below 1.
        mechanism: how it was trained, and what a neighbour is, such as a row or all rows of one
            person; printable text of at most 200 characters.

    Raises:
        UsageError: for other values.
    """

    epsilon: float
    delta: float
    mechanism: str

    def __post_init__(self) -> None:
        for name, end, words in (("epsilon", inf, "finite"), ("delta", 1, "below 1")):
            value = getattr(self, name)
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not number or not 0 <= value < end:
                raise UsageError(f"{name} is a number of at least 0 and {words}, not {value!r:.80}")
            object.__setattr__(self, name, float(value))  # equal claims are equal JSON
        text = self.mechanism
        if not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= MOST_LETTERS:
            raise UsageError(
                f"mechanism is a printable text of 1 to {MOST_LETTERS} characters that says how the "
                f"model was trained, not {text!r:.80}"
            )

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:g}, delta {self.delta:g}, as claimed: {self.mechanism}"


def check_privacy(value: object) -> PrivacyClaim | None:
    """A claim, from a dict of its fields too; None stays. Raises UsageError for anything else."""
    if value is None or isinstance(value, PrivacyClaim):
        return value
    try:
        return fields.read_object(PrivacyClaim, fields.read_json(value, "privacy"), "privacy")
    except ValueError as error:
        raise UsageError(f"{error}; pass a dict such as privacy={EXAMPLE}") from None
