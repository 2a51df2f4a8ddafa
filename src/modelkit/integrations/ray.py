"""Packages in Ray: rows of a Dataset are scored by tasks, and calls of Ray Serve by a Batcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.errors import importing
from modelkit.integrations.scorer.refusals import check_engine_rows, check_pool
from modelkit.integrations.scorer.scorer import Scorer, scorer_of
from modelkit.integrations.scorer.tallier import Tallier, read_tallies, summed_tallies
from modelkit.model.call import PLAIN
from modelkit.model.model import Outputs
from modelkit.package.source import Openable
from modelkit.serving.batching.batcher import Batcher
from modelkit.serving.batching.checks import check_options

ROWS = "a ray Dataset, as ray.data.from_pandas makes it"
BATCH_ROWS = 4096
CALLS_A_BATCH = 2  # calls that a replica holds for each row of a batch: one batch runs, one fills


def score(
    rows: Any,
    package: Openable | Scorer,
    *,
    outputs: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    batch_rows: int = BATCH_ROWS,
    gpus: int = 0,
) -> Any:
    """Score the rows of a Ray Dataset, lazily, by tasks, so no job can wait for itself.

        from modelkit.integrations.ray import score
        score(ray.data.from_pandas(X), "churn.mk", keep=["plan"]).write_parquet("scored")

    Args:
        rows: a `ray.data.Dataset` with the model's columns.
        package: what `mk.Scorer` takes, or a Scorer.
        outputs: see `mk.Scorer`.
        keep: see `mk.Scorer`.
        batch_rows: the largest number of rows scored at once.
        gpus: the number of actors with a GPU each, which hold no CPU, so the job can always
            read; the model runs on "cuda", or on the device of the Scorer.

    Returns:
        A Dataset of the kept columns and the outputs.

    Raises DeviceError where the cluster has fewer GPUs, or no CPU to read with; TypeError for other
    rows; PackageError as `mk.Scorer` does; and SignatureError as that and, where Ray knows the
    columns of the rows, `Scorer.columns` do.
    """
    with importing("ray", "modelkit.integrations.ray"):
        import ray
    check_engine_rows(rows, ROWS, fits=hasattr(rows, "map_batches"))
    on_gpu = {"device": "cuda"} if gpus and not isinstance(package, Scorer) else {}
    scorer = scorer_of(package, outputs=outputs, keep=keep, **on_gpu)
    schema = rows.schema(fetch_if_missing=False)
    if schema is not None:
        # `schema.types` logs an error for each categorical of pandas.
        scorer.columns(schema.base_schema.names, schema.base_schema.types)
    if gpus == 0:
        return rows.map_batches(scorer.arrow, batch_size=batch_rows, batch_format="pyarrow")
    check_pool([node["Resources"] for node in ray.nodes() if node["Alive"]], gpus)
    return rows.map_batches(
        _Actor,
        fn_constructor_args=(scorer,),
        batch_size=batch_rows,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=gpus),
        num_gpus=1,
        num_cpus=0,  # else actors could hold the CPU that reading needs, and wait for it for ever
    )


class _Actor:
    """A Scorer that a pool of Ray holds."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        scorer.model  # noqa: B018 - opened with the actor, and not by its first rows

    def __call__(self, table: Any) -> Any:
        return self._scorer.arrow(table)


def deployment(package: Openable | Scorer, *, max_rows: int = 64, **options: Any) -> Any:
    """An application of Ray Serve: each replica gathers concurrent calls by a Batcher.

        from modelkit.integrations.ray import deployment
        handle = ray.serve.run(deployment("churn.mk", num_replicas=2))
        handle.remote(X[:1]).result()["label"]

    `await handle.remote(rows)` gives the outputs by name, for rows in any form of `Model.run`; other
    columns than the model's are not looked at. Calls come by handles: HTTP is what `mk.App` serves.

    Args:
        package: what `mk.Scorer` takes, or a Scorer.
        max_rows: the largest batch; a replica takes twice as many calls at once, since Ray's own
            default of 5 would never fill one.
        options: further arguments of `ray.serve.deployment`, such as `num_replicas`.

    Returns:
        The application, as `ray.serve.run` takes it.

    Raises PackageError if the file cannot be opened as a package, TypeError for a Scorer that keeps or explains, and
    UsageError unless `max_rows` is a positive integer.
    """
    with importing("ray", "modelkit.integrations.ray.deployment"):
        from ray import serve
    scorer = scorer_of(package)
    if scorer.keep or scorer.explain:
        raise TypeError("a deployment gives outputs alone: make its Scorer without keep, explain")
    check_options(max_rows)
    settings = {"name": scorer.manifest.name, "max_ongoing_requests": CALLS_A_BATCH * max_rows}
    deployed = serve.deployment(**(settings | options))(_Replica)
    return deployed.bind(scorer, max_rows)


class _Replica:
    """What a replica of Ray Serve holds."""

    def __init__(self, scorer: Scorer, max_rows: int) -> None:
        self._names = tuple(output.name for output in scorer.outputs)
        self._batcher = Batcher(scorer.model, max_rows=max_rows)

    async def __call__(self, rows: Any) -> Outputs:
        return await self._batcher._acall(rows, self._names, PLAIN)


def drift(
    rows: Any, profile: Profile, *, scores: Sequence[str] = (), alpha: float = 0.01, seed: int = 0
) -> DriftReport:
    """Compare the rows of a Ray Dataset with a Profile: one exact test of the counts of all.

        from modelkit.integrations.ray import drift
        print(drift(ray.data.from_pandas(X), profile))

    `rows` has the columns of the profile, and the outputs of the model that `scores` names, as
    `score` adds them; `mk.Detector` gets `alpha` and `seed`.

    Returns:
        The report of one batch, as `Detector.test` gives it.

    Raises UsageError for no rows,
    outputs that the profile does not look at, columns that are missing, and as `Profile.tally` does.
    """
    check_engine_rows(rows, ROWS, fits=hasattr(rows, "map_batches"))
    tallier = Tallier(profile, scores)
    schema = rows.schema(fetch_if_missing=False)
    if schema is not None:
        tallier.columns(schema.names)
    tallies = rows.map_batches(tallier.arrow, batch_size=None, batch_format="pyarrow")
    found = tallies.iter_batches(batch_format="pyarrow")  # which holds few of them at a time
    return tallier.report(summed_tallies(read_tallies(found)), alpha, seed)
