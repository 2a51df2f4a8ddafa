"""The Detector: compares rows with a Profile of the past, with a false-alarm rate that holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, final

from modelkit.drift import batch, findings
from modelkit.drift.alarms import OnAlarm
from modelkit.drift.buckets import HISTORY_BYTES
from modelkit.drift.counts import Tally, refuse_tally
from modelkit.drift.history import History, history_of
from modelkit.drift.labels import LabelledCall
from modelkit.drift.order import Order, check_order
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.row_times import given_seconds
from modelkit.drift.state import frozen, resume, resume_all
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import count_of
from modelkit.drift.values import Alarm
from modelkit.errors import UsageError
from modelkit.stats.evidence import Guarantee


@final
class Detector:
    """Watches a stream of rows; every method may be called from any thread.

        detector = mk.Detector(mk.Profile.fit(X_train, reference=X_holdout))
        detector.update(X_today)  # the new alarms

    It raises three kinds of alarms: "changed" (the rows are no longer like the reference),
    "material" (and by more than `tolerance`) and "performance" (the loss on labelled rows is above
    the loss of the reference by more than 0.02). If rows are exchangeable with the reference, the
    probability that they ever raise any alarm is at most `alpha`, however often and however long
    you look; for "material" and "performance", their share of it also holds for all rows within the
    tolerance. See docs/explanation/drift_guarantees.md.

    Args:
        profile: the past.
        alpha: the probability of a false alarm: ever, over all features and kinds; at least 1e-9.
            `test` draws tests / alpha permutations for each feature that differs, so a tiny alpha
            is slow.
        tolerance: the largest change that is not material: of a distribution function, anywhere,
            and, at half the range, of the means of three polynomials of the rank. 0.03 is about
            0.05 standard deviations of a normal variable. Or one for each feature by name, such as
            {"age": 0.1}, and 0.03 for the others; a name of an embedding is for all its numbers.
        guarantee: "ever", for one alarm of each change: "material" and "performance" come again
            where a change grows or turns into another one, "changed" once it was acknowledged. Or
            "arl" for alarms that recur while a change lasts: alpha is then the probability of a
            false alarm in 10,000 rows, and the mean number of rows to one is at least 5,000 /
            alpha.
        seed: of the random ranks of ties.
        history: the most bytes of memory for the counts of past hours and days; 0 for none.
        clock: the time, in POSIX seconds, of rows that come without one.
        on_alarm: a function of one `Alarm`, called once for each, without a lock, by the thread
            whose rows raised it. An error that it raises is logged, and never reaches a caller.

    Raises:
        UsageError: for a value out of range, and for an unknown feature.
    """

    __slots__ = ("__weakref__", "_tracker")

    def __init__(
        self,
        profile: Profile,
        *,
        alpha: float = 0.01,
        tolerance: float | Mapping[str, float] = 0.03,
        guarantee: Guarantee = "ever",
        seed: int = 0,
        history: int = HISTORY_BYTES,
        clock: Callable[[], float] = time.time,
        on_alarm: OnAlarm | None = None,
    ) -> None:
        self._tracker = Tracker(
            profile,
            alpha=alpha,
            tolerance=tolerance,
            guarantee=guarantee,
            seed=seed,
            history=history,
            clock=clock,
            on_alarm=on_alarm,
        )

    @property
    def profile(self) -> Profile:
        """The past that rows are compared with."""
        return self._tracker.profile

    @property
    def alpha(self) -> float:
        """The probability of a false alarm."""
        return self._tracker.alpha

    @property
    def tolerance(self) -> float | Mapping[str, float]:
        """The largest change that is not material."""
        return self._tracker.tolerance

    @property
    def guarantee(self) -> Guarantee:
        """The kind of guarantee, "ever" or "arl"."""
        return self._tracker.guarantee

    @property
    def seed(self) -> int:
        """The seed of the random ranks of ties."""
        return self._tracker.seed

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms in the order in which they were raised; the last 1,000 at most.

        Alarms of references before the last `rebase` are among them.
        """
        return self._tracker.notes.all_alarms

    @property
    def history(self) -> History:
        """What was seen in the hours and days of the past."""
        with self._tracker.lock:
            return history_of(self._tracker)

    @property
    def rows(self) -> int:
        """The number of rows taken, of all references."""
        with self._tracker.lock:
            return self._tracker.notes.rows_before + self._tracker.rows

    def update(
        self, X: Any = None, scores: Any = None, *, order: Order = "any", at: Any = None
    ) -> list[Alarm]:
        """Take the rows of one call, and the model's answers; returns the new alarms.

            for alarm in detector.update(X_today):
                print(alarm)

        If the profile has units, the rows of the open unit are counted, and the unit is judged when
        it is complete: when a row of a later unit comes, or, for batches, with each call. Rows of a
        unit that was judged are counted as late, and not compared.

        Args:
            X: rows (n, width) with the columns of the profile, in any form that `Profile.fit`
                takes; or None for scores alone.
            scores: the model's answers to these rows, as in `Profile.fit`; or a frame of
                probabilities whose columns have the names of the classes, in any order.
            order: "any" if the order within the call is meaningless, as in a sorted table: rows are
                taken in a random order, by the seed. "time" for rows in the order in which they
                came, so that a change within the call can be found. The number of rows in a call
                must not depend on their values. The rows of a unit lack an order; days and weeks
                are in the order of time, and units by a column are judged in this order.
            at: when the rows were, where X does not have the profile's column of times: a datetime,
                a text in ISO 8601 or seconds since 1970; one for all rows, or one each, (n,).
                Without rows, it states the current time: a day or a week that has ended is judged,
                and later rows may be up to 31 days or weeks after it.

        Raises:
            UsageError: for columns that are missing or of another kind, scores of another length,
                an unknown order, or a day or a week more than 31 after all earlier ones. The call
                is then left out as a whole.
            SignatureError: for rows that cannot be read.
        """
        check_order(order)
        refuse_tally(X)
        tracker = self._tracker
        if X is None and scores is None and at is not None:
            second = float(given_seconds(at, 1)[0])
            with tracker.turn():
                tracker.of_units().come_to(second)
                new = tracker.settle()
        else:
            with tracker.reading(lambda profile: profile.layout.encode(X, scores, at)) as rows:
                new = tracker.take(rows, order)
        tracker.outbox.send()
        return new

    def update_labels(
        self,
        y: Any = None,
        predicted: Any = None,
        *,
        losses: Any = None,
        order: Order = "any",
        at: Any = None,
    ) -> list[Alarm]:
        """Take the labels of one call, however late they come; returns the new alarms.

        Labels are compared with the reference's under the name "target", and losses with the losses
        of the reference.

        Args:
            y: the true labels or numbers, (n,).
            predicted: the model's answers to these rows, (n,); None to look at the labels alone.
            losses: instead of both, the losses, (n,), from 0 to 1.
            order: of the labels within the call, as in `update`.
            at: when the labels came, for the history, in any form that `update` takes; None for
                now.

        Raises:
            UsageError: where the profile lacks labels or losses to compare with, and for labels
                that do not fit.
        """
        check_order(order)
        tracker = self._tracker
        with tracker.reading(lambda own: LabelledCall.read(own, y, predicted, losses)) as rows:
            times = given_seconds(tracker.now() if at is None else at, rows.rows)
            new = tracker.push_labels(rows, times, order)
        tracker.outbox.send()
        return new

    def test(self, X: Any = None, scores: Any = None, *, at: Any = None) -> DriftReport:
        """Compare one batch with the reference by exact tests, independently of `update`.

            detector.test(X_today).alarms

        The probability that a batch exchangeable with the reference raises any alarm is at most
        `alpha`, for this one batch. The order of its rows does not matter, unless the reference is
        in the order of time: then they must be too. If the profile has units, the units of X, which
        are taken as complete, are compared with the units of the reference.

        Args:
            X: rows, as in `update`; or a `Tally` of rows, which gives the same p-values. It
                lacks the names of unseen categories and what the performance without labels needs.
            scores: as in `update`.
            at: as in `update`.

        Raises:
            UsageError, SignatureError: as `update`; also for no rows, and a Tally of another profile.
        """
        if isinstance(X, Tally):
            if scores is not None or at is not None:
                raise UsageError("a Tally has its scores and times already; pass them to tally()")
            return batch.of_tally(self._tracker, X)
        return batch.of_batch(self._tracker, self.profile.layout.encode(X, scores, at))

    def acknowledge(self, alarm: Alarm, reason: str) -> None:
        """Note that somebody knows of an alarm, and why it is dealt with.

        The note is part of the state and of the report. With "ever", a feature raises the alarm
        "changed" once. After you acknowledge it, it is raised again if rows differ from the rows
        since then. Alarms "material" and "performance" are raised again by themselves, if a change
        grows or turns into another one. Alpha holds for all alarms of the whole life together.

        Raises UsageError for an alarm that is not among `alarms`, and without a reason.
        """
        with self._tracker.caught_up():
            self._tracker.acknowledge(alarm, reason)
        self._tracker.outbox.send()  # of what a Monitor had not looked at yet

    def rebase(self, profile: Profile, reason: str, *, alpha: float | None = None) -> None:
        """Compare with another reference from now on; the history, alarms and notes are kept.

        The evidence begins again, with an alpha of its own: the probability of a false alarm is at
        most `alpha` for each reference, and at most the sum over all references for the whole life.
        The new reference must not contain the rows that raised the alarm; take rows that came
        later. docs/explanation/drift_guarantees.md has the proof, and a rule by which the sum stays
        below a bound.

        Args:
            profile: the new past, of the same columns and outputs.
            reason: why, for the report.
            alpha: the probability of a false alarm against the new reference; None for the same as until now.

        Raises:
            UsageError: for a profile of other columns, an alpha out of range, or without a reason.
        """
        self._tracker.rebase(profile, reason, alpha)
        self._tracker.outbox.send()  # of what a Monitor had not looked at yet

    def report(self) -> DriftReport:
        """Describe the stream so far: alarms, p-values, effect sizes, checks and performance."""
        return findings.of_stream(self._tracker)

    def state(self) -> bytes:
        """Everything that changes, for `Detector.resume`; its size does not grow with the rows."""
        with self._tracker.turn():
            self._tracker.settle()  # units that a Monitor has not judged, which may alarm
            packed = frozen(self._tracker)
        self._tracker.outbox.send()
        return packed()

    @staticmethod
    def resume(
        profile: Profile,
        state: bytes,
        *,
        clock: Callable[[], float] = time.time,
        on_alarm: OnAlarm | None = None,
    ) -> Detector:
        """Go on, bit for bit, from the `state()` of a Detector of the same profile.

        Args:
            profile: the Profile of the Detector, the latest one where it had several.
            state: its state.
            clock: as of a new Detector; a state cannot store functions.
            on_alarm: likewise.

        Raises:
            PackageError: for any other bytes.
            UsageError: for the state of a Detector of another profile.
        """
        return detector_of(resume(profile, state, clock, on_alarm)[0])

    @staticmethod
    def merge(profile: Profile, states: Sequence[bytes]) -> DriftReport:
        """Make one report from the states of several workers' Detectors of the same profile.

        Counts add up, and the evidence of "material" is averaged: an average of e-processes is one,
        so an alarm of the average has the level of an alarm of a single worker. "changed" and
        "performance" need their rows in one sequence and lack a value here; give each worker alpha
        / workers for those, and read them there. Units are judged as wholes, by whoever sees all of
        their rows: where workers share them, test the sum of their tallies.

        Raises:
            PackageError: for any other bytes.
            UsageError: without states, for states of different profiles or arguments, and for units.
        """
        return findings.of_workers(resume_all(profile, states))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Detector has a lock and a clock, and is neither pickled nor copied: take "
            "detector.state(), and go on by Detector.resume(profile, state)"
        )

    def __repr__(self) -> str:
        found = count_of(len(self.alarms), "alarm")
        return f"<Detector of {self.profile!r}: {count_of(self.rows, 'row')} taken, {found}>"


def detector_of(tracker: Tracker) -> Detector:
    """A Detector that shows what a Tracker knows."""
    detector = Detector.__new__(Detector)
    detector._tracker = tracker  # the constructor would make another
    return detector
