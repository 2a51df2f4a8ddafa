"""Whether a candidate keeps the contract of the champion: rows, answers and package."""

from __future__ import annotations

from dataclasses import replace

from modelkit.compatible import incompatibilities
from modelkit.errors import BatchError, IntegrityError, PackageError
from modelkit.gating.check import Check
from modelkit.golden import GOLDEN
from modelkit.manifest import Manifest, Parity
from modelkit.model import Model
from modelkit.signature import Signature


def contract_checks(
    candidate: Model,
    manifest: Manifest,
    champion: Signature,
) -> list[Check]:
    """Every check of the candidate that needs no labelled rows."""
    return [
        signature_check(champion, candidate.signature),
        integrity_check(manifest),
        golden_check(candidate, manifest.parity),
        parity_check(manifest),
    ]


def signature_check(
    champion: Signature,
    candidate: Signature,
) -> Check:
    """Whether the candidate takes every row that the champion takes, and gives the same outputs."""
    problems = incompatibilities(champion, candidate)
    return Check(
        "signature",
        "Does it take every row that the champion takes, and give the same outputs?",
        "fail" if problems else "pass",
        part="contract",
        text="; ".join(problems) or "it does",
    )


def integrity_check(manifest: Manifest) -> Check:
    """That every member had the hash in the manifest, which opening the package has checked."""
    return Check(
        "integrity",
        "Is the package what its manifest says?",
        "pass",
        part="contract",
        formula="SHA-256 of every member, as it was opened",
        text=f"every member has its hash; the model is sha256:{manifest.model_digest[:12]}",
    )


def golden_check(
    candidate: Model,
    parity: Parity,
) -> Check:
    """Whether it answers its golden rows here as it did when it was saved."""
    allowed = parity.rtol + parity.atol
    asked = Check(
        "golden rows",
        "Does it answer its golden rows here as it did when it was saved?",
        "fail",
        part="contract",
        formula="the largest difference relative to max(1, |saved answer|)",
        bound=allowed,
    )
    if candidate.attachments.get(GOLDEN) is None:
        return replace(asked, outcome="unclear", required=False, text="the package has none")
    try:
        found = candidate.verify()
    except (IntegrityError, BatchError, PackageError) as error:
        return replace(asked, text=str(error))
    text = f"the largest difference is {found:.2g}, of {allowed:.2g} allowed"
    return replace(asked, outcome="pass", estimate=found, text=text)


def parity_check(manifest: Manifest) -> Check:
    """Whether it was shown to compute what its source does, as `save` recorded it."""
    parity = manifest.parity
    asked = Check(
        "parity",
        "Was it shown to compute what the model that was trained does?",
        "pass",
        part="contract",
        formula="the largest difference to the source relative to max(1, |source|), when saved",
    )
    if manifest.runtime == "joblib":
        return replace(asked, text="it is the estimator itself")
    if parity.against is None:
        return replace(asked, required=False, text=str(parity))
    allowed = parity.rtol + parity.atol
    within = parity.max_rel <= allowed and not parity.label_flips
    return replace(
        asked,
        outcome="pass" if within else "fail",
        estimate=parity.max_rel,
        bound=allowed,
        text=str(parity),
    )
