"""Packages in Dask: each partition of a frame is scored as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelkit.errors import importing
from modelkit.package.load import Openable
from modelkit.scorer.scorer import Scorer, scorer_of


def score(
    rows: Any,
    package: Openable | Scorer,
    *,
    outputs: Sequence[str] | None = None,
    keep: Sequence[str] = (),
) -> Any:
    """Score the rows of a Dask DataFrame; nothing runs before its result is asked for.

    Args:
        rows: a `dask.dataframe.DataFrame` with the model's columns.
        package: what `mk.Scorer` takes, or a Scorer. A path has to be there on every worker.
        outputs: see `mk.Scorer`.
        keep: see `mk.Scorer`.

    Returns:
        A DataFrame of the kept columns and the outputs, with the same index and partitions; an
        output of several values a row has a column for each.

    Raises:
        PackageError, SignatureError: as `mk.Scorer` does.
        MissingExtraError: if Dask is not installed.
    """
    with importing("dask", "modelkit.integrations.dask"):
        import dask.dataframe  # noqa: F401 - told here, and not by an attribute that is missing
    scorer = scorer_of(package, outputs=outputs, keep=keep)
    wanted = dict.fromkeys([*scorer.keep, *scorer.inputs])
    selected = rows[[name for name in rows.columns if name in wanted]]
    return selected.map_partitions(
        scorer.frame,
        meta=scorer.frame(selected._meta),  # noqa: SLF001 - how Dask's own functions read it
    )
