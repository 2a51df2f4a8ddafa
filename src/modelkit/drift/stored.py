"""The fields of a Profile as bytes: an npz of plain arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.drift.archive import pack, under, unpack
from modelkit.drift.cells import CELLS, feature_arrays, plain_features, read_features
from modelkit.drift.labelfree import Calibration
from modelkit.drift.segments import read_segments, write_segments
from modelkit.drift.target import TargetLabels
from modelkit.drift.units import ReferenceUnits
from modelkit.drift.vectors import basis_arrays, read_bases
from modelkit.errors import PackageError

PROFILE_SCHEMA = "modelkit.profile/1"
LATER_FIELDS = (
    "unit",
    "time",
    "timed_stratum",
    "advice",
    "class_names",
)  # fields that are stored where they say something


def write(of: Mapping[str, Any]) -> bytes:
    """The bytes of a profile's fields; equal fields give equal bytes."""
    calibration = of["calibration"]
    about = {
        "features": plain_features(of["features"]),
        "strata": of["strata"],
        "stratum": of["stratum"],
        "bases": {name: basis.scale for name, basis in of["bases"].items()},
        "rows": of["rows"],
        "train_rows": of["train_rows"],
        "ordered": of["ordered"],
        "duplicates": of["duplicates"],
        "epsilon": of["epsilon"],
        "baseline": fields.write_object(of["baseline"]),
        "classes": None if calibration is None else calibration.classes,
    }
    if calibration is not None and calibration.positive != 1:
        about["positive"] = calibration.positive
    segments, counted = write_segments(of["segments"])
    if segments:  # the bytes, and so the digest, of profiles without them stay as they were
        about["segments"] = segments
    target = of["target"]
    if target is not None:
        about["target"], of_target = target.write()
        counted |= {f"target {name}": array for name, array in of_target.items()}
    about |= {name: of[name] for name in LATER_FIELDS if of[name]}
    if of["units"] is not None:
        about["units"] = of["units"].found
        counted |= of["units"].arrays()
    arrays = counted | feature_arrays(of["features"])
    arrays["counts"] = narrow(of["counts"])
    arrays |= basis_arrays(of["bases"])
    if calibration is not None:
        arrays |= calibration.arrays()
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
        raise PackageError(f"this is no profile: {error}") from error


def _decode(about: dict[str, Any], arrays: dict[str, Array]) -> dict[str, Any]:
    classes = about.pop("classes")
    positive = about.pop("positive", 1)
    if positive not in (0, 1):
        raise ValueError(f"the positive one of two classes is number 0 or 1, not {positive!r}")
    target = about.pop("target", None)
    features = read_features(about["features"], arrays)
    segments = read_segments(about.pop("segments", ()), arrays, features)
    units = about.pop("units", None)
    with_arrays: dict[str, Any] = {
        "features": features,
        "counts": arrays["counts"].astype(np.int64),
        "bases": read_bases(about["bases"], arrays),
        "calibration": None
        if classes is None
        else Calibration.of_arrays(classes, arrays, positive),
        "target": None if target is None else TargetLabels.read(target, under("target ", arrays)),
        "segments": segments,
        "units": None if units is None else ReferenceUnits.of_arrays(units, arrays),
    }
    return about | with_arrays


def check_counts(counts: Array, strata: int, features: int) -> None:
    """Raise PackageError unless counts are those of so many strata and features."""
    if counts.shape != (strata, features, CELLS) or counts.min() < 0:
        raise PackageError(
            f"this is no profile: counts have the shape {counts.shape}, or are below 0"
        )
