"""Packages in Dask: each partition of a frame is scored as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from modelkit.drift.counts import Tally
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.errors import importing
from modelkit.integrations.scorer.columns import check_known_widths
from modelkit.integrations.scorer.refusals import check_engine_rows
from modelkit.integrations.scorer.scorer import Scorer, scorer_of
from modelkit.integrations.scorer.tallier import Tallier, summed_tallies
from modelkit.package.source import Openable

GROUP = 16  # tallies that a task adds up


def score(
    rows: Any,
    package: Openable | Scorer,
    *,
    outputs: Sequence[str] | None = None,
    keep: Sequence[str] = (),
) -> Any:
    """Score the rows of a Dask DataFrame; nothing runs before its result is asked for.

        import dask.dataframe as dd
        from modelkit.integrations.dask import score
        score(dd.from_pandas(X, npartitions=2), "churn.mk", keep=["plan"]).compute()

    Args:
        rows: a `dask.dataframe.DataFrame` with the model's columns.
        package: what `mk.Scorer` takes, or a Scorer. A path has to be there on every worker.
        outputs: see `mk.Scorer`.
        keep: see `mk.Scorer`.

    Returns:
        A DataFrame of the kept columns and the outputs, with the same index and partitions; an
        output of several values a row has a column for each.

    Raises:
        PackageError: as `mk.Scorer` does.
        SignatureError: as `mk.Scorer` and `Scorer.columns` do, and for an output of which only the
            rows show how many values it has.
        MissingExtraError: if Dask is not installed.
    """
    with importing("dask", "modelkit.integrations.dask"):
        import dask.dataframe  # noqa: F401 - told here, and not by an attribute that is missing
    _check(rows)
    scorer = scorer_of(package, outputs=outputs, keep=keep)
    check_known_widths(scorer.outputs, "Dask")
    wanted = scorer.columns(rows.columns, list(rows.dtypes))
    selected = rows[[name for name in rows.columns if str(name) in wanted]]
    return selected.map_partitions(
        scorer.frame,
        meta=scorer.frame(selected._meta),  # how Dask's own functions read it
    )


def drift(
    rows: Any, profile: Profile, *, scores: Sequence[str] = (), alpha: float = 0.01, seed: int = 0
) -> DriftReport:
    """Compare the rows of a Dask DataFrame with a Profile: one exact test of the counts of all.

        import dask.dataframe as dd
        from modelkit.integrations.dask import drift
        print(drift(dd.from_pandas(X, npartitions=2), profile))

    Args:
        rows: a `dask.dataframe.DataFrame` with the columns of the profile.
        profile: the past.
        scores: the outputs of the model that are among the columns, as `score` adds them: for each
            a column of its name, or one for each of its values, named after the output, an
            underscore, and the class or number. They may stand in any order. Classes are known from
            a profile that was fitted with `model=`.
        alpha: see `mk.Detector`.
        seed: see `mk.Detector`.

    Returns:
        The report of one batch, as `Detector.test` gives it.

    Raises:
        UsageError: for no rows, columns that are missing, outputs that the profile does not look
            at, and what `Profile.tally` refuses.
        MissingExtraError: if Dask is not installed.
    """
    with importing("dask", "modelkit.integrations.dask"):
        from dask.delayed import delayed
    _check(rows)
    tallier = Tallier(profile, scores)
    wanted = tallier.columns([str(name) for name in rows.columns])
    selected = rows[[name for name in rows.columns if str(name) in wanted]]
    parts = [delayed(tallier.frame)(part) for part in selected.to_delayed()]
    return tallier.report(_in_tree(parts).compute(), alpha, seed)


def _in_tree(parts: list[Any]) -> Any:
    """The total of tallies that are not made yet, of which no task holds more than a group."""
    from dask.delayed import delayed

    while len(parts) > 1:
        groups = [parts[at : at + GROUP] for at in range(0, len(parts), GROUP)]
        parts = [delayed(_total)(group) for group in groups]
    return parts[0]


def _total(found: Sequence[Sequence[Tally]]) -> list[Tally]:
    """The total of some tallies."""
    return summed_tallies(chain.from_iterable(found))


def _check(rows: Any) -> None:
    """Raise TypeError for anything but a frame of Dask."""
    import dask.dataframe

    fits = isinstance(rows, dask.dataframe.DataFrame)
    check_engine_rows(rows, "a dask DataFrame, as dask.dataframe.from_pandas makes it", fits=fits)
