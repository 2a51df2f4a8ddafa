"""The findings on one feature, from the counts of both sides."""

from __future__ import annotations

from modelkit._internal.arrays import Array
from modelkit.drift import exact
from modelkit.drift.audit import bins_of
from modelkit.drift.cells import GONE, Feature
from modelkit.drift.values import Effect, FeatureDrift


def feature_drift(
    feature: Feature,
    stratum: str | None,
    reference: Array,
    recent: Array,
    *,
    changed: float | None = None,
    material: float | None = None,
    began: int | None = None,
    compared: int | None = None,
    alarmed: Array | None = None,
    effects: tuple[Effect, ...] | None = None,
) -> FeatureDrift:
    """The findings on one feature, from counts (67,) of the reference and of recent rows.

    `effects` are those between units; without them they are measured between rows.
    """
    if effects is None:
        effects = exact.all_effects(recent, reference, ordered=feature.ordered)
    before = _shares(reference)
    now = _shares(recent)
    then = None if alarmed is None else _shares(alarmed)
    shown = _shown_cells(feature, before, now, then)
    labels = feature.labels()
    return FeatureDrift(
        feature=feature.name,
        kind=feature.kind,
        stratum=stratum,
        rows=int(recent.sum()),
        p_changed=changed,
        p_material=material,
        effects=effects,
        reference_rows=int(reference.sum()),
        compared=int(recent.sum()) if compared is None else compared,
        missing=(float(before[GONE]), float(now[GONE])),
        weight=feature.weight,
        began=began,
        cells=tuple((labels[i], float(before[i]), float(now[i])) for i in shown),
        bins=bins_of(feature, reference, recent),
        at_alarm=() if then is None else tuple(then[shown].tolist()),
    )


def _shares(counts: Array) -> Array:
    shares: Array = counts / max(counts.sum(), 1)
    return shares


def _shown_cells(feature: Feature, before: Array, now: Array, then: Array | None) -> list[int]:
    """The cells that any rows are in, and empty ones between edges."""
    rows = before + now if then is None else before + now + then
    shown = []
    for i, label in enumerate(feature.labels()):
        between = label and label[0] not in "-+("
        if rows[i] or between:
            shown.append(i)
    return shown
