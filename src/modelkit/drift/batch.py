"""The reports on one set of rows: a batch, or a tally.

A test of rows is a test of their tally, and adds what takes the rows themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, comb, prod
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks
from modelkit.drift.counts import STRANGE, Tally, count_by, tally_of
from modelkit.drift.findings import Compared, all_drifts, performance_of, strata_beside, units_side
from modelkit.drift.labelfree import estimate_of
from modelkit.drift.layout import Rows
from modelkit.drift.order import thinned
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.tracker import Tracker
from modelkit.drift.unit_ranks import SCORES, unit_scores
from modelkit.drift.units import (
    BATCH_UNIT,
    ReferenceUnits,
    group_table,
    many,
    plural,
    shares_of,
    unit_name,
)
from modelkit.drift.values import Alarm, DriftCheck, FeatureDrift
from modelkit.errors import UsageError
from modelkit.stats.exact import exact_test, permutations_for
from modelkit.stats.tests import holm

FEWEST_DRAWS = 1_999  # of choices of several units
TIE = 1e-9  # rounding apart, relative
NO_DIGEST = ""  # the digest of a profile takes a while, and nothing here reads it
FROM_COUNTS = (
    "from counts alone: the names of unseen categories and the performance without labels are not "
    "known"
)


def of_batch(tracker: Tracker, rows: Rows) -> DriftReport:
    """The test of a tally of some rows, and what takes the rows themselves.

    Raises UsageError for no rows, and for a unit of several strata.
    """
    profile = tracker.profile
    n = len(rows)
    if not n:
        raise UsageError("X is empty: pass rows to test")
    estimate = estimate_of(profile.calibration, rows.answers)
    performance = performance_of(profile, estimate, rows.answers)
    found = checks.unseen(profile.features, count_by(rows.cells)[0], rows)
    if profile.units is None:
        # Batches of different sizes begin at different rows.
        rng = np.random.default_rng([tracker.seed, n])
        rows = replace(rows, cells=thinned(rows.cells, rows.strata, profile.features, rng))
    report = _test(tracker, tally_of(NO_DIGEST, rows), n, found)
    return replace(report, performance=performance)


def of_tally(tracker: Tracker, tally: Tally) -> DriftReport:
    """Exact tests of the counts of some rows, as they would be of the rows.

    Raises UsageError for no rows, a tally of another profile, and a unit of several strata.
    """
    _check_fits(tracker.profile, tally)
    found = checks.unseen(tracker.profile.features, tally.counts.sum(axis=0))
    report = _test(tracker, tally, tally.rows, found)
    return replace(report, assumptions=(*report.assumptions, FROM_COUNTS))


def _check_fits(profile: Profile, tally: Tally) -> None:
    """Raise UsageError for counts of another profile, or that no rows give, as in foreign bytes."""
    if tally.profile != profile.digest:
        raise UsageError(
            "this is a tally of another profile: count the rows by tally() of this one"
        )
    if not tally.groups:
        raise UsageError("X is empty: pass rows to test")
    strata, features, _ = profile.counts.shape
    has_keys = profile.unit not in (None, BATCH_UNIT)
    fits = [stratum < strata and (key is not None) == has_keys for key, stratum in tally.groups]
    rows = tally.counts.sum(axis=2)
    of_group = tally.group_rows[:, None]
    whole = ((rows == of_group) | (rows == 0)) & (of_group > 0)
    if not all(fits) or not whole.all() or rows.shape[1] != features:
        raise UsageError("no rows have the strata, units, features and counts of this tally")


class ExactTest(NamedTuple):
    """The sides of an exact test, with p-values, and what an alarm says of it.

    `statistics` has the name of the statistic for each feature of each side; `promise` is the
    guarantee of an alarm, and `note` what a report adds. `unit` has the units in words, None where
    rows are compared.
    """

    sides: Sequence[Compared]
    statistics: Sequence[str]
    promise: str
    note: str = ""
    limits: Sequence[str] = ()
    unit: str | None = None


def _test(tracker: Tracker, tally: Tally, rows: int, found: Sequence[DriftCheck]) -> DriftReport:
    """The report on the counts of so many rows, with the alarms that have the smallest p first."""
    profile, alpha = tracker.profile, tracker.alpha
    assumptions = profile.assumptions()
    if profile.units is None:
        test = _test_of_rows(profile, tally, alpha, tracker.seed)
        strange = checks.strange_rows(profile, tally.strangers, rows)
        found = [*found, *checks.of_counts(profile, tally, alpha)]
    else:
        test = _test_of_units(profile, tally, alpha, tracker.seed)
        units = sum(stratum == STRANGE for _, stratum in tally.groups)
        strange = checks.strange_units(profile, units, tally.strangers)
    features = all_drifts(test.sides)
    alarms = _alarms(test, features, alpha, rows, assumptions)
    return DriftReport(
        kind="batch",
        rows=rows,
        reference_rows=profile.rows,
        alpha=alpha,
        guarantee=f"{test.promise}{test.note}",
        assumptions=(*assumptions, *test.limits),
        alarms=tuple(sorted(alarms, key=lambda alarm: alarm.p)),
        features=features,
        checks=(*found, *strange),
        performance=None,
    )


def _alarms(
    test: ExactTest,
    features: Sequence[FeatureDrift],
    alpha: float,
    rows: int,
    assumptions: tuple[str, ...],
) -> Iterator[Alarm]:
    for drift, statistic in zip(features, test.statistics, strict=True):
        if drift.p_changed is not None and drift.p_changed <= alpha:
            yield Alarm(
                kind="changed",
                feature=drift.feature,
                stratum=drift.stratum,
                statistic=statistic,
                p=drift.p_changed,
                level=alpha,
                row=rows,
                began=None,
                effect=drift.effects[0] if drift.effects else None,
                guarantee=test.promise,
                assumptions=assumptions,
                rows=drift.rows if test.unit is None else None,
                unit=test.unit,
            )


def _test_of_rows(profile: Profile, tally: Tally, alpha: float, seed: int) -> ExactTest:
    counts = np.zeros_like(profile.counts)
    for (_, stratum), added in zip(tally.groups, tally.counts, strict=True):
        if stratum != STRANGE:
            counts[stratum] += added
    p = exact_p(profile, counts, alpha, seed)
    tests = sum(value is not None for of_stratum in p for value in of_stratum)
    draws = permutations_for(tests, alpha)
    least = f"{tests / (draws + 1):.2g}"
    names = [
        "Anderson-Darling" if feature.ordered else "chi-square" for feature in profile.features
    ]
    return ExactTest(
        strata_beside(profile, counts, p),
        names * len(p),
        "if this batch is exchangeable with the reference, any alarm is raised with a probability "
        f"of at most {alpha:g}; exact, for this one batch",
        # Equal p-values may differ in size.
        f"; with {draws:,} permutations a p of {least} stands for {least} or less",
    )


def exact_p(
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
            counts[s, j], profile.counts[s, j], rng, draws, ordered=profile.features[j].ordered
        )
        for s, j in places.tolist()
    ]
    adjusted = np.full(counts.shape[:2], None, object)
    adjusted[tuple(places.T)] = holm(np.array(p))
    found: list[list[float | None]] = adjusted.tolist()
    return found


def _test_of_units(profile: Profile, tally: Tally, alpha: float, seed: int) -> ExactTest:
    unit = str(profile.unit)
    names = [unit_name(unit, 1 if key is None else key) for key, _ in tally.groups]
    twice, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UsageError(f"{twice} has rows of several strata; all its rows are of one")
    known = [i for i, (_, stratum) in enumerate(tally.groups) if stratum != STRANGE]
    tested = [names[i] for i in known]
    strata = [tally.groups[i][1] for i in known]
    counts = tally.counts[known]
    table = group_table(profile.features)
    shares = np.array([shares_of(unit_counts, table) for unit_counts in counts])
    used = np.array([feature.weight > 0 for feature in profile.features])
    p, scores, least = permuted(profile.units, shares, strata, used, alpha=alpha, seed=seed)
    limit = (
        f"with so few units no p-value is below {least:.2g}, so that no alarm is possible "
        f"at alpha {alpha:g}: show more units at once, or raise alpha"
    )
    several = f"{many(len(tested), unit)}, {tested[0]} to {tested[-1]}" if tested[1:] else ""
    return ExactTest(
        [replace(units_side(profile, counts, strata), changed=p)],
        [f"permutations of {plural(unit)}, by their {score}" for score in scores],
        f"if {many(len(known), unit)} and the {plural(unit)} of the reference are "
        f"exchangeable, any alarm is raised with a probability of at most {alpha:g}; exact, for "
        "this one call",
        limits=[limit] if least > alpha else [],
        unit=several or "".join(tested),
    )


# A permutation of units.


def permuted(
    reference: ReferenceUnits | None,
    shares: Array,
    strata: Sequence[int],
    used: Array,
    *,
    alpha: float,
    seed: int,
) -> tuple[list[float | None], list[str], float]:
    """Compare units with a reference's units, exactly: which of them came last is permuted.

    If both are exchangeable, within their strata, then any choice of as many of them is as likely
    to have come last. A difference is compared with the largest of all features under the same
    choice, so the p-values hold for all features together (Westfall and Young 1993, single step).

    Of the units to test are given what is kept of them, uint16 (k, d, 16), and the numbers of their
    strata; `used`, bool (d,), says what is tested. Returned are the p-value of each feature,
    adjusted for all, None where it is not tested; the name of the score behind it; and the least
    p-value that there may be.
    """
    if reference is None or not len(shares):
        return [None] * len(used), [SCORES[0]] * len(used), 1.0
    groups = _by_stratum(reference, shares, strata)
    seen = np.abs(np.sum([scores[-k:].sum(axis=0) for scores, k in groups], axis=0))
    least, sums = _choices(groups, alpha, np.random.default_rng(seed))
    largest = np.abs(sums[:, used]).max(axis=(1, 2), initial=0)
    if len(shares) > 1:  # a single unit as it was seen is among the choices that are listed
        largest = np.append(largest, np.inf)
    differences = seen.max(axis=1) * (1 - TIE)
    p = (largest >= differences[:, None]).mean(axis=1).tolist()
    tested = [value if use else None for value, use in zip(p, used.tolist(), strict=True)]
    return tested, [SCORES[i] for i in seen.argmax(axis=1).tolist()], least


def _by_stratum(
    reference: ReferenceUnits, shares: Array, strata: Sequence[int]
) -> list[tuple[Array, int]]:
    """For each stratum the scores of its units, those to test last, and the number of these.

    Only units with values of the same features change places. One without values of a feature would
    never differ by it, so that those with values would seem to differ more than they do.
    """
    units = np.concatenate([reference.shares, shares])
    present: Array = np.any(units, axis=2)
    alike: dict[tuple[int, bytes], list[int]] = {}
    for i, stratum in enumerate([*reference.strata.tolist(), *strata]):
        alike.setdefault((stratum, present[i].tobytes()), []).append(i)
    first = len(reference.shares)
    groups = [members for _, members in sorted(alike.items()) if members[-1] >= first]
    return [(_standardised(units[members]), sum(i >= first for i in members)) for members in groups]


def _choices(
    groups: Sequence[tuple[Array, int]], alpha: float, rng: np.random.Generator
) -> tuple[float, Array]:
    """The least p-value that there may be, and sums over choices of units, (n, d, 3).

    One unit may be each of the units; of more, choices are drawn.
    """
    if [k for _, k in groups] == [1]:
        return 1 / len(groups[0][0]), groups[0][0]
    draws = max(FEWEST_DRAWS, ceil(1 / alpha) - 1)
    sums = np.sum([_drawn(scores, k, draws, rng) for scores, k in groups], axis=0)
    choices = prod(comb(len(scores), k) for scores, k in groups)
    return max(1 / (draws + 1), 1 / choices), sums


def _standardised(units: Array) -> Array:
    """The scores of units less their mean over all, in standard deviations, (n, d, 3).

    A feature without values has 0.
    """
    scores = unit_scores(units)
    centred = scores - scores.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    found: Array = centred / np.where(spread > TIE, spread, np.inf)
    return found


def _drawn(scores: Array, k: int, draws: int, rng: np.random.Generator) -> Array:
    """The sums of scores over random choices of k units, (draws, d, 3)."""
    n = len(scores)
    order = rng.random((draws, n)).argsort(axis=1)[:, :k]
    chosen = np.zeros((draws, n))
    np.put_along_axis(chosen, order, 1.0, axis=1)
    return np.tensordot(chosen, scores, 1)
