"""InputChecks: a Model that looks at rows before they are answered, and flags or refuses odd ones.

The range of a column is what the reference rows show, widened. The novelty of a row is its squared Mahalanobis
distance (P. C. Mahalanobis, 1936) from one half of the reference rows, after each column is centred, scaled and
put through arcsinh, which shortens long tails. Its limit is a quantile over the other half (split conformal
prediction: Vovk, Gammerman and Shafer, 2005). Black-box attacks, such as HopSkipJump (Chen, Jordan and Wainwright,
2020), send many rows that differ by little. Probing counts these for each client: it cuts the space of columns
into a grid, and counts how many rows fall into one cell, by hashes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from math import ceil, isfinite
from numbers import Real
from types import MappingProxyType
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.monitor import packaged
from modelkit.drift.profile import Profile
from modelkit.errors import AccessDenied, SignatureError, UsageError
from modelkit.events import Flagged, emit
from modelkit.model.access import principal
from modelkit.model.identity import identity_of
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import Wrapper, check_is_model, has_several_versions, passed_by_runs
from modelkit.serving.guarded import check_outside
from modelkit.signature.signature import Feeds, coerce_as
from modelkit.signature.spec import check_ranges

# The checks in their order, and what each says of the first value or row that it refuses.
CHECKS = {
    "probing": "more than {0._probing} rows of one client differ by little within {0._window:g} s",
    "range": "column {1!r}: {2:g} in row {3} is outside of the range from {4:g} to {5:g}",
    "novelty": "column {1!r}: {2:g} in row {3} does not fit the other columns",
}
NUMBERS = ("flo", "int", "uin", "boo")  # how their dtypes begin
MOST = np.finfo(np.float64).max
QUARTILES = (0, 0.25, 0.5, 0.75, 1)
WIDTHS = 2  # widths of what was seen, on each side
RIDGE = 1e-3  # of the mean variance, so that columns may be constant, or sums of others
FARTHEST = 1e3  # of scaled numbers, so that their squares are finite
GRID = 0.5  # the width of a cell, of scaled numbers: rows in one cell differ by little
SHARE = 0.3  # of a client's rows; of real rows in random order, a fifth at most were in one cell
MOST_HASHES = 1 << 16  # about 5 MB
THIN = 0.02  # of the rows of a Profile


@final
class InputChecks(Wrapper):
    """A Model that answers as the one it wraps does, and flags rows that are odd, or refuses them.

        checked = mk.InputChecks(model, X_holdout, refuse={"range"})
        checked.predict(X)
        checked.counts  # such as {"rows": 120, "range": 0, "novelty": 1, "probing": 0, "failures": 0}

    Three checks look at the named columns of numbers. "range" finds a number outside of the range
    of its column, and infinities. "novelty" finds a row that is unlike the reference rows as a whole,
    such as a small flat with ten rooms. "probing" finds rows of a client that sends many which
    differ by little, as an attack does that searches for another answer. The client is the
    principal, or the `key` of the call where there is none. What is flagged is answered as ever,
    counted in `counts` and emitted as `events.Flagged`. Categories are left to the signature, which
    refuses unknown ones where it names them.

    It stands around a Rollout, and inside of a Guarded. Each process counts the rows of clients
    apart. An error of a check itself is counted under "failures", and reaches the caller only where
    a check refuses. Two threads that count at one moment may count once.

    Args:
        model: the Model, whose rows have named columns of numbers.
        reference: what is usual: rows that the model was not trained on, (n, columns), or a Profile; by
            default the Profile in the package. A Profile stores no rows, so with one there is no
            check of novelty, and a column of few different values lacks a range. Rows are not kept.
        ranges: the least and the largest number of columns, by name. Without it, a range is what was
            seen, widened on each side by twice its width.
        refuse: the checks that refuse a call, of "range", "novelty" and "probing"; the others flag.
        rate: the share of rows like the reference that "novelty" flags, on average at most.
        probing: how many different rows that agree in half of their columns, up to half a standard
            deviation, a client may send within a window; it may send more where these are less than
            30 % of its rows, or twice what chance gives.
        window: in seconds.
        clock: gives seconds, for windows.

    Attributes:
        counts: how many rows were looked at, how many each check flagged, and errors of the checks.

    Raises:
        UsageError: if there is neither a reference nor a Profile, or too few rows for the rate; for a
            model without columns of numbers, other names than there are, and a Guarded inside.
        SignatureError: for reference rows that do not fit; and by every verb for rows that are refused.
        AccessDenied: by every verb, for probing that is refused.
    """

    def __init__(
        self,
        model: Model,
        reference: Any = None,
        *,
        ranges: Mapping[str, tuple[float, float]] = MappingProxyType({}),
        refuse: Collection[str] = (),
        rate: float = 0.01,
        probing: int = 50,
        window: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_is_model(model, "InputChecks")
        check_outside(model, "InputChecks")
        super().__init__(model)
        specs = [
            spec for spec in model.signature.inputs if spec.columns and spec.dtype[:3] in NUMBERS
        ]
        self._tensors = [spec.name for spec in specs]
        self._columns = [column.name for spec in specs for column in spec.columns]
        _check_arguments(self._columns, ranges, refuse, probing, window)
        # What takes coerced rows gets those that were checked; a Meter, say, or a Rollout wants the call.
        self._runs = passed_by_runs(model) is None and not has_several_versions(model)
        self._refuse = frozenset(refuse)
        self._probing, self._window, self._clock = probing, window, clock
        self._hashes, self._window_began = Counter[int](), clock()
        self.counts = dict.fromkeys(("rows", *CHECKS, "failures"), 0)
        self._fit(packaged(model) if reference is None else reference, ranges, rate)

    @property
    def unobserved(self) -> Model:
        """The Model that answers unchecked, since the rows that an explanation tries are not calls."""
        return self._inner.unobserved

    def _around(self, inner: Model) -> Model:
        if inner is self._inner:
            return self
        checks = object.__new__(InputChecks)
        Wrapper.__init__(checks, inner)
        checks.__dict__ = self.__dict__  # so that all versions of a Rollout count together
        return checks

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        feeds = self._check(X, call)
        inner = self._inner
        return inner._run(feeds, outputs, call) if feeds else inner._call(X, outputs, call)

    def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Awaitable[Outputs]:
        feeds = self._check(X, call)
        inner = self._inner
        return inner._arun(feeds, outputs, call) if feeds else inner._acall(X, outputs, call)

    def _check(self, X: object, call: Call) -> Feeds | None:
        """Run the three checks; gives the coerced rows where the Model inside takes them.

        Raises SignatureError and AccessDenied for what is refused.
        """
        try:
            feeds = self.signature.coerce(X)
        except SignatureError:  # as the call will, unless another version of a Rollout answers it
            return None
        odd: list[tuple[str, Array]] = []
        try:
            numbers = self._numbers(feeds)
            odd = [*self._found(numbers, principal() or call.key)]
        except Exception:
            self.counts["failures"] += 1
            if self._refuse:
                raise
        for check, found in odd:
            self._report(check, found, numbers)
        return feeds if self._runs else None

    def _report(self, check: str, odd: Array, numbers: Array) -> None:
        """Count, emit and maybe refuse what a check flags, where `odd` is true, (n, d); of probing (n, 1)."""
        rows, columns = (np.flatnonzero(odd.any(axis=axis)).tolist() for axis in (1, 0))
        row, first = rows[0], odd[rows[0]].argmax()
        probing, refused, who = check == "probing", check in self._refuse, principal()
        names = () if probing else tuple([self._columns[place] for place in columns])
        about = identity_of(self)
        self.counts[check] += len(rows)
        emit(Flagged(*about[:2], check, len(rows), names, who, refused))
        if refused:
            column, value = self._columns[first], numbers[row, first]
            why = CHECKS[check].format(self, column, value, row, *self._ends[:, first])
            kind = AccessDenied if probing else SignatureError
            raise kind(why, rows=tuple(rows), principal=who, action="predict", about=about)

    def _numbers(self, feeds: Feeds) -> Array:
        return np.concatenate([feeds[name] for name in self._tensors], axis=1, dtype=np.float64)

    def _fit(self, reference: Any, ranges: Mapping[str, tuple[float, float]], rate: float) -> None:
        """Keep what is usual in the rows of a reference, or in a Profile of them, which says nothing of novelty."""
        self._mean, self._precision = 0.0, np.eye(len(self._columns))
        self._novelty_limit = np.inf
        if isinstance(reference, Profile):
            self._fit_ranges(rows_of(reference, self._columns), ranges)
        else:
            rows = self._numbers(coerce_as(self.signature, reference, "reference"))
            self._fit_ranges(rows, ranges)
            self._fit_novelty(self._scaled(rows), rate)

    @np.errstate(over="ignore", invalid="ignore")
    def _fit_ranges(self, rows: Array, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Keep the range, the median and the spread of each column of rows, (n, d)."""
        rows = np.where(np.isfinite(rows), rows, np.nan)
        rows[:, np.isnan(rows).all(axis=0)] = 0  # any number is odd where there never was one
        low, first, self._center, third, high = np.nanquantile(rows, QUARTILES, axis=0)
        width = high - low
        self._spread = (third - first) / 1.35 + width / 100 + (width == 0)
        ends = np.array([low - WIDTHS * width, high + WIDTHS * width])
        for name, own in ranges.items():
            ends[:, self._columns.index(name)] = own
        self._ends = ends.clip(-MOST, MOST)  # so that infinities are outside
        # If columns were independent, rows would share a cell of half of the columns as often as they lie near
        # its medians. Columns that depend on each other make it more often: hence twice.
        common = (np.abs(self._scaled(rows)) < GRID / 2).mean(axis=0)
        self._allowed_shares = [max(SHARE, 2 * float(common[half::2].prod())) for half in (0, 1)]

    @np.errstate(over="ignore", invalid="ignore")
    def _scaled(self, numbers: Array) -> Array:
        """Numbers in spreads from their median, through arcsinh, (n, d); 0 where missing, and finite."""
        scaled: Array = np.arcsinh((numbers - self._center) / self._spread)
        if not isfinite(scaled.sum()):  # of finite numbers it is at most 710
            np.nan_to_num(scaled, copy=False, posinf=FARTHEST, neginf=-FARTHEST)
        return scaled

    def _fit_novelty(self, scaled: Array, rate: float) -> None:
        """Keep mean and precision of one half of the rows, and the distance that a share `rate` of the others pass."""
        first, others = scaled[::2], scaled[1::2]
        place = (1 - rate) * (len(others) + 1) if isinstance(rate, Real) else 0
        if not 0 < place <= len(others):
            raise UsageError(
                f"rate is a share of rows below 1, and of a reference of {len(scaled):,} rows at least about "
                f"{2 / max(len(scaled), 2):.2g}; got {rate!r}: pass more rows, or another rate"
            )
        covariance = np.atleast_2d(np.cov(first.T))
        ridge = RIDGE * covariance.diagonal().mean() or 1.0
        self._mean = first.mean(axis=0)
        self._precision = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
        self._novelty_limit = np.sort(self._contributions(others).sum(axis=1))[ceil(place) - 1]

    def _contributions(self, scaled: Array) -> Array:
        """What each column adds to the squared distance of each row, (n, d)."""
        apart = scaled - self._mean
        return np.multiply(apart, apart @ self._precision)

    def _found(self, numbers: Array, who: str | None) -> Iterator[tuple[str, Array]]:
        """Each check that flags something, and what, in the order of CHECKS: bool (n, d), and (n, 1) of probing."""
        self.counts["rows"] += len(numbers)
        scaled = self._scaled(numbers)
        low, high = self._ends
        parts = self._contributions(scaled)
        novel = parts.sum(axis=1, keepdims=True) > self._novelty_limit
        if novel.any():
            novel = novel & (parts == parts.max(axis=1, keepdims=True))
        found = self._probes(scaled, who), (numbers < low) | (numbers > high), novel
        return ((check, odd) for check, odd in zip(CHECKS, found, strict=True) if odd.any())

    def _probes(self, scaled: Array, who: str | None) -> Array:
        """Count the rows, (n, d), of a client, and say which are in a cell with too many others, bool (n, 1).

        The columns are two halves, every second one, with a grid each. What is counted are hashes, under the
        random key of this process: of a whole row, so that one sent again counts once, and of its two cells.
        """
        counts, now, sent = self._hashes, self._clock(), hash(who)
        if now - self._window_began >= self._window:
            counts.clear()
            self._window_began = now
        cells = np.rint(scaled / GRID).astype(np.int16)
        whole = _hashes(scaled, sent)
        halves = [_hashes(cells[:, half::2], sent + half + 1) for half in (0, 1)]
        new = {each: place for place, each in enumerate(whole) if each not in counts}
        counts.update([*new, *[half[place] for half in halves for place in new.values()]])
        counts[sent] += len(new)
        first, second = (max(self._probing, share * counts[sent]) for share in self._allowed_shares)
        probes = [counts[a] > first or counts[b] > second for a, b in zip(*halves, strict=True)]
        if len(counts) > MOST_HASHES:
            counts.clear()
        return np.array(probes, bool)[:, None]


def _check_arguments(
    columns: Collection[str],
    ranges: Mapping[str, tuple[float, float]],
    refuse: Collection[str],
    probing: int,
    window: float,
) -> None:
    """Raise UsageError for a model without columns of numbers, and for arguments that cannot be meant."""
    check_ranges(ranges)
    numbers = isinstance(probing, Real) and isinstance(window, Real)
    known = {*ranges} <= {*columns} and {*refuse} <= {*CHECKS}
    if not (columns and numbers and known and probing >= 0 < window):
        raise UsageError(
            f"InputChecks looks at named columns of numbers, here {columns}; ranges has a least and a "
            f"largest number of some of them, refuse is some of {[*CHECKS]}, probing 0 or more, and window "
            f"above 0; got {dict(ranges)}, {refuse!r}, {probing!r} and {window!r}"
        )


def _hashes(rows: Array, salt: int) -> list[int]:
    """A hash of the bytes of each row, (n, d), and of a salt."""
    data, width = rows.tobytes(), rows.shape[1] * rows.itemsize
    return [hash(data[at * width : (at + 1) * width]) ^ salt for at in range(len(rows))]


def rows_of(profile: Profile, names: list[str]) -> Array:
    """Rows in place of those that a Profile is made of, float64 (5, d): quartiles of the edges of its cells.

    A Profile does not say how far numbers go beyond the outermost edges. Where many do, as in a column of few
    values, or where the Profile lacks the column, its range is all numbers.
    """
    known = {
        feature.name: np.quantile(feature.edges, QUARTILES)
        for feature, counts in zip(profile.features, profile.counts.sum(axis=0), strict=True)
        if feature.edges and max(counts[1], counts[len(feature.edges) + 1]) <= THIN * profile.rows
    }
    unknown = np.array([-1, 0, 0, 0, 1]) * (MOST / 9)
    return np.array([known.get(name, unknown) for name in names]).T
