"""The number of rows of answers."""

from __future__ import annotations

from modelkit.model.model import Outputs
from modelkit.signature.signature import Signature


def answered_rows(signature: Signature, answers: Outputs) -> int:
    """The number of rows of answers whose rows lie on any axis; 1 for those on none."""
    dim = signature.row_dim
    for spec in signature.outputs:
        if dim is not None and dim in spec.shape and spec.name in answers:
            return int(answers[spec.name].shape[spec.shape.index(dim)])
    return 1
