"""What a Detector knows of a stream: its strata, their evidence, its labels and its alarms."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from modelkit import fields, forks
from modelkit.cast import Array
from modelkit.drift import archive, exact
from modelkit.drift.cells import ABSENT
from modelkit.drift.columns import stratum_names
from modelkit.drift.expected import LabelFree
from modelkit.drift.labels import Labelled
from modelkit.drift.order import Order, Shuffle
from modelkit.drift.profile import Profile
from modelkit.drift.shares import HORIZON, alpha_by_kind, labelled_of, stream_of
from modelkit.drift.stream import Crossing, Stream
from modelkit.drift.untold import Untold
from modelkit.drift.values import Alarm, Effect
from modelkit.errors import DriftError
from modelkit.evidence import Guarantee

STATE_SCHEMA = "modelkit.detector/1"
STATISTICS = {
    "changed": "conformal test martingale",
    "material": "band e-process",
    "performance": "loss e-process",
}
MOST_ALARMS_KEPT = 1000
RANKED_AT_ONCE = 2048  # rows, so that memory stays bounded


@final
class Watch:
    """The streams, shares of alpha, labels, label-free sums and alarms behind one Detector.

    Rows come as cells: `encode` makes them, `count` counts them, and `push` bets on them. A Monitor
    does the two halves of `push`, `rank` and `settle`, at different times. Whoever takes several
    steps that belong together holds `lock`, which one thread may take more than once.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        alpha: float,
        tolerance: float,
        guarantee: Guarantee,
        seed: int,
    ) -> None:
        if not 0 < alpha < 1 or not 0 <= tolerance < 1:
            raise DriftError(
                f"alpha is between 0 and 1, and tolerance from 0 to 1; got {alpha!r} and "
                f"{tolerance!r}"
            )
        if guarantee not in ("ever", "arl"):
            raise DriftError(f'guarantee is "ever" or "arl", got {guarantee!r}')
        self.profile = profile
        self.alpha = alpha
        self.tolerance = tolerance
        self.guarantee: Guarantee = guarantee
        self.seed = seed
        self.lock = threading.RLock()
        self.alarms: tuple[Alarm, ...] = ()
        self.untold = Untold()
        self.strangers = 0  # rows of a stratum that the reference does not have
        self._number = {name: s for s, name in enumerate(profile.strata)}
        self._levels = alpha_by_kind(profile, alpha)
        self.thins = any(feature.stride > 1 for feature in profile.features)
        *seeds, of_rows, of_labels = np.random.SeedSequence(seed).spawn(len(profile.strata) + 2)
        self._streams = [self._stream(s, own) for s, own in enumerate(seeds)]
        self._shuffles = {"rows": Shuffle(of_rows), "labels": Shuffle(of_labels)}
        self.labelled = self._labelled()
        self.label_free = LabelFree(profile.calibration)
        forks.watch(self)

    def _stream(self, s: int, seed: np.random.SeedSequence) -> Stream:
        return stream_of(
            self.profile,
            s,
            self._levels,
            tolerance=self.tolerance,
            guarantee=self.guarantee,
            seed=seed,
        )

    def _labelled(self) -> Labelled | None:
        baseline = self.profile.baseline
        if baseline is None:
            return None
        return labelled_of(baseline, self._levels["performance"], self.guarantee)

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self.lock = threading.RLock()

    # What is known.

    @property
    def rows(self) -> int:
        """The number of rows taken."""
        return sum(stream.rows for stream in self._streams) + self.strangers

    def streams(self) -> list[tuple[str | None, Stream]]:
        """Each stratum with its stream; the one stratum of a profile without strata is None."""
        if self.profile.stratum is None:
            return [(None, self._streams[0])]
        return list(zip(self.profile.strata, self._streams, strict=True))

    @property
    def promise(self) -> str:
        """The guarantee in words."""
        if self.guarantee == "ever":
            return (
                "if rows are exchangeable with the reference, any alarm is ever raised with a "
                f"probability of at most {self.alpha:g}, however often one looks"
            )
        return (
            f"if rows are exchangeable with the reference, any alarm is raised within {HORIZON:,} "
            f"rows with a probability of at most {self.alpha:g}"
        )

    # Rows, as cells.

    def encode(
        self,
        columns: Mapping[str, Array],
    ) -> tuple[Array, Array | None]:
        """The cells of rows, uint8 (n, d), and the number of each row's stratum, int64 (n,)."""
        n, strata = self.members(columns)
        cells = np.full((n, len(self.profile.features)), ABSENT, np.uint8)
        for j, feature in enumerate(self.profile.features):
            values = columns.get(feature.name)
            if values is not None:
                cells[:, j] = feature.cells(values)
        return cells, strata

    def members(
        self,
        columns: Mapping[str, Array],
    ) -> tuple[int, Array | None]:
        """The number of rows, and the number of each one's stratum, int64 (n,).

        A stratum that the reference does not have is -1. Without strata there is None.
        """
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DriftError(f"rows and scores have different lengths: {lengths}")
        n = max(lengths.values(), default=0)
        name = self.profile.stratum
        if name is None:
            return n, None
        if name not in columns:
            raise DriftError(
                f"the rows lack the column {name!r}, which tells the stratum",
                feature=name,
            )
        numbers = [self._number.get(own, -1) for own in stratum_names(columns[name])]
        return n, np.array(numbers, np.int64)

    def count(
        self,
        cells: Array,
        strata: Array | None,
    ) -> None:
        """Count encoded rows, whether or not they are ranked later."""
        with self.lock:
            for s, stream in enumerate(self._streams):
                stream.count(cells if strata is None else cells[strata == s])

    def push(
        self,
        cells: Array,
        strata: Array | None,
        order: Order = "time",
    ) -> list[Alarm]:
        """Rank and bet on the encoded rows of one call; returns the new alarms."""
        sizes = [len(cells)] if order == "any" else []
        with self.lock:
            cells, at = self.arrange(cells, strata, sizes)
        new: list[Alarm] = []
        for start in range(0, len(cells), RANKED_AT_ONCE):
            part: slice | Array = slice(start, start + RANKED_AT_ONCE)
            if at is not None:
                part = at[part]
            own = None if strata is None else strata[part]
            with self.lock:  # so that no state is taken between the two
                self.rank(cells[part], own)
                new += self.settle()
        return new

    def arrange(
        self,
        cells: Array,
        strata: Array | None,
        sizes: Sequence[int],
    ) -> tuple[Array, Array | None]:
        """What comes before `rank`, for the encoded rows of calls of these sizes.

        Values are left out that are closer than their feature's stride in the order of arrival, and
        then the rows of each call are put into a random order: given are the cells that are left,
        and the numbers of the rows in that order, None where it is that of arrival.
        """
        if self.thins:
            cells = cells.copy()
            for s, stream in enumerate(self._streams):
                member = slice(None) if strata is None else strata == s
                stream.leave_out(cells, np.arange(len(cells))[member])
        return cells, self._shuffles["rows"].within(sizes)

    def rank(
        self,
        cells: Array,
        strata: Array | None,
    ) -> None:
        """Rank encoded rows: the first half of `push`, for a few rows."""
        with self.lock:
            for s, stream in enumerate(self._streams):
                stream.rank(cells if strata is None else cells[strata == s])
            if strata is not None:
                self.strangers += int((strata < 0).sum())

    def settle(self) -> list[Alarm]:
        """Bet on the ranked rows: the second half of `push`; returns the new alarms."""
        new: list[Alarm] = []
        with self.lock:
            for s, stream in enumerate(self._streams):
                new += [self.alarm(s, crossing) for crossing in stream.settle()]
            self._keep(new)
        return new

    def alarm(
        self,
        s: int,
        crossing: Crossing,
    ) -> Alarm:
        """The alarm that a crossing in stratum number `s` raises."""
        profile = self.profile
        feature = profile.features[crossing.feature]
        reference = profile.counts[s, crossing.feature]
        return Alarm(
            kind="changed" if crossing.kind == "changed" else "material",
            feature=feature.name,
            stratum=None if profile.stratum is None else profile.strata[s],
            statistic=STATISTICS[crossing.kind],
            p=crossing.p,
            level=self._levels[crossing.kind] * feature.weight / len(profile.strata),
            row=crossing.row,
            began=crossing.began,
            effect=exact.main_effect(crossing.recent, reference, ordered=feature.ordered),
            guarantee=self.promise,
            assumptions=profile.assumptions(),
            counts=tuple(crossing.recent.tolist()),
        )

    def _keep(self, new: list[Alarm]) -> None:
        if new:
            self.alarms = (*self.alarms, *new)[-MOST_ALARMS_KEPT:]
            self.untold.add(new)

    # The performance, from labels and without.

    def push_losses(self, losses: Array, order: Order = "time") -> list[Alarm]:
        """Take the losses (n,) of one call; returns the new alarms."""
        labelled = self.labelled
        if labelled is None:
            return []
        with self.lock:
            if order == "any":
                losses = self._shuffles["labels"].shuffled(losses)
            new = [self._loss_alarm(labelled, *crossing) for crossing in labelled.push(losses)]
            self._keep(new)
        return new

    def _loss_alarm(
        self,
        labelled: Labelled,
        row: int,
        began: int,
        p: float,
    ) -> Alarm:
        interval = labelled.interval()
        return Alarm(
            kind="performance",
            feature="loss",
            stratum=None,
            statistic=STATISTICS["performance"],
            p=p,
            level=self._levels["performance"],
            row=row,
            began=began,
            effect=None if interval is None else Effect("mean loss", *interval),
            guarantee=self.promise,
            assumptions=self.profile.assumptions(),
        )

    def expect(self, answers: Mapping[str, Array]) -> None:
        """Take answers into the label-free estimate. Raises DriftError for what does not fit."""
        estimate = self.label_free.of(answers)
        with self.lock:
            self.label_free.add(estimate)

    # To go on from later.

    def state(self) -> bytes:
        """Everything that changes, for `Watch.resume`."""
        with self.lock:
            self.settle()  # a Monitor may have ranked rows only
            arrays: dict[str, Array] = {}
            plain = []
            for i, part in enumerate(self._parts()):
                changing, rest = part.state()
                arrays |= {f"{i} {name}": array for name, array in changing.items()}
                plain.append(rest)
            arrays |= self.label_free.state()
            about = {
                "profile": self.profile.digest,
                "alpha": self.alpha,
                "tolerance": self.tolerance,
                "guarantee": self.guarantee,
                "seed": self.seed,
                "strangers": self.strangers,
                "alarms": fields.write_object(self.alarms),
                "parts": plain,
                "orders": {name: shuffle.state() for name, shuffle in self._shuffles.items()},
            }
        return archive.pack(STATE_SCHEMA, about, arrays)

    def _parts(self) -> list[Stream | Labelled]:
        if self.labelled is None:
            return [*self._streams]
        return [*self._streams, self.labelled]

    @staticmethod
    def resume(profile: Profile, state: bytes) -> Watch:
        """The inverse of `state`, bit for bit. Raises DriftError for any other bytes."""
        about, arrays = archive.unpack(STATE_SCHEMA, state, "state of a Detector")
        if about.get("profile") != profile.digest:
            raise DriftError(
                "this is the state of a Detector of another profile; the counts would not mean the "
                "same"
            )
        try:
            options = {name: about[name] for name in ("alpha", "tolerance", "guarantee", "seed")}
            watch = Watch(profile, **options)
            watch._restore(about, arrays)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise DriftError(f"this is no state of a Detector: {error!r}") from error
        return watch

    def _restore(
        self,
        about: dict[str, Any],
        arrays: dict[str, Array],
    ) -> None:
        """Go on from what `state` packed."""
        self.strangers = about["strangers"]
        alarms = [fields.read_object(Alarm, alarm, "alarms") for alarm in about["alarms"]]
        self.alarms = tuple(alarms)
        parts = zip(self._parts(), about["parts"], strict=True)
        for i, (part, plain) in enumerate(parts):
            part.restore(archive.under(f"{i} ", arrays), plain)
        self.label_free.restore(arrays)
        for name, generator in about.get("orders", {}).items():  # none in a state of before
            self._shuffles[name].restore(generator)
