"""The same five steps as a pipeline of Kubeflow: compiled by `python kubeflow_retrain.py`.

Each component runs in an image of yours that has modelkit. The verdict decides whether the
pipeline goes on, and the registry whether the champion still is what was judged.
"""

from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Model, Output

IMAGE = "registry.example/tumour@sha256:" + "0" * 64  # yours, by its digest: a tag can be moved


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_and_save(version: str, candidate: Output[Model], holdout: Output[Dataset]):
    from train import train

    train(version, path=candidate.path, holdout=holdout.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(
    models: str, candidate: Input[Model], holdout: Input[Dataset], verdict: Output[Dataset]
) -> str:
    from pathlib import Path

    import pandas as pd

    import modelkit as mk

    rows = pd.read_csv(holdout.path)
    y = rows.pop("benign")
    found = mk.gate(
        candidate.path,
        "registry:tumour@champion",
        rows,
        y,
        margin=0.02,
        registry=mk.Registry(models),
    )
    Path(verdict.path).write_text(found.to_json())
    return found.decision


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register_and_roll_out(models: str, candidate: Input[Model], verdict: Input[Dataset]):
    from pathlib import Path

    import modelkit as mk

    judged = mk.Verdict.from_json(Path(verdict.path).read_text())
    registry = mk.Registry(models)
    release = registry.register(candidate.path, verdict=judged)
    policy = mk.RolloutPolicy((mk.RolloutStage(0.05, calls=500), mk.RolloutStage(0.5)))
    registry.start_rollout(
        "tumour", release.version, policy, reason="a pipeline of Kubeflow", verdict=judged
    )


@dsl.pipeline(name="retrain-tumour")
def retrain(models: str, version: str):
    trained = train_and_save(version=version)
    judged = gate(
        models=models, candidate=trained.outputs["candidate"], holdout=trained.outputs["holdout"]
    )
    judged.set_caching_options(False)  # what it judges by moves: the champion
    with dsl.If(judged.outputs["Output"] == "promote"):
        begun = register_and_roll_out(
            models=models, candidate=trained.outputs["candidate"], verdict=judged.outputs["verdict"]
        )
        begun.set_caching_options(False)  # it does something


if __name__ == "__main__":
    compiler.Compiler().compile(retrain, "retrain.yaml")
