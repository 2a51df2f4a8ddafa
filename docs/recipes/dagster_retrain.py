"""The same five steps as assets of Dagster: the verdict is a check of the asset that blocks the rest.

`dagster dev -f dagster_retrain.py` shows them; MODELS and VERSION come from the environment.
"""

import os
from pathlib import Path

import dagster as dg
import pandas as pd
from train import train

import modelkit as mk

VERDICT = Path("verdict.json")
CHAMPION = "registry:tumour@champion"


def registry():
    return mk.Registry(os.environ["MODELS"])


@dg.asset
def candidate() -> str:
    train(os.environ["VERSION"], path="candidate.mk", holdout="holdout.csv")
    return "candidate.mk"


@dg.asset_check(asset=candidate, blocking=True)
def gate(candidate: str) -> dg.AssetCheckResult:
    rows = pd.read_csv("holdout.csv")
    y = rows.pop("benign")
    verdict = mk.gate(candidate, CHAMPION, rows, y, margin=0.02, registry=registry())
    VERDICT.write_text(verdict.to_json())
    return dg.AssetCheckResult(
        passed=verdict.decision == "promote",
        metadata={"verdict": dg.MetadataValue.md(str(verdict))},
    )


@dg.asset
def release(candidate: str) -> str:
    verdict = mk.Verdict.from_json(VERDICT.read_text())
    return registry().register(candidate, verdict=verdict).version


@dg.asset
def rollout(release: str) -> None:
    verdict = mk.Verdict.from_json(VERDICT.read_text())
    policy = mk.RolloutPolicy((mk.RolloutStage(0.05, calls=500), mk.RolloutStage(0.5)))
    registry().start_rollout(
        "tumour", release, policy, reason="an asset of Dagster", verdict=verdict
    )


# One run at a time, and a run key of the alarm, make it one run for one occasion.
job = dg.define_asset_job("retrain", "*", executor_def=dg.in_process_executor)
defs = dg.Definitions([candidate, release, rollout], jobs=[job], asset_checks=[gate])
