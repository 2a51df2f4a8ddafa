"""What a converter built, for explanations: where in a graph the sum is that a served output is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Link = Literal["identity", "exp", "logistic", "softmax", "share"]


@dataclass(frozen=True)
class Structure:
    """The sum behind an output of a graph, and what comes after it.

    Nothing here is trusted: an Explainer proves what it says on every row.

    Attributes:
        tensor: the name of the tensor that is the sum: of trees, the output of their operator.
        link: the function that makes the output of it; "share" is each sigmoid over the sum of all.
        factor: a number that trees are multiplied with before the link.
        table: the name of the table whose rows trees number, to be summed; "" where they add
            numbers themselves.
        groups: for each column that trees read, the number of the raw column that it is made of.
    """

    tensor: str
    link: Link = "identity"
    factor: float = 1.0
    table: str = ""
    groups: tuple[int, ...] = ()
