"""Whether a candidate keeps the contract of the champion: rows, answers and package."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import GONE
from modelkit.drift.profile import PROFILE_NAME, Profile
from modelkit.errors import BatchError, IntegrityError, PackageError, SignatureError
from modelkit.lifecycle.gate.check import GateCheck
from modelkit.model.golden import BACKGROUND, GOLDEN, decode_rows
from modelkit.model.manifest import Manifest, Parity
from modelkit.model.model import Model
from modelkit.signature.cast import is_missing
from modelkit.signature.compatible import breaches, some_of
from modelkit.signature.signature import Signature


def contract_checks(candidate: Model, manifest: Manifest, champion: Signature) -> list[GateCheck]:
    """Every check of the candidate that needs no labelled rows."""
    return [
        signature_check(champion, candidate.signature),
        integrity_check(manifest),
        golden_check(candidate, manifest.parity),
        parity_check(manifest),
    ]


def signature_check(champion: Signature, candidate: Signature) -> GateCheck:
    """Whether the candidate takes every row that the champion takes, and gives the same outputs.

    Missing values are judged by `gaps_check`, since rows may have none.
    """
    problems = breaches(champion, candidate)
    return GateCheck(
        "signature",
        "Does it take every row that the champion takes, and give the same outputs?",
        "fail" if problems else "pass",
        part="contract",
        text="; ".join(problems)
        or "it takes every row that the champion takes, and gives the same outputs",
    )


def gaps_check(
    asked: GateCheck, gaps: tuple[str, ...], seen: set[str], refused: SignatureError | None
) -> GateCheck:
    """What becomes of the check of the signature where the candidate takes no missing values.

    Args:
        asked: that check, which found nothing else.
        gaps: the columns in which only the champion takes them.
        seen: those of which the package of the champion says that rows had them.
        refused: what the candidate says to these rows, if it refuses some.
    """
    text = f"it takes no missing values in {some_of(gaps)}, where the champion does"
    if refused is not None:
        return replace(
            asked, outcome="fail", text=f"{text}, and refuses some of these rows: {refused}"
        )
    known = [name for name in gaps if name in seen]
    if known:
        more = (
            f"the Profile or the background of the champion has rows with gaps in {some_of(known)}"
        )
        return replace(asked, outcome="fail", text=f"{text}, and {more}")
    return replace(
        asked,
        outcome="unclear",
        required=False,
        text=f"{text}. None of these rows has one, so the two are compared; in service the candidate "
        "refuses a row that has, and a Rollout does not put it in place of this champion unless that "
        "was saved with nullable=False, or with the names of the columns that may be missing",
    )


def gaps_of(model: Model) -> set[str]:
    """The columns with missing values among the rows that a package tells of.

    They are those of its Profile and of its background.
    """
    found = set()
    data = model.attachments.get(PROFILE_NAME)
    profile = None if data is None else Profile.from_bytes(data)
    if profile is not None:
        gone = profile.counts[:, :, GONE].sum(axis=0)
        found = {profile.features[at].name for at in np.flatnonzero(gone)}
    data = model.attachments.get(BACKGROUND)
    if data is not None:
        rows = model.signature.columns(decode_rows(data, model.signature, BACKGROUND))
        found |= {name for name, values in rows.items() if _has_gap(values)}
    return found


def _has_gap(values: Array) -> bool:
    if values.dtype == object:
        return any(map(is_missing, values.flat))
    return bool(np.isnan(values).any())


def integrity_check(manifest: Manifest) -> GateCheck:
    """That every member had the hash in the manifest, which opening the package has checked."""
    return GateCheck(
        "integrity",
        "Is the package what its manifest says?",
        "pass",
        part="contract",
        formula="SHA-256 of every member, as it was opened",
        text=f"every member has its hash; the model is sha256:{manifest.model_digest[:12]}",
    )


def golden_check(candidate: Model, parity: Parity) -> GateCheck:
    """Whether it answers its golden rows here as it did when it was saved."""
    allowed = parity.rtol + parity.atol
    asked = GateCheck(
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


def parity_check(manifest: Manifest) -> GateCheck:
    """Whether it was shown to compute what its source does, as `save` recorded it."""
    parity = manifest.parity
    asked = GateCheck(
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
