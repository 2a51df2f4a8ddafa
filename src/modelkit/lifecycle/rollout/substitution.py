"""Whether a candidate of a rollout can answer in place of the champion."""

from __future__ import annotations

from modelkit.errors import UsageError
from modelkit.signature.compatible import incompatibilities
from modelkit.signature.signature import Signature


def check_compatible(
    champion: Signature, candidate: Signature, named: str = "the candidate"
) -> None:
    """Raise UsageError, with every reason, unless one model can answer in place of the other."""
    problems = incompatibilities(champion, candidate)
    if problems:
        raise UsageError(
            f"{named} cannot answer in place of the champion: {'; '.join(problems)}",
            problems=problems,
        )
