"""The past in a few kilobytes: cells from training rows, counts from held-out ones, and no row of either."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import fitting
from modelkit.drift.archive import pack, unpack
from modelkit.drift.cells import CELLS, Feature, read_columns
from modelkit.drift.labelfree import Calibration
from modelkit.drift.outputs import Baseline, name_outputs, output_columns
from modelkit.drift.privacy import noisy
from modelkit.drift.vectors import Basis, expand, source_of
from modelkit.embedding.verbs import is_encoder
from modelkit.errors import DriftError
from modelkit.model import Model
from modelkit.npz import MEDIA_TYPE
from modelkit.recipe import TEXT
from modelkit.signature import Signature

PROFILE = "profile"  # of the attachment
SCHEMA = "modelkit.profile/1"
SHOWN = 6  # names of columns in a message


@final
@dataclass(frozen=True, eq=False)
class Profile:
    """What rows were like: for each feature its cells, and how many held-out rows fell into each.

    `counts` is int64 (strata, features, 67); there is one stratum, "", where none were asked for.
    `bases` belong to the embeddings among the columns. `rows` and `train_rows` are how many rows
    the counts and the cells are from. `ordered` says that the reference was given in the order of
    time, so that dependence between rows was looked for; `duplicates` is how many rows of the
    reference equal an earlier one; `epsilon` is that of differential privacy; `baseline` has the
    losses of the reference and `calibration` what they say of probabilities. Make one with
    `Profile.fit`.
    """

    features: tuple[Feature, ...]
    counts: Array
    strata: tuple[str, ...]
    stratum: str | None
    bases: dict[str, Basis]
    rows: int
    train_rows: int
    ordered: bool
    duplicates: int = 0
    epsilon: float | None = None
    baseline: Baseline | None = None
    calibration: Calibration | None = None

    @staticmethod
    def fit(  # noqa: PLR0913 - all but one by keyword
        X: Any,
        *,
        reference: Any = None,
        model: Model | None = None,
        scores: Any = None,
        labels: Any = None,
        losses: Any = None,
        ordered: bool = False,
        stratum: str | None = None,
        text: Sequence[str] = (),
        importance: Mapping[str, float] | None = None,
        epsilon: float | None = None,
        seed: int = 0,
    ) -> Profile:
        """Describe training rows and held-out rows.

        The cells come from X and the counts from `reference`. The two must not share rows: the
        false-alarm rate of a Detector rests on it.

        Args:
            X: training rows (n, width): an array, a dict of columns, a pandas or polars frame, an
                Arrow table or records. A column of a dict may be (n, d): an embedding.
            reference: held-out rows of the same columns, 5,000 or more where possible. Without it
                half of X is held out: the second half where rows are `ordered`, a random half
                elsewhere.
            model: a Model; what it answers to both is described too, and its signature names the
                columns.
            scores: instead of a model, what it answered to `reference`: predictions or labels (n,),
                probabilities (n, classes), embeddings (n, d), or a dict of outputs by name, as
                `Model.run` gives it. A fifth of them makes their cells, the others are counted.
            labels: the true labels of `reference`, (n,). With the model's answers they give the
                loss that later losses are compared with, and calibrate label-free estimation.
            losses: instead of labels, the losses themselves, (n,), from 0 to 1.
            ordered: whether `reference` is in the order of time. Dependence between neighbouring
                rows is then estimated, and rows are taken so far apart that they may pass as
                independent.
            stratum: a column whose values are each compared with themselves: an hour, a weekday, a
                tenant. At most 64.
            text: columns of strings of which the length counts, and not the words; that of a text
                encoder is one.
            importance: how much of alpha a column or an output gets, relative to others; 1 where it
                is not named.
            epsilon: for differential privacy of the counts: noise is added to them, for all
                features together within this budget. The cells, which X makes, are not private, nor
                are the names of strata. It needs `reference`, and does not go with `scores`,
                `labels`, `losses` or `ordered`.
            seed: of the random half, and of the centroids of embeddings.

        Raises:
            DriftError: for columns that differ, fewer than 50 rows on a side, or arguments that do
                not go together.
            SignatureError: for rows that cannot be read.
        """
        labelled = labels is not None or losses is not None
        fitting.check_arguments(
            reference, model, scores, epsilon, labelled=labelled, ordered=ordered
        )
        train, held, answers = fitting.read(X, reference, model, ordered=ordered, seed=seed)
        fitting.check_columns(train, held, stratum)
        weights = fitting.Weights(importance or {})
        made: list[Feature] = []
        bases: dict[str, Basis] = {}
        of_encoder = (TEXT,) if model is not None and is_encoder(model) else ()
        kinds = dict.fromkeys([*text, *of_encoder], "text")
        fitting.fit_columns(train, kinds, weights, seed, made, bases, without=stratum)
        observed: dict[str, Array] = {}
        columns = expand(held, bases)
        served: Mapping[str, Array] = {}
        if answers is not None:
            fitting.fit_columns(
                output_columns(answers[0]), {}, weights, seed, made, bases, output=True
            )
            served = answers[1]
            columns |= expand(output_columns(served), bases)
        elif scores is not None:
            served = name_outputs(scores)
            fitting.check_length(served, fitting.length(held), "scores")
            mine, others = fitting.fifth(fitting.length(held), ordered=ordered)
            of_outputs = output_columns(served)
            before = len(made)
            fitting.fit_columns(
                {n: c[mine] for n, c in of_outputs.items()},
                {},
                weights,
                seed,
                made,
                bases,
                output=True,
            )
            observed = {f.name: others for f in made[before:]}
            columns |= expand({n: c[others] for n, c in of_outputs.items()}, bases)
        fitting.check_names(made, kinds, importance or {})
        strata, member = fitting.strata_of(held, stratum)
        features, counts = fitting.count(
            made, columns, member, observed, len(strata), ordered=ordered
        )
        rows = fitting.length(held)
        profile = Profile(
            weights.shared(features),
            counts,
            strata,
            stratum,
            bases,
            rows,
            fitting.length(train),
            ordered,
        )
        if epsilon is not None:
            counts = noisy(counts, epsilon)
            return replace(profile, counts=counts, rows=int(counts[:, 0].sum()), epsilon=epsilon)
        profile = replace(profile, duplicates=fitting.duplicates(features, columns))
        if not labelled:
            return profile
        baseline, calibration = fitting.labelled(
            served, labels, losses, model, rows, seed, ordered=ordered
        )
        return replace(profile, baseline=baseline, calibration=calibration)

    @property
    def digest(self) -> str:
        """The sha256 of the profile's bytes, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def merge(self, other: Profile) -> Profile:
        """The profile of both references together, for one fitted with the same X and another reference.

        Raises DriftError where cells, strata or strides differ, for then the counts are not of the
        same things.
        """
        if self.epsilon is not None:
            raise DriftError(
                "private counts do not merge: their noise would add up; fit one profile on all rows"
            )
        for what in ("features", "strata", "stratum", "epsilon", "ordered"):
            if getattr(self, what) != getattr(other, what):
                raise DriftError(
                    f"the profiles differ in their {what}; fit both with the same X, seed and "
                    "arguments"
                )
        same = all(basis.same(other.bases[name]) for name, basis in self.bases.items())
        if not same or (self.baseline is None) != (other.baseline is None):
            raise DriftError(
                "the profiles differ in their embeddings or labels; fit both with the same X and "
                "seed"
            )
        baseline = None if self.baseline is None else self.baseline.joined(other.baseline)
        if self.calibration is not None or other.calibration is not None:
            raise DriftError(
                "calibrations do not merge: fit the profile once on all labelled rows, or pass "
                "losses="
            )
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in ("counts", "rows", "duplicates")
        }
        return replace(self, baseline=baseline, **sums)

    def assumptions(self) -> tuple[str, ...]:
        """What a guarantee rests on, and what was found of it."""
        apart = max(feature.stride for feature in self.features)
        said = [
            f"reference in the order of time: values up to {apart} rows apart are dependent, and "
            "only those further "
            f"apart are used"
            if apart > 1
            else "reference in the order of time: no dependence between neighbouring rows was found"
            if self.ordered
            else "reference in no known order: dependence between rows was not looked for (ordered=True does)"
        ]
        fewest = int(self.counts.sum(axis=2).min())
        if fewest < 5000:
            said.append(
                f"reference of {fewest:,} rows where it is smallest: small changes take 5,000 to "
                "be noticed"
            )
        if self.epsilon is not None:
            said.append(
                f"counts are differentially private (epsilon {self.epsilon:g}): only material "
                "changes show"
            )
        return tuple(said)

    def columns(self, X: Any) -> dict[str, Array]:
        """The columns of the caller's rows that this profile knows, by name; embeddings as numbers.

        Raises DriftError where one is missing, with the nearest name.
        """
        found = read_columns(X)
        wanted = self.sources()
        absent = [name for name in wanted if name not in found]
        if absent:
            raise DriftError(_absent(absent, list(found)), feature=absent[0])
        return expand({name: found[name] for name in wanted}, self.bases)

    def sources(self) -> list[str]:
        """The columns that rows must have: those of the inputs, and the one that tells strata."""
        names = dict.fromkeys(source_of(f.name, self.bases) for f in self.features if not f.output)
        return [*names] if self.stratum is None else [*names, self.stratum]

    def wanted(self) -> frozenset[str]:
        """The columns and outputs that are looked at, before embeddings are made into numbers."""
        return frozenset([*self.sources(), *(source_of(f.name, self.bases) for f in self.features)])

    def check(self, signature: Signature) -> None:
        """Raise DriftError unless the columns are those of a model, and the outputs among its own."""
        known = [
            name
            for spec in signature.inputs
            for name in [c.name for c in spec.columns] or [spec.name]
        ]
        own = self.sources()
        lacking = [name for name in known if name not in own]
        others = [name for name in own if name not in known]
        if lacking or others:
            differences = []
            if lacking:
                differences.append(f"it lacks {_some(lacking)}")
            if others:
                differences.append(f"it has {_some(others)}, which the model does not take")
            raise DriftError(
                "the profile and the model's signature differ in the columns: "
                f"{', and '.join(differences)}; fit the "
                f"profile on rows as the model takes them, or with model=",
                columns=sorted(lacking + others),
            )
        given = {"confidence": "probabilities"}
        heads = {source_of(f.name, self.bases).partition("[")[0] for f in self.features if f.output}
        strange = sorted(
            head for head in heads if given.get(head, head) not in signature.output_names
        )
        if strange:
            raise DriftError(
                f"the profile has the scores {strange}; the model gives "
                f"{list(signature.output_names)}"
            )
        for spec in signature.inputs + signature.outputs:
            basis, width = self.bases.get(spec.name), spec.shape[-1] if spec.shape else None
            if basis is not None and isinstance(width, int) and width != len(basis.mean):
                raise DriftError(
                    f"the profile knows {spec.name!r} as vectors of {len(basis.mean)}, and the "
                    f"model's have {width}: "
                    f"fit it on whole ones",
                    feature=spec.name,
                )

    def to_attachment(self, signature: Signature | None = None) -> tuple[str, str, bytes]:
        """Name, media type and bytes, as a package keeps them.

        Raises DriftError where `signature` differs.
        """
        if signature is not None:
            self.check(signature)
        return PROFILE, MEDIA_TYPE, self.to_bytes()

    def to_bytes(self) -> bytes:
        """The profile as an npz of plain arrays; equal profiles give equal bytes."""
        about = {
            "features": [
                f.plain() | {"coarse": None, "edges": len(f.edges)} for f in self.features
            ],
            "strata": self.strata,
            "stratum": self.stratum,
            "bases": {
                name: basis.scale for name, basis in self.bases.items()
            },  # sorted, as all of these are
            "rows": self.rows,
            "train_rows": self.train_rows,
            "ordered": self.ordered,
            "duplicates": self.duplicates,
            "epsilon": self.epsilon,
            "baseline": None if self.baseline is None else asdict(self.baseline),
            "classes": None if self.calibration is None else self.calibration.classes,
        }
        arrays: dict[str, Array] = {
            "edges": np.array([edge for f in self.features for edge in f.edges], np.float64),
            "coarse": np.frombuffer(b"".join(f.coarse for f in self.features), np.uint8),
            "counts": _narrow(self.counts),
        }
        for i, (_, basis) in enumerate(sorted(self.bases.items())):
            arrays |= {
                f"mean{i}": basis.mean,
                f"axes{i}": basis.components,
                f"centroids{i}": basis.centroids,
            }
        if self.calibration is not None:
            arrays |= self.calibration.arrays()
        return pack(SCHEMA, about, arrays)

    @staticmethod
    def from_bytes(data: bytes | memoryview) -> Profile:
        """The inverse of `to_bytes`. Raises DriftError for anything else."""
        about, arrays = unpack(SCHEMA, data, "profile")
        try:
            return _decode(about, arrays)
        except DriftError:
            raise
        except Exception as error:
            raise DriftError(f"this is no profile: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Profile.from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        names = ", ".join(f.name for f in self.features[:4]) + (
            ", ..." if len(self.features) > 4 else ""
        )
        strata = (
            f", {len(self.strata)} strata by {self.stratum}" if self.stratum is not None else ""
        )
        return (
            f"<Profile of {len(self.features)} features ({names}) from {self.rows:,} rows{strata}>"
        )


def _narrow(counts: Array) -> Array:
    return counts.astype(np.uint32) if counts.max(initial=0) < 1 << 32 else counts


def _decode(about: dict[str, Any], arrays: dict[str, Array]) -> Profile:
    coarse, edges, at = arrays["coarse"].reshape(-1, CELLS), arrays["edges"].tolist(), 0
    features = []
    for fields, groups in zip(about["features"], coarse, strict=True):
        mine = edges[at : at + fields["edges"]]
        at += fields["edges"]
        lists = {name: tuple(fields[name]) for name in ("categories", "known")}
        features.append(
            Feature(**fields | lists | {"edges": tuple(mine), "coarse": groups.tobytes()})
        )
    bases = {
        name: Basis(arrays[f"mean{i}"], arrays[f"axes{i}"], arrays[f"centroids{i}"], scale)
        for i, (name, scale) in enumerate(about["bases"].items())
    }
    baseline = None if about["baseline"] is None else Baseline(**about["baseline"])
    counts = arrays["counts"].astype(np.int64)
    if (
        counts.shape != (len(about["strata"]), len(features), CELLS)
        or counts.min() < 0
        or at != len(edges)
    ):
        raise DriftError(
            f"this is no profile: counts have the shape {counts.shape}, or edges are left over"
        )
    odd = [feature.name for feature in features if not feature.whole]
    if odd:
        raise DriftError(f"this is no profile: the cells of {odd} are none")
    return Profile(
        features=tuple(features),
        counts=counts,
        strata=tuple(about["strata"]),
        bases=bases,
        baseline=baseline,
        calibration=None
        if about["classes"] is None
        else Calibration.read(about["classes"], arrays),
        **{
            name: about[name]
            for name in ("stratum", "rows", "train_rows", "ordered", "duplicates", "epsilon")
        },
    )


def _some(names: list[str]) -> str:
    """The first of many names."""
    more = len(names) - SHOWN
    return f"{names[:SHOWN]}" + (f" and {more:,} more" if more > 0 else "")


def _absent(absent: list[str], found: list[str]) -> str:
    from difflib import get_close_matches

    near = {name: get_close_matches(name, found, 1) for name in absent}
    hints = [
        f"{name!r}" + (f" (is it {close[0]!r}?)" if close else "") for name, close in near.items()
    ]
    return f"the rows lack the columns {', '.join(hints)}; there are {found}"
