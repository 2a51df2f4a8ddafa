"""The reports on one set of rows: a batch, a tally, the open unit of several workers, a span of the past.

A test of rows is a test of their tally, and adds what takes the rows themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks
from modelkit.drift.buckets import TimeBucket
from modelkit.drift.counts import STRANGE, Tally, tally_of
from modelkit.drift.dependence import thinned
from modelkit.drift.findings import Compared, Findings, units_side
from modelkit.drift.layout import Rows
from modelkit.drift.performance import label_free, span_performance
from modelkit.drift.permutation import compare_units
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.row_times import second_text
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import BATCH_UNIT, many, plural, unit_name
from modelkit.drift.values import Alarm, DriftCheck, FeatureDrift
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
    if profile.units is not None:
        tally = tally_of(OF_HERE, rows)
        found = checks.unseen(profile.features, tally.counts.sum(axis=0))
    else:
        tally = tally_of(OF_HERE, replace(rows, cells=_far_apart(profile, rows, tracker.seed)))
        found = [
            *checks.unseen_names(profile.features, rows),
            *checks.of_counts(profile, tally, tracker.alpha),
            *checks.duplicated(profile, rows.columns, tracker.alpha),
        ]
    estimate = tracker.label_free.of(rows.answers)
    report = _test(tracker, tally, len(rows))
    return replace(
        report,
        checks=(*found, *report.checks),
        performance=label_free(tracker, estimate, rows.answers),
    )


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
    report = _test(tracker, tally, tally.rows)
    return replace(
        report, assumptions=(*report.assumptions, FROM_COUNTS), checks=(*found, *report.checks)
    )


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
    report = _test(first, tally, tally.rows)
    said = (
        f"the counts of {len(trackers)} workers for this {_unit_names(first.profile, tally)[0]} are "
        "added up exactly; units that a worker judged before were its own rows only, and are not "
        "merged"
    )
    return replace(report, assumptions=(*report.assumptions, said))


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


@dataclass(frozen=True)
class ExactTest:
    """The sides of an exact test, with p-values, and what an alarm says of it.

    `statistics` has the name of the statistic for each feature of each side; `promise` is the
    guarantee of an alarm, and `note` what a report adds. `row` is the number of rows that were
    compared, and `unit` has the units in words, None where rows are compared.
    """

    sides: Sequence[Compared]
    statistics: Sequence[str]
    promise: str
    note: str
    limits: Sequence[str]
    checks: Sequence[DriftCheck]
    row: int
    unit: str | None


def _test(tracker: Tracker, tally: Tally, rows: int) -> DriftReport:
    """The report on the counts of so many rows, with the alarms that have the smallest p first."""
    profile = tracker.profile
    alpha = tracker.alpha
    test_of = _test_of_rows if profile.units is None else _test_of_units
    test = test_of(profile, tally, rows, alpha, tracker.seed)
    guarantee = f"{test.promise}{test.note}"
    found = Findings(
        profile, alpha, "batch", rows, guarantee, test.sides, limits=test.limits, checks=test.checks
    )
    alarms = [
        _alarm(profile, test, drift, drift.p_changed, statistic, alpha)
        for drift, statistic in zip(found.features, test.statistics, strict=True)
        if drift.p_changed is not None and drift.p_changed <= alpha
    ]
    return replace(found.report(), alarms=tuple(sorted(alarms, key=lambda alarm: alarm.p)))


def _alarm(
    profile: Profile, test: ExactTest, drift: FeatureDrift, p: float, statistic: str, alpha: float
) -> Alarm:
    return Alarm(
        kind="changed",
        feature=drift.feature,
        stratum=drift.stratum,
        statistic=statistic,
        p=p,
        level=alpha,
        row=test.row,
        began=None,
        effect=drift.effects[0] if drift.effects else None,
        guarantee=test.promise,
        assumptions=profile.assumptions(),
        rows=drift.rows if test.unit is None else None,
        unit=test.unit,
    )


def _test_of_rows(profile: Profile, tally: Tally, rows: int, alpha: float, seed: int) -> ExactTest:
    counts = np.zeros_like(profile.counts)
    for (_, stratum), added in zip(tally.groups, tally.counts, strict=True):
        if stratum != STRANGE:
            counts[stratum] += added
    sides = _tested(profile, _strata(profile, counts), alpha, seed)
    ordered = [feature.ordered for side in sides for feature in side.features]
    return ExactTest(
        sides,
        ["Anderson-Darling" if each else "chi-square" for each in ordered],
        "if this batch is exchangeable with the reference, any alarm is raised with a probability "
        f"of at most {alpha:g}; exact, for this one batch",
        _least_p(sides, alpha),
        limits=(),
        checks=checks.strangers(tally.strangers, rows, profile.stratum),
        row=rows,
        unit=None,
    )


def _strata(profile: Profile, counts: Array) -> list[Compared]:
    names = [None] if profile.stratum is None else profile.strata
    return [
        Compared(name, profile.features, profile.counts[s], counts[s])
        for s, name in enumerate(names)
    ]


def _tested(profile: Profile, sides: Sequence[Compared], alpha: float, seed: int) -> list[Compared]:
    """Strata with exact p-values, adjusted by Holm over all of them and all features.

    A feature without rows on both sides, or without a weight, is not tested.
    """
    tests = []
    for s, side in enumerate(sides):
        both = side.counts.any(axis=1) & side.reference.any(axis=1)
        tests += [(s, j) for j in np.flatnonzero(both).tolist() if profile.features[j].weight > 0]
    draws = permutations_for(len(tests), alpha)
    rng = np.random.default_rng(seed)
    p = []
    for s, j in tests:
        side = sides[s]
        ordered = profile.features[j].ordered
        p.append(
            exact_test(
                side.counts[j],
                side.reference[j],
                "anderson_darling" if ordered else "chi_square",
                rng,
                draws,
            )
        )
    adjusted = dict(zip(tests, holm(np.array(p)).tolist(), strict=True))
    width = range(len(profile.features))
    return [
        replace(side, changed=[adjusted.get((s, j)) for j in width]) for s, side in enumerate(sides)
    ]


def _least_p(sides: Sequence[Compared], alpha: float) -> str:
    """What the smallest p-value of so many features stands for: equal ones may differ in size."""
    tests = sum(p is not None for side in sides for p in side.changed)
    draws = permutations_for(tests, alpha)
    least = f"{tests / (draws + 1):.2g}"
    return f"; with {draws:,} permutations a p of {least} stands for {least} or less"


def _test_of_units(profile: Profile, tally: Tally, rows: int, alpha: float, seed: int) -> ExactTest:
    units = plural(str(profile.unit))
    names = _unit_names(profile, tally)
    known = [i for i, (_, stratum) in enumerate(tally.groups) if stratum != STRANGE]
    strata = [tally.groups[i][1] for i in known]
    counts = tally.counts[known]
    result = compare_units(profile, counts, strata, alpha=alpha, seed=seed)
    limits = []
    if result.least > alpha:
        limits.append(
            f"with so few units no p-value is below {result.least:.2g}, so that no alarm is possible "
            f"at alpha {alpha:g}: show more units at once, or raise alpha"
        )
    return ExactTest(
        [replace(units_side(profile, counts, strata), changed=result.p)],
        [f"permutations of {units}, by their {score}" for score in result.scores],
        f"if {many(len(known), str(profile.unit))} and the {units} of the reference are "
        f"exchangeable, any alarm is raised with a probability of at most {alpha:g}; exact, for "
        "this one call",
        "",
        limits=limits,
        checks=checks.strange_units(profile, len(names) - len(known), tally.strangers),
        row=rows - tally.strangers,
        unit=_units_text([names[i] for i in known]),
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
    sides = _strata(profile, of_features)
    if why_not is None:
        sides = _tested(profile, sides, alpha, seed)
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
    return Findings(
        profile,
        alpha,
        "span",
        sum(bucket.rows for bucket in buckets),
        promise,
        sides,
        alarms=tuple(alarms),
        performance=span_performance(profile, buckets),
        times=(float(buckets[0].start), float(buckets[-1].end)),
    ).report()
