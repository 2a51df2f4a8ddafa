"""modelkit: run machine-learning models inside your own process.

A Model turns a batch into a batch. Everything else stores one, wraps one, explains one, watches
one, or chooses one. Names are imported when they are first used, so `import modelkit` costs
nothing.
"""

TYPE_CHECKING = (
    False  # type checkers know the name; importing typing for it would cost more than all the rest
)
if TYPE_CHECKING:
    from modelkit import errors as errors
    from modelkit import events as events
    from modelkit.batching.batcher import Batcher as Batcher
    from modelkit.call import Call as Call
    from modelkit.convert.preprocess import Preprocess as Preprocess
    from modelkit.device import Device as Device
    from modelkit.device import Placement as Placement
    from modelkit.drift.detector import Detector as Detector
    from modelkit.drift.monitor import Monitor as Monitor
    from modelkit.drift.profile import Profile as Profile
    from modelkit.drift.report import DriftReport as DriftReport
    from modelkit.drift.tallies import Tally as Tally
    from modelkit.drift.values import Alarm as Alarm
    from modelkit.embedding.encoder import TextEncoder as TextEncoder
    from modelkit.embedding.verbs import aembed as aembed
    from modelkit.embedding.verbs import embed as embed
    from modelkit.evaluation.evaluate import evaluate as evaluate
    from modelkit.evaluation.evaluation import Evaluation as Evaluation
    from modelkit.explain.explainer import Explainer as Explainer
    from modelkit.explain.explanation import Explanation as Explanation
    from modelkit.function_model import FunctionModel as FunctionModel
    from modelkit.gating.check import Check as Check
    from modelkit.gating.gate import gate as gate
    from modelkit.gating.policy import GateMetric as GateMetric
    from modelkit.gating.verdict import Verdict as Verdict
    from modelkit.integrations.prometheus import Collector as Collector
    from modelkit.jsonable import to_json as to_json
    from modelkit.manifest import Manifest as Manifest
    from modelkit.metering.meter import Meter as Meter
    from modelkit.metering.totals import Totals as Totals
    from modelkit.model import Model as Model
    from modelkit.package.attach import attach as attach
    from modelkit.package.load import inspect as inspect
    from modelkit.package.load import load as load
    from modelkit.package.save import save as save
    from modelkit.registry.registry import Registry as Registry
    from modelkit.registry.releases import Release as Release
    from modelkit.replicas import Replicas as Replicas
    from modelkit.retraining.policy import RetrainPolicy as RetrainPolicy
    from modelkit.retraining.retrain import retrain as retrain
    from modelkit.retraining.run import Run as Run
    from modelkit.retraining.training import Training as Training
    from modelkit.rollout.guards import Guard as Guard
    from modelkit.rollout.policy import RolloutPolicy as RolloutPolicy
    from modelkit.rollout.policy import RolloutStage as RolloutStage
    from modelkit.rollout.progress import Progress as Progress
    from modelkit.rollout.rollout import Rollout as Rollout
    from modelkit.runtimes.sessions import devices as devices
    from modelkit.scorer.scorer import Scorer as Scorer
    from modelkit.signature import Signature as Signature
    from modelkit.spec import Column as Column
    from modelkit.spec import TensorSpec as TensorSpec
    from modelkit.web.app import App as App
    from modelkit.web.auth import tokens as tokens
    from modelkit.wrapper import Wrapper as Wrapper

__version__ = "0.1.0"

_HOMES = {
    "Alarm": "modelkit.drift.values",
    "App": "modelkit.web.app",
    "Batcher": "modelkit.batching.batcher",
    "Call": "modelkit.call",
    "Check": "modelkit.gating.check",
    "Collector": "modelkit.integrations.prometheus",
    "Column": "modelkit.spec",
    "Detector": "modelkit.drift.detector",
    "Device": "modelkit.device",
    "DriftReport": "modelkit.drift.report",
    "Evaluation": "modelkit.evaluation.evaluation",
    "Explainer": "modelkit.explain.explainer",
    "Explanation": "modelkit.explain.explanation",
    "FunctionModel": "modelkit.function_model",
    "GateMetric": "modelkit.gating.policy",
    "Guard": "modelkit.rollout.guards",
    "Manifest": "modelkit.manifest",
    "Meter": "modelkit.metering.meter",
    "Model": "modelkit.model",
    "Monitor": "modelkit.drift.monitor",
    "Placement": "modelkit.device",
    "Preprocess": "modelkit.convert.preprocess",
    "Profile": "modelkit.drift.profile",
    "Progress": "modelkit.rollout.progress",
    "Registry": "modelkit.registry.registry",
    "Release": "modelkit.registry.releases",
    "Replicas": "modelkit.replicas",
    "RetrainPolicy": "modelkit.retraining.policy",
    "Rollout": "modelkit.rollout.rollout",
    "RolloutPolicy": "modelkit.rollout.policy",
    "Run": "modelkit.retraining.run",
    "Scorer": "modelkit.scorer.scorer",
    "Signature": "modelkit.signature",
    "RolloutStage": "modelkit.rollout.policy",
    "Tally": "modelkit.drift.tallies",
    "TensorSpec": "modelkit.spec",
    "TextEncoder": "modelkit.embedding.encoder",
    "Training": "modelkit.retraining.training",
    "Totals": "modelkit.metering.totals",
    "Verdict": "modelkit.gating.verdict",
    "Wrapper": "modelkit.wrapper",
    "aembed": "modelkit.embedding.verbs",
    "attach": "modelkit.package.attach",
    "devices": "modelkit.runtimes.sessions",
    "embed": "modelkit.embedding.verbs",
    "errors": "modelkit",
    "evaluate": "modelkit.evaluation.evaluate",
    "events": "modelkit",
    "gate": "modelkit.gating.gate",
    "inspect": "modelkit.package.load",
    "load": "modelkit.package.load",
    "retrain": "modelkit.retraining.retrain",
    "save": "modelkit.package.save",
    "to_json": "modelkit.jsonable",
    "tokens": "modelkit.web.auth",
}

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605 - strings, sorted


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'modelkit' has no attribute {name!r}")
    from importlib import import_module

    value = (
        import_module(f"modelkit.{name}")
        if home == "modelkit"
        else getattr(import_module(home), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
