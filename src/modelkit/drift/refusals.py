"""The refusals: arguments that do not go together, and columns and signatures that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from numbers import Integral, Real
from typing import Any

from modelkit.drift.cells import Feature
from modelkit.drift.columns import ColumnsByName, length
from modelkit.drift.outputs import OF_CLASSES, PER_CLASS, class_names
from modelkit.drift.target import TARGET
from modelkit.drift.vectors import Basis
from modelkit.errors import UsageError
from modelkit.model.wrapper import check_is_model, has_several_versions
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec

FEWEST_ROWS = 50  # on either side
NAMES_SHOWN = 6  # names of columns in a message


def check_arguments(
    reference: Any, model: Any, scores: Any, *, labels: Any, losses: Any, positive: Any
) -> None:
    """Raise UsageError for arguments of `Profile.fit` that do not go together, TypeError for no Model."""
    if model is not None:
        check_is_model(model, "Profile.fit(model=)")
        if has_several_versions(model):
            raise UsageError(
                "a Profile describes the answers of one version, and a Rollout has several: pass the "
                "Model of one, as registry.load(name, version) gives it"
            )
    labelled = labels is not None or losses is not None
    if positive is not None and labels is None:
        raise UsageError("positive= is for estimates that labels= calibrates: pass both")
    if reference is None and (scores is not None or labelled):
        raise UsageError(
            "scores, labels and losses belong to the reference rows: pass reference= as well"
        )
    if model is not None and scores is not None:
        raise UsageError("pass the model or its scores, not both")


def check_tallied(
    scores: Any, labels: Any, losses: Any, segments: Sequence[str], *, ordered: bool
) -> None:
    """Raise UsageError for arguments of `Profile.fit` that need rows, where there is a tally."""
    given = {"scores": scores, "labels": labels, "losses": losses}
    odd = [name for name, value in given.items() if value is not None]
    odd += ["segments"] * bool(segments) + ["ordered"] * ordered
    if odd:
        raise UsageError(
            f"a reference that is a tally has counts and no rows: leave out {', '.join(odd)}"
        )


def check_enough(rows: int, what: str) -> None:
    """Raise UsageError for fewer rows than a side of a profile needs."""
    if rows < FEWEST_ROWS:
        raise UsageError(
            f"{what} has {rows} rows left; a profile needs {FEWEST_ROWS} on each side, and 5,000 to "
            "notice much. Without reference=, half of the rows or units of X are held out as one"
        )


def check_columns(train: ColumnsByName, held: ColumnsByName, stratum: str | None) -> None:
    """Raise UsageError unless both sides have the same columns, the stratum's, and enough rows."""
    if not train:
        raise UsageError("the rows have no columns")
    absent = sorted(set(train) - set(held))
    more = sorted(set(held) - set(train))
    if absent or more:
        raise UsageError(_differing(absent, more))
    if stratum is not None and (stratum not in train or train[stratum].ndim != 1):
        raise UsageError(
            f"there is no column {stratum!r} to name strata; there are {list(train)}, and "
            "'weekday' and 'hour' where time= names the column of times"
        )
    for what, side in (("X", train), ("reference", held)):
        check_enough(length(side), what)


def _differing(absent: list[str], more: list[str]) -> str:
    found = []
    if absent:
        found.append(f"the reference lacks the columns {first_names(absent)}")
    if more:
        found.append(f"the reference has the columns {first_names(more)}, which X does not have")
    return ", and ".join(found)


def check_same_columns(old: Any, new: Any) -> None:
    """Raise UsageError unless two profiles watch the same columns and outputs."""
    mine = old.layout.wanted()
    theirs = new.layout.wanted()
    same = (old.stratum, old.unit, old.time) == (new.stratum, new.unit, new.time)
    if mine == theirs and not same:
        raise UsageError(
            "the new reference differs in its stratum, unit or time; fit it with the same arguments"
        )
    if mine == theirs:
        return
    raise UsageError(
        f"the new reference has other columns: it lacks {sorted(mine - theirs)} and has others, "
        f"{sorted(theirs - mine)}; a model with other columns needs a Detector of its own"
    )


def check_segments(names: Sequence[str], stratum: str | None, unit: str | None) -> None:
    """Raise UsageError for segments with arguments of `Profile.fit` that they do not go with."""
    if isinstance(names, str):
        raise UsageError(f"segments is a sequence of columns; pass ({names!r},)")
    if names and stratum is not None:
        raise UsageError(
            f"segments and stratum do not go together: the alarms of a stratum of {stratum!r} say "
            "already where the change is"
        )
    if names and unit is not None:
        raise UsageError(
            "segments and unit do not go together: rows in segments are tested one by one, and with "
            f"unit={unit!r} they cannot be; leave one out"
        )


def check_names(made: Sequence[Feature], labels: Any, *asked: Mapping[str, Any]) -> None:
    """Raise UsageError for two features of one name, and for asked names that no feature has.

    `labels`, where there are some, make a feature of their own.
    """
    names = [*(feature.name for feature in made), *[TARGET] * (labels is not None)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"columns and outputs share the names {twice}; rename the columns")
    sources = [name.split(": ")[0] for name in names]
    sources += [OF_CLASSES for name in names if name.startswith(PER_CLASS)]
    unknown = sorted(set().union(*asked) - {*names, *sources})
    if unknown:
        raise UsageError(
            f"text or importance names {unknown}, which is not a feature; there are {names}"
        )


def check_length(columns: ColumnsByName, rows: int, what: str) -> None:
    """Raise UsageError unless every column has this number of rows."""
    odd = {name: len(column) for name, column in columns.items() if len(column) != rows}
    if odd:
        raise UsageError(
            f"{what} must have one entry for each of the {rows} reference rows; got {odd}"
        )


def check_signature(
    sources: Sequence[str],
    outputs: set[str],
    bases: Mapping[str, Basis],
    classes: Sequence[str],
    signature: Signature,
) -> None:
    """Raise UsageError unless a profile's columns are those of a model, and its outputs among them.

    Embeddings have the same width in both, and classes the same names in the same order, where the
    profile has any.
    """
    _check_sources(sources, signature)
    given = {"confidence": "probabilities"}
    heads = {name.partition("[")[0] for name in outputs}
    strange = [
        head for head in sorted(heads) if given.get(head, head) not in signature.output_names
    ]
    if strange:
        raise UsageError(
            f"the profile has the scores {strange}; the model gives {list(signature.output_names)}"
        )
    theirs = class_names(signature)
    if classes and tuple(classes) != theirs:
        raise UsageError(
            f"the profile is of a model with the classes {first_names(classes)}, and this one "
            f"has {first_names(theirs)}: fit the profile with model= of this one"
        )
    for spec in signature.inputs + signature.outputs:
        if spec.name in bases:
            _check_width(bases[spec.name], spec)


def _check_sources(sources: Sequence[str], signature: Signature) -> None:
    known: list[str] = []
    for spec in signature.inputs:
        known += [column.name for column in spec.columns] or [spec.name]
    absent = [name for name in known if name not in sources]
    others = [name for name in sources if name not in known]
    if not absent and not others:
        return
    differences = []
    if absent:
        differences.append(f"it lacks {first_names(absent)}")
    if others:
        differences.append(f"it has {first_names(others)}, which the model does not take")
    raise UsageError(
        "the profile and the model's signature differ in the columns: "
        f"{', and '.join(differences)}; fit the profile on rows as the model takes them, or with "
        "model=",
        columns=sorted(absent + others),
    )


def _check_width(basis: Basis, spec: TensorSpec) -> None:
    width = spec.shape[-1] if spec.shape else None
    if isinstance(width, int) and width != len(basis.mean):
        raise UsageError(
            f"the profile knows {spec.name!r} as vectors of {len(basis.mean)}, and the model's "
            f"have {width}: fit it on whole ones",
            feature=spec.name,
        )


def first_names(names: Sequence[str]) -> str:
    """The first of many names, in words."""
    more = len(names) - NAMES_SHOWN
    shown = f"{[*names[:NAMES_SHOWN]]}"
    return f"{shown} and {more:,} more" if more > 0 else shown


def check_history(history: float) -> int:
    """The bytes of a history. Raises UsageError for what is no number of bytes."""
    if not isinstance(history, Real) or not 0 <= history < inf:
        raise UsageError(f"history is in bytes, 0 or more; got {history!r}")
    return int(history)


def check_seed(seed: int) -> int:
    """A seed as it is. Raises UsageError for what is none."""
    if not isinstance(seed, Integral) or seed < 0:
        raise UsageError(f"seed is a whole number, 0 or more; got {seed!r}")
    return int(seed)
