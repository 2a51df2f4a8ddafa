"""The fields of a Profile as bytes: an npz of plain arrays, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, feature_arrays, plain_features, read_features
from modelkit.drift.codec import pack, under, unpack
from modelkit.drift.labelfree import Calibration
from modelkit.drift.layout import Layout
from modelkit.drift.losses import TargetLabels
from modelkit.drift.segments import read_segments, write_segments
from modelkit.drift.units import ReferenceUnits
from modelkit.drift.vectors import basis_arrays, read_bases
from modelkit.errors import PackageError

PROFILE_SCHEMA = "modelkit.profile/1"
# Fields that JSON holds as they are.
PLAIN = (
    "strata",
    "stratum",
    "rows",
    "train_rows",
    "ordered",
    "duplicates",
    "unit",
    "time",
    "timed",
    "advice",
    "class_names",
)


def write(of: Mapping[str, Any]) -> bytes:
    """The bytes of a profile's fields; equal fields give equal bytes."""
    segments, arrays = write_segments(of["segments"])
    about = {name: of[name] for name in PLAIN} | {
        "features": plain_features(of["features"]),
        "bases": {name: basis.scale for name, basis in of["bases"].items()},
        "baseline": fields.write_object(of["baseline"]),
        "segments": segments,
    }
    arrays |= feature_arrays(of["features"]) | basis_arrays(of["bases"])
    arrays["counts"] = narrow(of["counts"])
    calibration, target, units = of["calibration"], of["target"], of["units"]
    if calibration is not None:
        about["classes"], about["positive"] = calibration.classes, calibration.positive
        arrays |= calibration.arrays()
    if target is not None:
        about["target"], of_target = target.write()
        arrays |= {f"target {name}": array for name, array in of_target.items()}
    if units is not None:
        about["units"] = units.found
        arrays |= units.arrays()
    return pack(PROFILE_SCHEMA, about, arrays)


def narrow(counts: Array) -> Array:
    """Counts as uint32, where they fit."""
    return counts.astype(np.uint32) if counts.max(initial=0) < 1 << 32 else counts


def read(data: bytes | memoryview) -> dict[str, Any]:
    """The fields of a profile. Raises PackageError for anything that `write` did not make."""
    about, arrays = unpack(PROFILE_SCHEMA, data, "profile")
    try:
        return _decode(about, arrays)
    except PackageError:
        raise
    except Exception as error:
        raise PackageError(f"this is not a profile: {error}") from error


def _decode(about: dict[str, Any], arrays: dict[str, Array]) -> dict[str, Any]:
    classes = about.pop("classes", None)
    positive = about.pop("positive", 1)
    if positive not in (0, 1):
        raise ValueError(f"the positive one of two classes is number 0 or 1, not {positive!r}")
    target = about.pop("target", None)
    features = read_features(about["features"], arrays)
    units = about.pop("units", None)
    with_arrays: dict[str, Any] = {
        "features": features,
        "counts": arrays["counts"].astype(np.int64),
        "bases": read_bases(about["bases"], arrays),
        "calibration": None
        if classes is None
        else Calibration.of_arrays(classes, arrays, positive),
        "target": None if target is None else TargetLabels.read(target, under("target ", arrays)),
        "segments": read_segments(about["segments"], arrays, features),
        "units": None if units is None else ReferenceUnits.of_arrays(units, arrays),
    }
    found = about | with_arrays
    layout = {field.name: found.pop(field.name) for field in dataclasses.fields(Layout)}
    return found | {"layout": layout}


def check_counts(counts: Array, strata: int, features: int) -> None:
    """Raise PackageError unless counts are those of so many strata and features."""
    if counts.shape != (strata, features, CELLS) or counts.min() < 0:
        raise PackageError(
            f"this is not a profile: counts have the shape {counts.shape}, or are below 0"
        )
