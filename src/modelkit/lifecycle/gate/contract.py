"""Whether a candidate keeps the contract of the champion: rows, answers and package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import GONE
from modelkit.drift.profile import PROFILE_NAME, Profile
from modelkit.errors import BatchError, IntegrityError, PackageError, SignatureError
from modelkit.lifecycle.evaluation.check import GateCheck
from modelkit.lifecycle.evaluation.rows import LabelledRows
from modelkit.lifecycle.gate.both import Both
from modelkit.lifecycle.gate.opened import Judged
from modelkit.model.golden import BACKGROUND, GOLDEN, decode_rows
from modelkit.model.manifest import Manifest, Parity
from modelkit.model.model import Model
from modelkit.signature.cast import is_missing
from modelkit.signature.compatible import breaches, refused_gaps, some_of
from modelkit.signature.signature import Signature

_check = partial(GateCheck, part="contract")


def contract_checks(candidate: Judged, champion: Judged, rows: LabelledRows) -> list[GateCheck]:
    """Every check of the candidate that can be made without its answers.

    Missing values are looked for in the rows where nothing else fails. Raises SignatureError where
    the champion refuses them too.
    """
    checks = [
        signature_check(champion.model.signature, candidate.model.signature),
        integrity_check(candidate.manifest),
        golden_check(candidate.model, candidate.manifest.parity),
        parity_check(candidate.manifest),
    ]
    if not any(check.outcome == "fail" for check in checks):
        checks[0] = _with_gaps(checks[0], candidate.model, champion.model, rows)
    return checks


def signature_check(champion: Signature, candidate: Signature) -> GateCheck:
    """Whether the candidate takes every row that the champion takes, and gives the same outputs."""
    problems = breaches(champion, candidate)
    return _check(
        "signature",
        "Does it take every row that the champion takes, and give the same outputs?",
        "fail" if problems else "pass",
        text="; ".join(problems)
        or "it takes every row that the champion takes, and gives the same outputs",
    )


def _with_gaps(
    asked: GateCheck, candidate: Model, champion: Model, rows: LabelledRows
) -> GateCheck:
    """The check of the signature, once it is known whether rows have missing values."""
    gaps = refused_gaps(champion.signature, candidate.signature)
    if not gaps:
        return asked
    rows.feeds(champion.signature)  # what the champion refuses as well is the caller's to mend
    text = f"it takes no missing values in {some_of(gaps)}, where the champion does"
    try:
        rows.feeds(candidate.signature)
    except SignatureError as error:
        refused = f"{text}, and refuses some of these rows: {error}"
        return replace(asked, outcome="fail", text=refused)
    seen = _gaps_of(champion)
    known = [name for name in gaps if name in seen]
    if known:
        text += f", and the Profile or the background of the champion has rows with gaps in {some_of(known)}"
        return replace(asked, outcome="fail", text=text)
    return replace(
        asked,
        outcome="unclear",
        required=False,
        text=f"{text}. None of these rows has one, so the two are compared; in service the candidate "
        "refuses a row that has, and a Rollout does not put it in place of this champion unless that "
        "was saved with nullable=False, or with the names of the columns that may be missing",
    )


def _gaps_of(model: Model) -> set[str]:
    """The columns with missing values in the Profile and the background of a package."""
    found = set()
    data = model.attachments.get(PROFILE_NAME)
    profile = None if data is None else Profile.from_bytes(data)
    if profile is not None:
        gone = profile.counts[:, :, GONE].sum(axis=0)
        found = {profile.features[at].name for at in np.flatnonzero(gone)}
    data = model.attachments.get(BACKGROUND)
    if data is not None:
        rows = model.signature.columns(decode_rows(data, model.signature, BACKGROUND))
        found |= {name for name, values in rows.items() if any(map(is_missing, values.flat))}
    return found


def integrity_check(manifest: Manifest) -> GateCheck:
    """That every member had the hash in the manifest, which opening the package has checked."""
    return _check(
        "integrity",
        "Is the package what its manifest says?",
        "pass",
        formula="SHA-256 of every member, as it was opened",
        text=f"every member has its hash; the model is sha256:{manifest.model_digest[:12]}",
    )


def golden_check(candidate: Model, parity: Parity) -> GateCheck:
    """Whether it answers its golden rows here as it did when it was saved."""
    allowed = parity.rtol + parity.atol
    asked = _check(
        "golden rows",
        "Does it answer its golden rows here as it did when it was saved?",
        "fail",
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
    asked = _check(
        "parity",
        "Was it shown to compute what the model that was trained does?",
        "pass",
        formula="the largest difference to the source relative to max(1, |source|), when saved",
        text=str(parity),
    )
    if manifest.runtime == "joblib":
        return replace(asked, text="it is the estimator itself")
    if parity.against is None:
        return replace(asked, required=False)
    allowed = parity.rtol + parity.atol
    within = parity.max_rel <= allowed and not parity.label_flips
    asked = replace(asked, estimate=parity.max_rel, bound=allowed)
    return asked if within else replace(asked, outcome="fail")


def numbers_check(both: Both) -> GateCheck:
    """Whether the candidate answers with numbers wherever the champion does."""
    ours, theirs = (_without_numbers(side.outputs) for side in both)
    lost = int(np.count_nonzero(ours & ~theirs))
    text = "it answers with numbers wherever the champion does"
    if lost:
        text = f"it answers NaN or infinity to {lost:,} of {len(ours):,} rows where the champion does not"
    return _check(
        "numbers",
        "Does it answer with numbers wherever the champion does?",
        "fail" if lost else "pass",
        text=text,
    )


def _without_numbers(outputs: Mapping[str, Array]) -> Array:
    """Which rows have an answer that is NaN or infinite, (n,)."""
    n = len(next(iter(outputs.values())))
    rows = np.zeros(n, bool)
    for values in outputs.values():
        if values.dtype.kind == "f":
            rows |= ~np.isfinite(values.reshape(n, -1)).all(axis=1)
    return rows
