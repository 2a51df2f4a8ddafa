"""The Monitor: a Model that shows a Detector what it serves."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from numbers import Real
from typing import Any, final

from numpy import ndarray

from modelkit._internal.arrays import Array
from modelkit.drift import codec, words
from modelkit.drift.alarms import OnAlarm
from modelkit.drift.buckets import HISTORY_BYTES
from modelkit.drift.detector import Detector
from modelkit.drift.intake import SAMPLE_ROWS, Intake, ServedCall
from modelkit.drift.profile import PROFILE_NAME, Profile, check_profile
from modelkit.drift.row_times import second_text
from modelkit.drift.state import frozen, resume
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import BATCH_UNIT, PERIODS
from modelkit.drift.values import Alarm
from modelkit.errors import PackageError, UsageError
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import Wrapper, check_is_model, has_several_versions
from modelkit.signature.signature import Feeds, Signature
from modelkit.stats.evidence import Guarantee

LAST_ALARMS = 5  # that the card shows, the latest first


@final
class Monitor(Wrapper):
    """A Model that answers as the one it wraps does, and shows what it served to its `detector`.

        watched = mk.Monitor(model)  # by the Profile in the package
        watched.predict(X)
        watched.alarms

    Rows are copied into a buffer in the caller's thread. For every 256 rows there are a few steps
    to do: count them, and where the budget allows, estimate, rank and bet. A call does one step, or
    two from 48 rows on, and leaves them to others while another thread does one, so that none waits
    long; only where 16,384 rows wait, calls do more of them. A call of more than 64 rows counts its
    rows itself, and shows 64 of them, drawn at random; the rows of a call lack an order. An error
    in the monitoring is counted in `failures`, reaches no caller, and loses only the rows of the
    call that it is about.

    Args:
        model: the Model to watch; a Batcher, or what it would wrap.
        profile: the past; by default the Profile in the package.
        alpha: see `Detector`.
        tolerance: see `Detector`.
        guarantee: see `Detector`.
        budget: rows a second that the detector may see, however many are served; the others are
            only counted. At 20 columns a row takes about 8 microseconds, so the 2,000 of the
            default are under 2 % of a core.
        seed: see `Detector`.
        clock: gives the time of rows, in seconds since 1970; by it rows belong to a day, a
            week, a weekday or an hour, where the profile has these. The day or week in which the
            Monitor is made is not whole, and is not compared. All rows of a unit are counted,
            whatever the budget.
        history: see `Detector`.
        on_alarm: see `Detector`; it is called by the thread of the call whose step raised the
            alarm, after the answer is there. A Monitor that is pickled leaves both functions
            behind, and begins again where it is unpickled.

    Raises:
        UsageError: without a profile; for a profile of columns that the model does not take, or of
            unit="batch"; and for a Rollout.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_has_units",
        "_intake",
        "_row_dtype",
        "_row_shape",
        "_takes_answers",
        "_tensor",
        "signature",
    )

    signature: Signature  # a slot, which is read faster than a property

    def __init__(
        self,
        model: Model,
        profile: Profile | None = None,
        *,
        alpha: float = 0.01,
        tolerance: float | Mapping[str, float] = 0.03,
        guarantee: Guarantee = "ever",
        budget: float = 2000.0,
        seed: int = 0,
        history: int = HISTORY_BYTES,
        clock: Callable[[], float] = time.time,
        on_alarm: OnAlarm | None = None,
    ) -> None:
        tracker = Tracker(
            watched_profile(model, profile, budget),
            alpha=alpha,
            tolerance=tolerance,
            guarantee=guarantee,
            seed=seed,
            history=history,
            clock=clock,
            on_alarm=on_alarm,
        )
        intake = Intake(model, tracker, budget)
        if tracker.profile.unit in PERIODS:  # of the one under way earlier rows were not seen
            tracker.of_units().begin(tracker.now())
        self._set(model, intake)

    def _set(self, model: Model, intake: Intake) -> None:
        super().__init__(model)
        self.signature = model.signature
        self._intake = intake
        self._clock = intake.tracker.clock
        profile = intake.tracker.profile
        self._has_units = profile.unit is not None  # which take all rows of a call
        self._tensor = self.signature.inputs[0].name
        outputs = any(feature.output for feature in profile.features)
        self._takes_answers = outputs or profile.calibration is not None
        self._row_shape = None
        self._row_dtype = None
        block = self.signature.block
        if block is not None:
            self._row_shape = block[1]
            self._row_dtype = block[2].target

    @property
    def unobserved(self) -> Model:
        """The Model that answers without being watched."""
        return self._inner.unobserved

    @property
    def profile(self) -> Profile:
        """The past that rows are compared with."""
        return self._intake.tracker.profile

    @property
    def served(self) -> int:
        """The number of rows that were served."""
        return self._intake.served

    @property
    def shown(self) -> int:
        """The number of rows that the detector looked at, or that wait for it."""
        return self._intake.shown

    @property
    def failures(self) -> int:
        """The number of errors of the monitoring, which reached no caller."""
        return self._intake.failures

    @property
    def last_failure(self) -> str | None:
        """The last of these errors in words."""
        return self._intake.last_failure

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms until now, of all references; rows that wait are not looked at first."""
        return self._intake.tracker.notes.all_alarms

    @property
    def alarmed(self) -> frozenset[str]:
        """The features with an alarm of the reference in force: none after a `rebase`."""
        return frozenset(alarm.feature for alarm in self._intake.tracker.alarms)

    @property
    def detector(self) -> Detector:
        """The detector, with all that was served until now."""
        self._intake.catch_up()
        return self._intake.detector

    def state(self) -> bytes:
        """Everything that changes, for `Monitor.resume`; its size does not grow with the rows.

        All that was served until now is looked at first. `Detector.resume` and `Detector.merge` take
        it too. Raises UsageError where the clock gives something other than a time, and in a signal
        handler that interrupted a step of this Monitor.
        """
        intake, tracker = self._intake, self._intake.tracker
        with intake.caught_up():
            intake.since = tracker.now()
            of_monitor = codec.freeze(intake, {})
            packed = frozen(tracker)
        tracker.outbox.send()
        return packed(monitor=of_monitor)

    @staticmethod
    def resume(
        model: Model,
        state: bytes,
        profile: Profile | None = None,
        *,
        budget: float = 2000.0,
        clock: Callable[[], float] = time.time,
        on_alarm: OnAlarm | None = None,
    ) -> Monitor:
        """Go on from the `state()` of a Monitor, as after a restart of the application.

        Evidence, alarms, notes, history and the number of rows served go on bit for bit. A day or a
        week of which nobody watched more than a hundredth, in this and earlier restarts, is not
        whole, and is not compared.

        Args:
            model: the Model to watch.
            state: the state.
            profile: the Profile of the Monitor, the latest one where it had several; by default the
                Profile in the package.
            budget: as of a new Monitor.
            clock: as of a new Monitor; a state cannot store functions.
            on_alarm: likewise.

        Raises:
            PackageError: for any other bytes.
            UsageError: for the state of another profile, and as for a new Monitor.
        """
        tracker, about = resume(watched_profile(model, profile, budget), state, clock, on_alarm)
        of_monitor = about.get("monitor")
        if of_monitor is None:
            raise PackageError(
                "this is the state of a Detector, which does not say how many rows a Monitor had "
                "served: pass the bytes of monitor.state()"
            )
        intake = Intake(model, tracker, budget)
        with codec.reading("state of a Monitor"):
            codec.thaw(intake, of_monitor, {})
        if tracker.profile.unit in PERIODS:
            tracker.of_units().go_on(intake.since, tracker.now())
        monitor = Monitor.__new__(Monitor)
        monitor._set(model, intake)  # the constructor would make another Intake
        return monitor

    _call = Model._call  # it wants coerced feeds

    def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Awaitable[Outputs]:
        # An array of the one tensor's form is its feeds already. It is passed on as it is, for a
        # Batcher checks the rows of many callers in one pass.
        if type(X) is ndarray and X.shape[1:] == self._row_shape and X.dtype is self._row_dtype:
            return self._pass_on(X, outputs, call)
        return self._arun(self.signature.coerce(X), outputs, call)

    async def _pass_on(self, block: Array, outputs: tuple[str, ...], call: Call) -> Outputs:
        answers = await self._inner._acall(block, outputs, call)
        self._observe({self._tensor: block}, answers)
        return answers

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        answers = self._inner._run(feeds, outputs, call)
        self._observe(feeds, answers)
        return answers

    async def _arun(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        answers = await self._inner._arun(feeds, outputs, call)
        self._observe(feeds, answers)
        return answers

    # What was served: the call copies its rows into the buffer, from which 256 at a time become cells.

    def _observe(self, feeds: Feeds, answers: Outputs) -> None:
        """Copy the rows, for the caller may change its arrays, and do one of the waiting steps."""
        try:
            names = tuple(answers) if self._takes_answers else ()
            arrays = (*feeds.values(), *answers.values()) if names else (*feeds.values(),)
            rows = len(arrays[0])
            if not rows:
                return
            now = self._clock()
            drawn = rows > SAMPLE_ROWS and not self._has_units
            if drawn:
                self._intake.count(ServedCall(names, arrays, rows, now))
                chosen = self._intake.sampled(rows)
                kept = tuple([array.take(chosen, axis=0) for array in arrays])
            elif len(arrays) == 1:  # nearly always; a loop costs twice as much
                kept = (arrays[0].copy(),)
            else:
                kept = tuple([array.copy() for array in arrays])
            self._intake.take(ServedCall(names, kept, rows, now, drawn))
        except Exception as error:  # monitoring must not reach whoever asked
            self._intake.failed(error)

    def _facts(self) -> list[tuple[str, str]]:
        alarms = self.detector.alarms
        tracker = self._intake.tracker
        seen = f"{self.served:,} rows served, {self.shown:,} of them shown to the detector"
        facts = [("monitored", seen), ("guarantee", tracker.terms.promise)]
        times = tracker.times
        if times is not None:
            first, end = map(second_text, times)
            facts.append(("history", f"from {first} to {end} UTC"))
        for alarm in alarms[: -LAST_ALARMS - 1 : -1]:
            reason = tracker.notes.reason(alarm)
            known = "" if reason is None else f" Acknowledged: {reason}"
            name = words.name_of(alarm)
            facts.append(("alarm", f"{name} {words.alarm_text(alarm, 'stream')}{known}"))
        if len(alarms) > LAST_ALARMS:
            facts.append(("alarms before", f"{len(alarms) - LAST_ALARMS:,}"))
        if self.failures:
            last_one = "" if self.last_failure is None else f"; last {self.last_failure}"
            facts.append(("monitoring failed", f"{self.failures} times{last_one}"))
        return [*super()._facts(), *facts]

    def __reduce__(self) -> tuple[Any, ...]:
        tracker = self._intake.tracker
        again = partial(
            Monitor,
            alpha=tracker.alpha,
            tolerance=tracker.tolerance,
            guarantee=tracker.guarantee,
            budget=self._intake.budget.rate,
            seed=tracker.seed,
            history=tracker.history,
        )
        return again, (self._inner, tracker.profile)


def watched_profile(model: Model, profile: Profile | None, budget: float) -> Profile:
    """The profile that a Monitor compares with: the one given, or else that in the package.

    Raises TypeError and UsageError for a model, a profile or a budget that does not fit.
    """
    check_is_model(model, "a Monitor")
    if has_several_versions(model):
        raise UsageError(
            "a Monitor compares one version with its own past, and a Rollout has several: put "
            "one into each, as by Rollout(registry, name, wrap=mk.Monitor) or "
            "Rollout(mk.Monitor(champion), mk.Monitor(candidate), ...)"
        )
    if not isinstance(budget, Real) or not budget >= 0:
        raise UsageError(f"budget is in rows a second, 0 or more; got {budget!r}")
    if profile is None:
        profile = packaged(model)
    profile = check_profile(profile).without(model.signature.ignored)
    if profile.unit == BATCH_UNIT:
        raise UsageError(
            "a Monitor sees calls, which may be parts of a batch: use a profile with unit='day' "
            "or 'week', or show whole batches to a Detector"
        )
    profile.layout.check(model.signature)
    return profile


def packaged(model: Model) -> Profile:
    """The profile in a model's package. Raises UsageError without one."""
    data = model.attachments.get(PROFILE_NAME)
    if data is None:
        raise UsageError(
            "the model's package lacks a profile: store one with mk.save(..., "
            "profile=mk.Profile.fit(X_train, reference=X_holdout)), or pass one: "
            "Monitor(model, profile) or InputChecks(model, X_holdout)"
        )
    return Profile.from_bytes(data)
