"""modelkit: run machine-learning models inside your own process.

A Model turns a batch into a batch. Everything else stores one, wraps one, explains one, watches
one, or chooses one. Names are imported when they are first used, so `import modelkit` costs
nothing.
"""

# Type checkers know the name; importing typing for it would cost more than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from modelkit import errors as errors
    from modelkit import events as events
    from modelkit._internal.json import to_json as to_json
    from modelkit.convert.preprocess import Preprocess as Preprocess
    from modelkit.drift.detector import Detector as Detector
    from modelkit.drift.monitor import Monitor as Monitor
    from modelkit.drift.profile import Profile as Profile
    from modelkit.drift.report import DriftReport as DriftReport
    from modelkit.drift.tallies import Tally as Tally
    from modelkit.drift.values import Alarm as Alarm
    from modelkit.embedding.encoder import TextEncoder as TextEncoder
    from modelkit.embedding.verbs import aembed as aembed
    from modelkit.embedding.verbs import embed as embed
    from modelkit.explain.explainer import Explainer as Explainer
    from modelkit.explain.explanation import Explanation as Explanation
    from modelkit.integrations.prometheus import Collector as Collector
    from modelkit.integrations.scorer.scorer import Scorer as Scorer
    from modelkit.lifecycle.evaluation.evaluate import evaluate as evaluate
    from modelkit.lifecycle.evaluation.evaluation import Evaluation as Evaluation
    from modelkit.lifecycle.gate.check import Check as Check
    from modelkit.lifecycle.gate.gate import gate as gate
    from modelkit.lifecycle.gate.policy import GateMetric as GateMetric
    from modelkit.lifecycle.gate.verdict import Verdict as Verdict
    from modelkit.lifecycle.registry.registry import Registry as Registry
    from modelkit.lifecycle.registry.releases import Release as Release
    from modelkit.lifecycle.retrain.policy import RetrainPolicy as RetrainPolicy
    from modelkit.lifecycle.retrain.retrain import retrain as retrain
    from modelkit.lifecycle.retrain.run import Run as Run
    from modelkit.lifecycle.retrain.training import Training as Training
    from modelkit.lifecycle.rollout.guards import Guard as Guard
    from modelkit.lifecycle.rollout.policy import RolloutPolicy as RolloutPolicy
    from modelkit.lifecycle.rollout.policy import RolloutStage as RolloutStage
    from modelkit.lifecycle.rollout.progress import Progress as Progress
    from modelkit.lifecycle.rollout.rollout import Rollout as Rollout
    from modelkit.model.call import Call as Call
    from modelkit.model.device import Device as Device
    from modelkit.model.device import Placement as Placement
    from modelkit.model.function import FunctionModel as FunctionModel
    from modelkit.model.manifest import Manifest as Manifest
    from modelkit.model.model import Model as Model
    from modelkit.model.wrapper import Wrapper as Wrapper
    from modelkit.package.attach import attach as attach
    from modelkit.package.load import inspect as inspect
    from modelkit.package.load import load as load
    from modelkit.package.save import save as save
    from modelkit.runtimes.sessions import devices as devices
    from modelkit.serving.batching.batcher import Batcher as Batcher
    from modelkit.serving.metering.meter import Meter as Meter
    from modelkit.serving.metering.totals import Totals as Totals
    from modelkit.serving.replicas import Replicas as Replicas
    from modelkit.signature.signature import Signature as Signature
    from modelkit.signature.spec import Column as Column
    from modelkit.signature.spec import TensorSpec as TensorSpec
    from modelkit.web.app import App as App
    from modelkit.web.auth import tokens as tokens

__version__ = "0.1.0"

_HOMES = {
    "Alarm": "modelkit.drift.values",
    "App": "modelkit.web.app",
    "Batcher": "modelkit.serving.batching.batcher",
    "Call": "modelkit.model.call",
    "Check": "modelkit.lifecycle.gate.check",
    "Collector": "modelkit.integrations.prometheus",
    "Column": "modelkit.signature.spec",
    "Detector": "modelkit.drift.detector",
    "Device": "modelkit.model.device",
    "DriftReport": "modelkit.drift.report",
    "Evaluation": "modelkit.lifecycle.evaluation.evaluation",
    "Explainer": "modelkit.explain.explainer",
    "Explanation": "modelkit.explain.explanation",
    "FunctionModel": "modelkit.model.function",
    "GateMetric": "modelkit.lifecycle.gate.policy",
    "Guard": "modelkit.lifecycle.rollout.guards",
    "Manifest": "modelkit.model.manifest",
    "Meter": "modelkit.serving.metering.meter",
    "Model": "modelkit.model.model",
    "Monitor": "modelkit.drift.monitor",
    "Placement": "modelkit.model.device",
    "Preprocess": "modelkit.convert.preprocess",
    "Profile": "modelkit.drift.profile",
    "Progress": "modelkit.lifecycle.rollout.progress",
    "Registry": "modelkit.lifecycle.registry.registry",
    "Release": "modelkit.lifecycle.registry.releases",
    "Replicas": "modelkit.serving.replicas",
    "RetrainPolicy": "modelkit.lifecycle.retrain.policy",
    "Rollout": "modelkit.lifecycle.rollout.rollout",
    "RolloutPolicy": "modelkit.lifecycle.rollout.policy",
    "Run": "modelkit.lifecycle.retrain.run",
    "Scorer": "modelkit.integrations.scorer.scorer",
    "Signature": "modelkit.signature.signature",
    "RolloutStage": "modelkit.lifecycle.rollout.policy",
    "Tally": "modelkit.drift.tallies",
    "TensorSpec": "modelkit.signature.spec",
    "TextEncoder": "modelkit.embedding.encoder",
    "Training": "modelkit.lifecycle.retrain.training",
    "Totals": "modelkit.serving.metering.totals",
    "Verdict": "modelkit.lifecycle.gate.verdict",
    "Wrapper": "modelkit.model.wrapper",
    "aembed": "modelkit.embedding.verbs",
    "attach": "modelkit.package.attach",
    "devices": "modelkit.runtimes.sessions",
    "embed": "modelkit.embedding.verbs",
    "errors": "modelkit",
    "evaluate": "modelkit.lifecycle.evaluation.evaluate",
    "events": "modelkit",
    "gate": "modelkit.lifecycle.gate.gate",
    "inspect": "modelkit.package.load",
    "load": "modelkit.package.load",
    "retrain": "modelkit.lifecycle.retrain.retrain",
    "save": "modelkit.package.save",
    "to_json": "modelkit._internal.json",
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
