"""The reports on one set of rows: a batch, a tally, the open unit of several workers, a span of the past.

A test of rows is a test of their tally, and adds what takes the rows themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks
from modelkit.drift.buckets import TimeBucket
from modelkit.drift.counts import STRANGE, Tally, count_by, tally_of
from modelkit.drift.dependence import thinned
from modelkit.drift.findings import Compared, all_drifts, performance_of, units_side
from modelkit.drift.labelfree import estimate_of
from modelkit.drift.layout import Rows
from modelkit.drift.permutation import permuted
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.row_times import second_text
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import BATCH_UNIT, group_table, many, plural, shares_of, unit_name
from modelkit.drift.values import Alarm, DriftCheck, FeatureDrift, Performance
from modelkit.errors import UsageError
from modelkit.stats.exact import exact_test, permutations_for
from modelkit.stats.tests import holm

OF_HERE = ""  # in the place of a digest, which takes a while and is not looked at
FROM_COUNTS = (
    "from counts alone: the names of unseen categories, duplicate rows and the performance without "
    "labels are not known"
)


def of_batch(tracker: Tracker, rows: Rows) -> DriftReport:
    """The test of a tally of some rows, and what takes the rows themselves.

    Raises UsageError for no rows, and for a unit of several strata.
    """
    profile = tracker.profile
    if not len(rows):
        raise UsageError("there are no rows to test")
    estimate = estimate_of(profile.calibration, rows.answers)
    performance = performance_of(tracker, estimate, rows.answers)
    if profile.units is not None:
        tally = tally_of(OF_HERE, rows)
        found = checks.unseen(profile.features, tally.counts.sum(axis=0))
    else:
        tally = tally_of(OF_HERE, replace(rows, cells=_far_apart(profile, rows, tracker.seed)))
        found = [
            *checks.unseen(profile.features, count_by(rows.cells)[0], rows),
            *checks.of_counts(profile, tally, tracker.alpha),
            *checks.duplicated(profile, rows.columns, tracker.alpha),
        ]
    return _test(tracker, tally, len(rows), found, performance=performance)


def _far_apart(profile: Profile, rows: Rows, seed: int) -> Array:
    """The cells of rows as far apart as those of the reference; the others are absent.

    They are taken from a random row on, which batches of different sizes begin at another of.
    """
    rng = np.random.default_rng([seed, len(rows)])
    features = profile.features
    strides = [feature.stride if feature.name in rows.columns else 1 for feature in features]
    return thinned(rows.cells, rows.strata, len(profile.strata), strides, rng)


def of_tally(tracker: Tracker, tally: Tally) -> DriftReport:
    """Exact tests of the counts of some rows, as they would be of the rows.

    Raises UsageError for no rows, a tally of another profile, and a unit of several strata.
    """
    profile = tracker.profile
    _check_fits(profile, tally)
    found = checks.unseen(profile.features, tally.counts.sum(axis=0))
    if profile.units is None:
        found += checks.of_counts(profile, tally, tracker.alpha)
    return _test(tracker, tally, tally.rows, found, said=[FROM_COUNTS])


def of_open_unit(trackers: Sequence[Tracker]) -> DriftReport:
    """The test of the open unit of several workers as one.

    Raises UsageError where no worker has rows of an open unit, or they are at different ones.
    """
    first = trackers[0]
    streams = [tracker.of_units() for tracker in trackers]
    having = [stream for stream in streams if stream.open_rows]
    groups = {(stream.open_key, stream.open_stratum) for stream in having}
    keys = {key for key, _ in groups}
    if len(groups) != 1 or None in keys:
        names = sorted(unit_name(s.unit, s.open_key) for s in having if s.open_key is not None)
        raise UsageError(
            "workers are merged while all are at the same unit, whose counts then add up; they are "
            f"at {names or 'none'}"
        )
    counts = np.sum([stream.open_counts for stream in having], axis=0)
    tally = Tally(OF_HERE, tuple(groups), counts[None])
    said = (
        f"the counts of {len(trackers)} workers for this {_unit_names(first.profile, tally)[0]} are "
        "added up exactly; units that a worker judged before were its own rows only, and are not "
        "merged"
    )
    return _test(first, tally, tally.rows, said=[said])


def _check_fits(profile: Profile, tally: Tally) -> None:
    """Raise UsageError for counts of another profile, or that no rows give, as in foreign bytes."""
    if tally.profile != profile.digest:
        raise UsageError("this is a tally of another profile; the counts would not mean the same")
    if not tally.groups:
        raise UsageError("there are no rows to test")
    strata, features, _ = profile.counts.shape
    known = all(stratum < strata for _, stratum in tally.groups)
    keyed = {key is not None for key, _ in tally.groups}
    has_keys = profile.unit not in (None, BATCH_UNIT)
    if not known or keyed != {has_keys} or tally.counts.shape[1] != features:
        raise UsageError("the tally has other strata, units or features than its profile")
    rows = tally.counts.sum(axis=2)
    of_group = tally.group_rows[:, None]
    if not ((rows == of_group) | (rows == 0)).all() or not of_group.all():
        raise UsageError("the features of the tally were counted over different numbers of rows")


class ExactTest(NamedTuple):
    """The sides of an exact test, with p-values, and what an alarm says of it.

    `statistics` has the name of the statistic for each feature of each side; `promise` is the
    guarantee of an alarm, and `note` what a report adds. `unit` has the units in words, None where
    rows are compared.
    """

    sides: Sequence[Compared]
    statistics: Sequence[str]
    promise: str
    note: str
    limits: Sequence[str] = ()
    unit: str | None = None


def _test(
    tracker: Tracker,
    tally: Tally,
    rows: int,
    found: Sequence[DriftCheck] = (),
    *,
    said: Sequence[str] = (),
    performance: Performance | None = None,
) -> DriftReport:
    """The report on the counts of so many rows, with the alarms that have the smallest p first."""
    profile, alpha = tracker.profile, tracker.alpha
    test_of = _test_of_rows if profile.units is None else _test_of_units
    test = test_of(profile, tally, alpha, tracker.seed)
    features = all_drifts(test.sides)
    strange = checks.strange_rows(profile, tally.strangers, rows)
    if profile.units is not None:
        units = sum(stratum == STRANGE for _, stratum in tally.groups)
        strange = checks.strange_units(profile, units, tally.strangers)
    tested = rows if test.unit is None else rows - tally.strangers
    alarms = [
        _alarm(tracker, test, drift, drift.p_changed, statistic, tested)
        for drift, statistic in zip(features, test.statistics, strict=True)
        if drift.p_changed is not None and drift.p_changed <= alpha
    ]
    return DriftReport(
        kind="batch",
        rows=rows,
        reference_rows=profile.rows,
        alpha=alpha,
        guarantee=f"{test.promise}{test.note}",
        assumptions=(*profile.assumptions(), *test.limits, *said),
        alarms=tuple(sorted(alarms, key=lambda alarm: alarm.p)),
        features=features,
        checks=(*found, *strange),
        performance=performance,
    )


def _alarm(
    tracker: Tracker, test: ExactTest, drift: FeatureDrift, p: float, statistic: str, rows: int
) -> Alarm:
    return Alarm(
        kind="changed",
        feature=drift.feature,
        stratum=drift.stratum,
        statistic=statistic,
        p=p,
        level=tracker.alpha,
        row=rows,
        began=None,
        effect=drift.effects[0] if drift.effects else None,
        guarantee=test.promise,
        assumptions=tracker.profile.assumptions(),
        rows=drift.rows if test.unit is None else None,
        unit=test.unit,
    )


def _test_of_rows(profile: Profile, tally: Tally, alpha: float, seed: int) -> ExactTest:
    counts = np.zeros_like(profile.counts)
    for (_, stratum), added in zip(tally.groups, tally.counts, strict=True):
        if stratum != STRANGE:
            counts[stratum] += added
    p = _exact_p(profile, counts, alpha, seed)
    tests = sum(own is not None for of_stratum in p for own in of_stratum)
    draws = permutations_for(tests, alpha)
    least = f"{tests / (draws + 1):.2g}"
    ordered = [feature.ordered for feature in profile.features] * len(p)
    return ExactTest(
        _strata(profile, counts, p),
        ["Anderson-Darling" if each else "chi-square" for each in ordered],
        "if this batch is exchangeable with the reference, any alarm is raised with a probability "
        f"of at most {alpha:g}; exact, for this one batch",
        # Equal p-values may differ in size.
        f"; with {draws:,} permutations a p of {least} stands for {least} or less",
    )


def _strata(
    profile: Profile, counts: Array, p: Sequence[Sequence[float | None]] = ()
) -> list[Compared]:
    """Each stratum with counts (strata, d, 67), and with p-values where there are some."""
    names = [None] if profile.stratum is None else profile.strata
    return [
        Compared(name, profile.features, profile.counts[s], counts[s], p[s] if p else ())
        for s, name in enumerate(names)
    ]


def _exact_p(
    profile: Profile, counts: Array, alpha: float, seed: int
) -> Sequence[Sequence[float | None]]:
    """Exact p-values by stratum and feature, adjusted by Holm over all of them.

    A feature without rows on both sides, or without a weight, is not tested.
    """
    heavy = np.array([feature.weight > 0 for feature in profile.features])
    places = np.argwhere(counts.any(axis=2) & profile.counts.any(axis=2) & heavy)
    draws = permutations_for(len(places), alpha)
    rng = np.random.default_rng(seed)
    p = [
        exact_test(
            counts[s, j],
            profile.counts[s, j],
            "anderson_darling" if profile.features[j].ordered else "chi_square",
            rng,
            draws,
        )
        for s, j in places.tolist()
    ]
    adjusted = np.full(counts.shape[:2], None, object)
    adjusted[tuple(places.T)] = holm(np.array(p))
    found: list[list[float | None]] = adjusted.tolist()
    return found


def _test_of_units(profile: Profile, tally: Tally, alpha: float, seed: int) -> ExactTest:
    units = plural(str(profile.unit))
    names = _unit_names(profile, tally)
    known = [i for i, (_, stratum) in enumerate(tally.groups) if stratum != STRANGE]
    strata = [tally.groups[i][1] for i in known]
    counts = tally.counts[known]
    table = group_table(profile.features)
    shares = np.array([shares_of(own, table) for own in counts])
    used = np.array([feature.weight > 0 for feature in profile.features])
    p, scores, least = permuted(profile.units, shares, strata, used, alpha=alpha, seed=seed)
    limit = (
        f"with so few units no p-value is below {least:.2g}, so that no alarm is possible "
        f"at alpha {alpha:g}: show more units at once, or raise alpha"
    )
    return ExactTest(
        [replace(units_side(profile, counts, strata), changed=p)],
        [f"permutations of {units}, by their {score}" for score in scores],
        f"if {many(len(known), str(profile.unit))} and the {units} of the reference are "
        f"exchangeable, any alarm is raised with a probability of at most {alpha:g}; exact, for "
        "this one call",
        "",
        [limit] if least > alpha else [],
        _units_text([names[i] for i in known]),
    )


def _unit_names(profile: Profile, tally: Tally) -> list[str]:
    """The units of a tally in words. Raises UsageError for a unit of several strata."""
    unit = str(profile.unit)
    names = [unit_name(unit, 1 if key is None else key) for key, _ in tally.groups]
    twice, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UsageError(f"{twice} has rows of several strata; all its rows are of one")
    return names


def _units_text(names: Sequence[str]) -> str:
    """Units in words, such as "3 days, day 2013-03-09 to day 2013-03-11"."""
    if len(names) < 2:
        return "".join(names)
    unit = names[0].split(" ")[0]
    return f"{many(len(names), unit)}, {names[0]} to {names[-1]}"


# A span of the past.


def of_span(
    profile: Profile,
    buckets: Sequence[TimeBucket],
    alarms: Sequence[Alarm],
    alpha: float,
    seed: int,
) -> DriftReport:
    """The rows of some buckets beside the reference; exact tests where they may be had."""
    counts = np.sum([bucket.counts.astype(np.int64) for bucket in buckets], axis=0)
    of_features = counts[:, : len(profile.features)]
    why_not = profile.why_untested
    p = _exact_p(profile, of_features, alpha, seed) if why_not is None else ()
    sides = _strata(profile, of_features, p)
    labels = profile.target
    if labels is not None:  # they come late, so they are no sample of the labels of these rows
        sides.append(Compared(None, [labels.feature], labels.counts[None], counts[0, -1:]))
    span = f"the rows from {second_text(buckets[0].start)} to {second_text(buckets[-1].end)} UTC"
    promise = (
        f"a description of {span}: each p-value is exact, adjusted by Holm over this one span, if "
        "its rows are exchangeable with the reference; it is apart from the alpha of the stream, "
        "and raises no alarm"
    )
    if why_not is not None:
        promise = f"none: a description of {span}; there are no tests, for {why_not}"
    return DriftReport(
        kind="span",
        rows=sum(bucket.rows for bucket in buckets),
        reference_rows=profile.rows,
        alpha=alpha,
        guarantee=promise,
        assumptions=profile.assumptions(),
        alarms=tuple(alarms),
        features=all_drifts(sides),
        checks=(),
        performance=_span_performance(profile, buckets),
        times=(float(buckets[0].start), float(buckets[-1].end)),
    )


def _span_performance(profile: Profile, buckets: Sequence[TimeBucket]) -> Performance | None:
    """The mean loss of the labels that came in a span, with a bound of its own."""
    n, total, squares = map(sum, zip(*(bucket.losses for bucket in buckets), strict=True))
    baseline = profile.baseline
    if baseline is None or n < 2:
        return None
    found = replace(baseline, n=n, total=total, squares=squares)
    return Performance(
        labelled=n, loss=found.interval(), baseline=baseline.interval(), estimated={}
    )
