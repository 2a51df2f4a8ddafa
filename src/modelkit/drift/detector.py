"""The Detector: compares a stream of rows with a Profile of the past, with a false-alarm rate that holds."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import archive, band, findings
from modelkit.drift.cells import ABSENT, as_texts, stratum_names
from modelkit.drift.evidence import Guarantee
from modelkit.drift.labelfree import Estimate
from modelkit.drift.labels import Labelled
from modelkit.drift.outputs import (
    check_losses,
    doubles,
    losses_of,
    name_outputs,
    output_columns,
    scores_of,
)
from modelkit.drift.privacy import most_noise
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.stream import Crossing, Stream
from modelkit.drift.values import Alarm, Effect
from modelkit.drift.vectors import expand, source_of
from modelkit.errors import DriftError

SCHEMA = "modelkit.detector/1"
STATISTICS = {
    "changed": "conformal test martingale",
    "material": "band e-process",
    "performance": "loss e-process",
}
KEPT = 1000  # alarms
LATELY = 1024  # rows after which a new label-free estimate begins
HORIZON = 10_000  # rows in which alpha is the probability of a false alarm, for "arl"
SHARES = {
    "changed": 2,
    "material": 1,
    "performance": 1,
}  # of alpha, among those that are looked for
FOR_THE_BAND = 1 / 3  # of the alpha of "material": for the error of the reference
ROWS = 2048  # ranked at once, so that memory stays bounded


@final
class Detector:
    """Watches a stream of rows; every method may be called from any thread.

    It raises three kinds of alarms: "changed" (the rows are no longer like the reference),
    "material" (and by more than `tolerance`) and "performance" (the loss on labelled rows is above
    that of the reference by more than 0.02). The probability that rows which are exchangeable with
    the reference ever raise any alarm is at most `alpha`, however often and however long one looks;
    "material" and "performance" keep their parts of it for all rows within the tolerance too. See
    docs/drift_guarantees.md.

    Args:
        profile: the past.
        alpha: the probability of a false alarm: ever, over all features and kinds.
        tolerance: how far a distribution function may move before the change is material, anywhere,
            and, at half the range, the means of three polynomials of the rank; 0.03 is about 0.05
            standard deviations of a normal variable.
        guarantee: "ever", for one alarm of each feature and kind; or "arl" for alarms that recur:
            then alpha is the probability of a false alarm in 10,000 rows, and the mean number of
            rows to one is at least 5,000 / alpha.
        seed: of the random ranks of ties.

    Raises:
        DriftError: for values out of range.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        alpha: float = 0.01,
        tolerance: float = 0.03,
        guarantee: Guarantee = "ever",
        seed: int = 0,
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
        self._alarms: list[Alarm] = []
        self._lock = threading.RLock()

        self._strata = {name: s for s, name in enumerate(profile.strata)}
        self.strangers = 0  # rows of a stratum that the reference does not have
        self._levels = self._shared_alpha()
        self._streams = [self._stream(s, child) for s, child in enumerate(self._children())]
        self._estimates: list[Estimate | None] = [None, None]
        self.labelled: Labelled | None = None
        if profile.baseline is not None:
            level = self._levels["performance"]
            delta = level * FOR_THE_BAND
            self.labelled = Labelled(profile.baseline, level - delta, delta, guarantee, HORIZON)

    def _children(self) -> Sequence[np.random.SeedSequence]:
        return np.random.SeedSequence(self.seed).spawn(len(self.profile.strata))

    def _shared_alpha(self) -> dict[str, float]:
        """The alpha of each kind of alarm that is looked for."""
        kinds = dict(SHARES)
        if self.profile.epsilon is not None:
            del kinds["changed"]  # noise breaks the exchangeability it rests on
        if self.profile.baseline is None:
            del kinds["performance"]
        total = sum(kinds.values())
        return {kind: self.alpha * share / total for kind, share in kinds.items()}

    def _stream(self, s: int, seed: np.random.SeedSequence) -> Stream:
        profile = self.profile
        weights = np.array([feature.weight for feature in profile.features]) / len(profile.strata)
        material = self._levels["material"] * weights
        levels = {"material": material * (1 - FOR_THE_BAND)}
        noise, deltas = None, np.maximum(material * FOR_THE_BAND / band.TRIED, 1e-300)
        if "changed" in self._levels:
            levels["changed"] = self._levels["changed"] * weights
        if profile.epsilon is not None:
            deltas = deltas / 2
            d = len(profile.features)
            noise = [
                most_noise(profile.epsilon, d, _cells_upto(feature.coarse), deltas[j])
                for j, feature in enumerate(profile.features)
            ]
        return Stream(
            profile.features,
            profile.counts[s],
            levels,
            tolerance=self.tolerance,
            deltas=deltas,
            noise=noise,
            guarantee=self.guarantee,
            horizon=HORIZON,
            seed=seed,
        )

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms so far, in the order in which they were raised; the last 1,000 where "arl" gave more."""
        return tuple(self._alarms)

    @property
    def rows(self) -> int:
        """How many rows were taken."""
        return sum(stream.rows for stream in self._streams) + self.strangers

    def update(self, X: Any = None, scores: Any = None) -> list[Alarm]:
        """Take rows in their order of arrival, and what the model answered to them; returns the new alarms.

        Args:
            X: rows (n, width) with the columns of the profile, in any form that `Profile.fit`
                takes; or None for scores alone.
            scores: what the model answered to these rows, as in `Profile.fit`.

        Raises:
            DriftError: for columns that are missing or of another kind, or scores of another
                length. Nothing is taken.
            SignatureError: for rows that cannot be read.
        """
        cells, strata = self.encode(self._columns(X, scores))
        self.add(self.estimate({} if scores is None else self._named(scores)))
        self.count(cells, strata)
        return self.push(cells, strata)

    def _columns(self, X: Any, scores: Any) -> dict[str, Array]:
        """Columns by feature name, (n,) each."""
        if X is None and scores is None:
            raise DriftError("there are neither rows nor scores")
        columns = {} if X is None else self.profile.columns(X)
        if scores is not None:
            found = output_columns(self._named(scores))
            known = self._outputs()
            odd = sorted(set(found) - known)
            if odd:
                raise DriftError(f"the profile has no scores {odd}; it has {sorted(known)}")
            columns |= expand(found, self.profile.bases)
        return columns

    def _outputs(self) -> set[str]:
        return {source_of(f.name, self.profile.bases) for f in self.profile.features if f.output}

    def _named(self, scores: Any) -> dict[str, Array]:
        return name_outputs(scores, self._outputs())

    def estimate(self, answers: Mapping[str, Array]) -> Estimate | None:
        """What probabilities let one expect of these rows, if the profile can calibrate them."""
        calibration, shares = self.profile.calibration, answers.get("probabilities")
        if calibration is None or shares is None or not len(shares):
            return None
        if shares.shape[1:] != (len(calibration.classes),):
            raise DriftError(
                f"probabilities have shape {shares.shape}; the profile has "
                f"{len(calibration.classes)} classes"
            )
        whole = np.isfinite(shares).all(axis=1)  # one NaN would make every later estimate NaN
        if not whole.all():
            return self.estimate({name: array[whole] for name, array in answers.items()})
        label = answers.get("label")
        at = {name: i for i, name in enumerate(calibration.classes)}
        known = None if label is None else [at.get(str(name), -1) for name in as_texts(label)]
        predicted = shares.argmax(axis=1) if known is None or min(known) < 0 else np.array(known)
        return calibration.estimate(scores_of(shares), predicted)

    def add(self, estimate: Estimate | None) -> None:
        """Take rows into the label-free estimate."""
        if estimate is None:
            return
        with self._lock:
            earlier, lately = self._estimates
            if lately is not None and lately.rows >= LATELY:
                earlier, lately = lately, None
            self._estimates = [earlier, estimate if lately is None else lately + estimate]

    def estimated(self) -> Estimate | None:
        """The label-free estimate of the last 1,024 rows and up to as many before."""
        found = [estimate for estimate in self._estimates if estimate is not None]
        return None if not found else found[0] if len(found) == 1 else found[0] + found[1]

    def streams(self) -> list[tuple[str | None, Stream]]:
        """What is known of each stratum."""
        names = [None] if self.profile.stratum is None else list(self.profile.strata)
        return list(zip(names, self._streams, strict=True))

    def encode(self, columns: Mapping[str, Array]) -> tuple[Array, Array | None]:
        """Rows as cells, uint8 (n, d), and the number of each row's stratum."""
        n, strata = self.members(columns)
        cells = np.full((n, len(self.profile.features)), ABSENT, np.uint8)
        for j, feature in enumerate(self.profile.features):
            values = columns.get(feature.name)
            if values is not None:
                cells[:, j] = feature.cells(values)
        return cells, strata

    def members(self, columns: Mapping[str, Array]) -> tuple[int, Array | None]:
        """How many rows there are, and the number of each one's stratum: None without strata, -1 for an unknown one."""
        lengths = {*map(len, columns.values())}
        if len(lengths) > 1:
            raise DriftError(
                "rows and scores have different lengths: "
                f"{ ({n: len(c) for n, c in columns.items()}) }"
            )
        n, name = max(lengths, default=0), self.profile.stratum
        if name is None:
            return n, None
        if name not in columns:
            raise DriftError(
                f"the rows lack the column {name!r}, which tells the stratum", feature=name
            )
        return n, np.array(
            [self._strata.get(own, -1) for own in stratum_names(columns[name])], np.int64
        )

    def push(self, cells: Array, strata: Array | None) -> list[Alarm]:
        """Take encoded rows, in their order; returns the new alarms."""
        new: list[Alarm] = []
        for start in range(0, len(cells), ROWS):
            with self._lock:  # so that no state is taken between the two
                self.rank(
                    cells[start : start + ROWS],
                    None if strata is None else strata[start : start + ROWS],
                )
                new += self.settle()
        return new

    def rank(self, cells: Array, strata: Array | None) -> None:
        """The first half of `push`, for a few rows."""
        with self._lock:
            for s, stream in enumerate(self._streams):
                stream.rank(cells if strata is None else cells[strata == s])
            if strata is not None:
                self.strangers += int((strata < 0).sum())

    def settle(self) -> list[Alarm]:
        """The second half; returns the new alarms."""
        with self._lock:
            new = [
                self.alarm(s, crossing)
                for s, stream in enumerate(self._streams)
                for crossing in stream.settle()
            ]
            self._keep(new)
        return new

    def _keep(self, new: list[Alarm]) -> None:
        self._alarms = [*self._alarms, *new][-KEPT:] if new else self._alarms

    def count(self, cells: Array, strata: Array | None) -> None:
        """Count encoded rows that are not looked at further, or not yet."""
        with self._lock:
            for s, stream in enumerate(self._streams):
                stream.count(cells if strata is None else cells[strata == s])

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self._lock = threading.RLock()

    def alarm(self, s: int, crossing: Crossing) -> Alarm:
        """What is raised in a stratum."""
        profile, feature = self.profile, self.profile.features[crossing.feature]
        return Alarm(
            kind="changed" if crossing.kind == "changed" else "material",
            feature=feature.name,
            stratum=None if profile.stratum is None else profile.strata[s],
            statistic=STATISTICS[crossing.kind],
            p=crossing.p,
            level=self._levels[crossing.kind] * feature.weight / len(profile.strata),
            row=crossing.row,
            began=crossing.began,
            effect=findings.effect(
                crossing.recent, profile.counts[s, crossing.feature], ordered=feature.ordered
            ),
            guarantee=self.promise,
            assumptions=self.profile.assumptions(),
        )

    def update_labels(
        self, y: Any = None, predicted: Any = None, *, losses: Any = None
    ) -> list[Alarm]:
        """Take labels in the order in which they come, however late; returns the new alarms.

        Args:
            y: the true labels or numbers, (n,).
            predicted: what the model had said of these rows, (n,).
            losses: instead of both, the losses, (n,), from 0 to 1.

        Raises:
            DriftError: where the profile has no losses to compare with, and for labels that do not
                fit.
        """
        labelled = self.labelled
        if labelled is None or self.profile.baseline is None:
            raise DriftError(
                "the profile has no losses to compare with: fit it with labels= or losses="
            )
        if (losses is None) == (y is None) or (y is None) != (predicted is None):
            raise DriftError("pass labels and what was predicted, or losses")
        if predicted is not None and self._of_numbers():
            predicted = doubles(predicted, "predictions")
        found = (
            losses_of(y, predicted, self.profile.baseline.scale)
            if losses is None
            else check_losses(losses)
        )
        with self._lock:
            new = [self._loss_alarm(labelled, *crossing) for crossing in labelled.push(found)]
            self._keep(new)
        return new

    def _of_numbers(self) -> bool:
        """Whether the losses of the reference are distances of numbers, whatever type predictions come in now."""
        return any(
            f.output and f.name == "prediction" and f.kind == "number"
            for f in self.profile.features
        )

    def _loss_alarm(self, labelled: Labelled, row: int, began: int, p: float) -> Alarm:
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

    def test(self, X: Any = None, scores: Any = None) -> DriftReport:
        """Compare one batch with the reference by exact tests; what `update` has seen plays no part, nor changes.

        The probability that a batch exchangeable with the reference raises any alarm is at most
        `alpha`, for this one batch. The order of its rows does not matter, but where the reference
        was in the order of time they must be too.

        Args:
            X: rows, as in `update`.
            scores: as in `update`.

        Raises:
            DriftError, SignatureError: as `update`; also for no rows, and for a profile with
                `epsilon`.
        """
        answers = {} if scores is None else self._named(scores)
        return findings.of_batch(self, self._columns(X, scores), answers)

    def report(self) -> DriftReport:
        """What is known of the stream so far."""
        with self._lock:
            return findings.of_stream(self)

    @property
    def promise(self) -> str:
        """The guarantee in words."""
        if self.guarantee == "ever":
            return (
                "if rows are exchangeable with the reference, any alarm is ever raised with a "
                "probability of at most "
                f"{self.alpha:g}, however often one looks"
            )
        return (
            f"if rows are exchangeable with the reference, any alarm is raised within {HORIZON:,} "
            "rows with a "
            f"probability of at most {self.alpha:g}"
        )

    def state(self) -> bytes:
        """Everything that changes, to go on from with `Detector.resume`, bit for bit; its size does not grow."""
        with self._lock:
            self.settle()  # a Monitor may have ranked rows only
            arrays: dict[str, Array] = {}
            plain = []
            for i, part in enumerate(self._parts()):
                mine, rest = part.state()
                arrays |= {f"{i} {name}": array for name, array in mine.items()}
                plain.append(rest)
            about = {
                "profile": self.profile.digest,
                "alpha": self.alpha,
                "tolerance": self.tolerance,
                "guarantee": self.guarantee,
                "seed": self.seed,
                "strangers": self.strangers,
                "alarms": [asdict(alarm) for alarm in self._alarms],
                "parts": plain,
            }
            for name, estimate in zip(("earlier", "lately"), self._estimates, strict=True):
                if estimate is not None:
                    arrays |= {
                        f"{name} {field}": np.asarray(v) for field, v in vars(estimate).items()
                    }
        return archive.pack(SCHEMA, about, arrays)

    def _parts(self) -> list[Stream | Labelled]:
        return [*self._streams] if self.labelled is None else [*self._streams, self.labelled]

    @staticmethod
    def resume(profile: Profile, state: bytes) -> Detector:
        """Go on from the `state()` of a Detector of the same profile.

        Raises DriftError for any other.
        """
        about, arrays = archive.unpack(SCHEMA, state, "state of a Detector")
        if about.get("profile") != profile.digest:
            raise DriftError(
                "this is the state of a Detector of another profile; the counts would not mean the "
                "same"
            )
        try:
            return Detector._resumed(profile, about, arrays)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise DriftError(f"this is no state of a Detector: {error!r}") from error

    @staticmethod
    def _resumed(profile: Profile, about: dict[str, Any], arrays: dict[str, Array]) -> Detector:
        detector = Detector(
            profile, **{name: about[name] for name in ("alpha", "tolerance", "guarantee", "seed")}
        )
        detector.strangers = about["strangers"]
        for alarm in about["alarms"]:
            effect = None if alarm["effect"] is None else Effect(**alarm["effect"])
            assumptions = tuple(alarm["assumptions"])
            detector._alarms.append(Alarm(**alarm | {"effect": effect, "assumptions": assumptions}))
        for i, (part, plain) in enumerate(zip(detector._parts(), about["parts"], strict=True)):
            mine = f"{i} "
            part.restore(
                {n.removeprefix(mine): a for n, a in arrays.items() if n.startswith(mine)}, plain
            )
        detector._estimates = [_read_estimate(arrays, name) for name in ("earlier", "lately")]
        return detector

    @staticmethod
    def merge(profile: Profile, states: Sequence[bytes]) -> DriftReport:
        """One report from the states of several workers' Detectors of the same profile.

        Counts add up, and the evidence of "material" is averaged: an average of e-processes is one,
        so an alarm of the average has the level of an alarm of a single worker. "changed" and
        "performance" need their rows in one sequence and have no value here; give each worker alpha
        / workers for those, and read them there.

        Raises:
            DriftError: for no states, or those of different profiles or arguments.
        """
        if not states:
            raise DriftError("there are no states to merge")
        detectors = [Detector.resume(profile, state) for state in states]
        first = detectors[0]
        for other in detectors[1:]:
            for name in ("alpha", "tolerance", "guarantee"):
                if getattr(other, name) != getattr(first, name):
                    raise DriftError(
                        f"the states differ in {name}: {getattr(first, name)}, "
                        f"{getattr(other, name)}"
                    )
        return findings.of_workers(detectors)


def _read_estimate(arrays: dict[str, Array], name: str) -> Estimate | None:
    if f"{name} rows" not in arrays:
        return None
    found = {field: arrays[f"{name} {field}"] for field in Estimate.__dataclass_fields__}
    plain = {field: array.item() if array.ndim == 0 else array for field, array in found.items()}
    return Estimate(**plain)  # type: ignore[arg-type]


def _cells_upto(coarse: bytes) -> Array:
    """How many cells lie in the first 1, 2, ... 16 of the 16 groups."""
    return np.cumsum(np.bincount(np.frombuffer(coarse, np.uint8), minlength=band.GROUPS)).astype(
        np.float64
    )
