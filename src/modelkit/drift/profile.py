"""The past in a few kilobytes: cells of training rows, counts of held-out ones, and no row."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit._internal.npz import MEDIA_TYPE
from modelkit.drift import fit
from modelkit.drift.cells import CELLS, COARSE_CELLS, Feature
from modelkit.drift.codec import freeze, narrow, pack, reading, thaw, unpack, wide
from modelkit.drift.counts import Tally, tally_of
from modelkit.drift.labelfree import Calibration
from modelkit.drift.layout import Layout, shared_weights
from modelkit.drift.losses import Baseline, TargetLabels
from modelkit.drift.order import dependence_text, smallest_text
from modelkit.drift.segments import Segmentation
from modelkit.drift.sides import Options, check_enough, check_tallied
from modelkit.drift.units import ReferenceUnits, count_of, many, units_text
from modelkit.drift.vectors import source_of
from modelkit.errors import UsageError
from modelkit.model.model import Model
from modelkit.signature.signature import Signature

PROFILE_NAME = "profile"  # of the attachment
PROFILE_SCHEMA = "modelkit.profile/1"


@dataclass(frozen=True, eq=False)
class Reference:
    """What a Profile keeps of its rows; a class of its own, so that `Profile` shows only what is public.

    Args:
        layout: what says where a row belongs: features, strata and units.
        counts: int64 (strata, features, 67); there is one stratum, "", where none were asked for.
        rows: the rows that the counts are from.
        train_rows: those that the cells are from.
        ordered: whether the reference was given in the order of time, so that dependence between
            rows was looked for.
        baseline: the losses of the reference.
        calibration: what turns probabilities into calibrated ones.
        target: the labels of the reference.
        segments: its joint counts with the columns that part the rows.
        units: what is kept of each of its units.
        advice: one line on which of units, strata and rows fits the reference.
    """

    layout: Layout
    counts: Array
    rows: int
    train_rows: int
    ordered: bool
    baseline: Baseline | None = None
    calibration: Calibration | None = None
    target: TargetLabels | None = None
    segments: tuple[Segmentation, ...] = ()
    units: ReferenceUnits | None = None
    advice: str = ""


@final
@dataclass(frozen=True, eq=False, init=False)
class Profile(Reference):
    """The past rows: for each feature its cells, and the number of held-out rows in each cell.

        profile = mk.Profile.fit(X_train, reference=X_holdout)

    `counts` is int64 (strata, features, 67), of `rows` rows; the cells are of `train_rows` others.
    `advice` is one line on which of units, strata and rows fits the reference, empty without times
    and units. Make a profile with `Profile.fit`.
    """

    counts: Array
    rows: int
    train_rows: int

    @staticmethod
    def fit(
        X: Any,
        *,
        reference: Any = None,
        model: Model | None = None,
        scores: Any = None,
        labels: Any = None,
        losses: Any = None,
        positive: Any = None,
        ordered: bool = False,
        stratum: str | None = None,
        text: Sequence[str] = (),
        importance: Mapping[str, float] | None = None,
        unit: str | None = None,
        time: str | None = None,
        segments: Sequence[str] = (),
        seed: int = 0,
    ) -> Profile:
        """Describe training rows and held-out rows.

        The cells come from X and the counts from `reference`. The two must not share rows: the
        false-alarm rate of a Detector depends on that.

        Args:
            X: training rows (n, width): an array, a dict of columns, a pandas or polars frame, an
                Arrow table or records. A column of a dict may be (n, d): an embedding.
            reference: held-out rows with the same columns, 5,000 or more if possible. Without it,
                half of X is held out: the second half if rows are `ordered`, otherwise a random
                half. Or the `Tally` of rows that workers counted by `Profile.fit(X)`, with the same
                X, seed and arguments, in place of the half of X that this one counts. It goes with
                neither `scores`, `labels`, `losses`, `segments` nor `ordered`.
            model: a Model; its answers to both are described too, and its signature names the
                columns.
            scores: instead of a model, its answers to `reference`: predictions or labels (n,),
                probabilities (n, classes), embeddings (n, d), or a dict of outputs by name, as
                `Model.run` gives it. A fifth of them makes their cells, the others are counted.
            labels: the true labels of `reference`, (n,). With the model's answers they give the
                loss that later losses are compared with, and calibrate label-free estimation.
                Later labels are compared with them as well, under the name "target"; a fifth of
                them makes its cells.
            losses: instead of labels, the losses themselves, (n,), from 0 to 1.
            positive: of two classes, the one whose precision, recall and F1 are estimated without
                labels; by default the second. It needs `labels`.
            ordered: whether `reference` is in the order of time. Dependence between neighbouring
                rows is then estimated, and only rows so far apart that they are nearly independent
                are used.
            stratum: a column such as the hour, the weekday or a tenant, with at most 64 values:
                rows are compared only with reference rows of the same value. With `time`, you may
                pass "weekday" and "hour" without a column. A unit belongs to one stratum.
            text: columns of strings of which only the length is watched, such as the column of a
                text encoder.
            importance: the weight by which a column or an output gets its share of alpha; 1 by
                default.
            unit: what is compared as a whole, if rows of one day or table resemble each other:
                "day" or "week" (of `time`), "batch" (each call of `update` or `test`; `reference`
                is then a list of batches), or a column whose value is the unit, and which is not a
                feature. The reference needs 8 units, and 50 to notice much. Of more than 400 units
                (fewer with many features: 2 MiB of them), a random part is kept.
            time: the column with the time of each row: datetimes, timestamps, texts in ISO 8601 or
                seconds since 1970. A time without a zone is taken in UTC, so days of local times
                are local. The column is not a feature.
            segments: columns that divide the rows, such as a carrier or a shop: the report of an
                alarm says in which of their categories, or ranges of numbers, the change is. The
                profile holds counts of every feature in each of up to 24 segments, about 6 KB for a
                feature and a column. They do not go with `stratum` or `unit`.
            seed: of the random half, of the centroids of embeddings, and of which units are kept.

        Raises:
            UsageError: for columns that differ, fewer than 50 rows on a side, arguments that do not
                go together, or a tally that was counted by another profile.
            SignatureError: for rows that cannot be read.
        """
        options = Options(
            model,
            scores,
            labels,
            losses,
            positive,
            ordered,
            stratum,
            text,
            importance or {},
            unit,
            time,
            segments,
            seed,
        )
        if isinstance(reference, Tally):
            check_tallied(options)
            return Profile(**fit.of_rows(X, None, options))._counted(reference, options)
        return Profile(**fit.of_rows(X, reference, options))

    def _counted(self, tally: Tally, options: Options) -> Profile:
        """The profile with the counts of a tally in place of its reference's."""
        if tally.profile != self.digest:
            raise UsageError(
                "the reference is a tally by another profile: count it by the one that Profile.fit "
                "makes of the same X, seed and arguments, without reference="
            )
        if tally.strangers:
            raise UsageError(
                f"{tally.strangers:,} rows of the tally are of strata that X does not have; fit X "
                "with rows of each"
            )
        check_enough(tally.rows, "the reference")
        if not tally.counted.all():
            raise UsageError("the tally lacks the model's answers: give them to tally() as scores")
        counts = np.zeros_like(self.counts)
        np.add.at(counts, [stratum for _, stratum in tally.groups], tally.counts)
        units = None if self.unit is None else fit.units_of_tally(tally, self.features, options)
        return replace(self, counts=counts, rows=tally.rows, units=units, advice="")

    @cached_property
    def digest(self) -> str:
        """The sha256 of the profile's bytes, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def tally(self, X: Any = None, scores: Any = None, *, at: Any = None) -> Tally:
        """Count rows, and the model's answers, by cell, for `Detector.test`.

        Tallies of parts of the rows, made by any number of workers, add up to the tally of all:
        the test of their sum is the test of all rows. If the profile has units, each has its own
        counts; with unit="batch", all tallies belong to the same batch.

        Args:
            X: rows, as in `Detector.update`.
            scores: as in `Detector.update`.
            at: as in `Detector.update`.

        Raises:
            UsageError: for columns that do not fit, and a reference of dependent rows without units.
            SignatureError: for rows that cannot be read.
        """
        check_adds_up(self)
        return tally_of(self.digest, self.layout.encode(X, scores, at))

    def assumptions(self) -> tuple[str, ...]:
        """The assumptions of a guarantee, and the findings about each, in words."""
        if self.units is not None:
            return tuple(units_text(self.units.found, len(self.units.shares), str(self.unit)))
        apart = max(feature.stride for feature in self.features)
        said = [dependence_text(apart, ordered=self.ordered)]
        smallest = smallest_text(self.features, self.counts)
        if smallest is not None:
            said.append(smallest)
        return tuple(said)

    @property
    def why_untested(self) -> str | None:
        """Why the rows of a set cannot be tested one by one against the counts; None if they can."""
        if self.units is not None:
            return "rows of one unit resemble each other, and units are what is compared"
        if any(feature.stride > 1 for feature in self.features):
            return "neighbouring rows are dependent, and all of them are counted"
        return None

    @property
    def features(self) -> tuple[Feature, ...]:
        """What is watched: columns, and numbers computed from a model's outputs."""
        return self.layout.features

    @property
    def strata(self) -> tuple[str, ...]:
        """The names of the strata."""
        return self.layout.strata

    @property
    def stratum(self) -> str | None:
        """What names the strata; None without any."""
        return self.layout.stratum

    @property
    def unit(self) -> str | None:
        """What is compared as a whole; None for rows."""
        return self.layout.unit

    @property
    def time(self) -> str | None:
        """The column with the time of each row."""
        return self.layout.time

    def to_attachment(self, signature: Signature | None = None) -> tuple[str, str, bytes]:
        """Name, media type and bytes, as a package keeps them.

        Raises UsageError where `signature` differs.
        """
        kept = self
        if signature is not None:
            kept = self.without(signature.ignored)
            kept.layout.check(signature)
        return PROFILE_NAME, MEDIA_TYPE, kept.to_bytes()

    def without(self, names: Collection[str]) -> Profile:
        """The profile without some columns of rows, such as those that a model ignores.

        Raises UsageError where no other has a weight.
        """
        layout = self.layout
        kept = []
        for j, feature in enumerate(self.features):
            if feature.output or source_of(feature.name, layout.bases) not in names:
                kept.append(j)
        if len(kept) == len(self.features):
            return self
        left = replace(
            layout,
            features=shared_weights([self.features[j] for j in kept]),
            bases=tuple(basis for basis in layout.bases if basis.name not in names),
        )
        segments = [
            replace(segmentation, counts=segmentation.counts[:, kept])
            for segmentation in self.segments
            if segmentation.name not in names
        ]
        return replace(
            self,
            layout=left,
            counts=self.counts[:, kept],
            segments=tuple(segments),
            units=None if self.units is None else self.units.of(kept),
        )

    def to_bytes(self) -> bytes:
        """The profile as an npz of plain arrays; equal profiles give equal bytes."""
        arrays: dict[str, Array] = {}
        about = freeze(self, arrays)
        features = about["layout"]["features"]
        arrays["edges"] = np.concatenate([feature["edges"] for feature in features])
        for feature in features:  # as text they would take thrice the bytes
            feature["edges"] = len(feature["edges"])
        small = {path: narrow(array) for path, array in arrays.items()}
        return pack(PROFILE_SCHEMA, about, small)

    @staticmethod
    def from_bytes(data: bytes | memoryview) -> Profile:
        """The inverse of `to_bytes`. Raises PackageError for anything else."""
        about, arrays = unpack(PROFILE_SCHEMA, data, "profile")
        with reading("profile"):
            known = {path: wide(array) for path, array in arrays.items()}
            values = thaw(None, about, known)
            features, edges = values["layout"]["features"], known["edges"]
            *ends, total = np.cumsum([feature["edges"] for feature in features])
            if total != len(edges):
                raise ValueError(f"its features have {total} edges, and not {len(edges)}")
            for feature, part in zip(features, np.split(edges, ends), strict=True):
                feature["edges"] = part.tolist()
            profile = fields.read_object(Profile, values, "profile")
            _check_whole(profile)
        return profile

    def __reduce__(self) -> tuple[Any, ...]:
        return Profile.from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        names = ", ".join(feature.name for feature in self.features[:4])
        more = ", ..." if len(self.features) > 4 else ""
        strata = "" if self.stratum is None else f", {len(self.strata)} strata by {self.stratum}"
        if self.units is not None:
            strata += f", {many(self.units.found, str(self.unit))}"
        return (
            f"<Profile of {count_of(len(self.features), 'feature')} ({names}{more}) from {self.rows:,} "
            f"rows{strata}>"
        )


def _check_whole(profile: Profile) -> None:
    """Raise ValueError unless the parts of a profile that was read fit each other."""
    d, strata = len(profile.features), len(profile.strata)
    target, units, calibration = profile.target, profile.units, profile.calibration
    features = profile.features if target is None else (*profile.features, target.feature)
    odd = [feature.name for feature in features if not feature.whole]
    if odd:
        raise ValueError(f"the cells of {odd} are not whole")
    _check_numbers("counts", profile.counts, (strata, d, CELLS))
    if target is not None:
        _check_numbers("counts of the target", target.counts, (CELLS,))
    for segmentation in profile.segments:
        k, name = len(segmentation.labels), f"segments by {segmentation.name!r}"
        _check_numbers(name, segmentation.counts, (k, d, CELLS))
        _check_numbers(name, segmentation.of_cells, (CELLS,), k)
    if units is not None:
        n = max(len(units.shares), 1)
        _check_numbers("units", units.shares, (n, d, COARSE_CELLS))
        _check_numbers("strata of units", units.strata, (n,), strata)
    if calibration is not None and not calibration.whole:
        raise ValueError("its calibration is not whole")


def _check_numbers(name: str, array: Array, shape: tuple[int, ...], end: int = 1 << 62) -> None:
    """Raise ValueError unless an array has this shape, and whole numbers from 0 to below `end`."""
    whole = array.dtype.kind in "iu" and array.shape == shape
    if not whole or not 0 <= array.min(initial=0) <= array.max(initial=0) < end:
        raise ValueError(f"its {name} do not fit: {array.dtype} {array.shape} for {shape}")


def check_profile(given: Any) -> Profile:
    """A Profile as it is. Raises TypeError for anything else, such as rows or a file's name."""
    if not isinstance(given, Profile):
        raise TypeError(
            f"the past is a Profile, not {type(given).__name__}; mk.Profile.fit(X, reference=...) "
            "makes one of rows, and Profile.from_bytes reads one"
        )
    return given


def check_adds_up(profile: Profile) -> None:
    """Raise UsageError for a profile that counts of unordered rows cannot be tested against."""
    if profile.units is None and profile.why_untested is not None:
        raise UsageError(
            "neighbouring rows of this profile's reference are dependent, and workers do not keep "
            'their order; fit the profile with unit="day" or another unit, which a tally counts '
            "apart"
        )
