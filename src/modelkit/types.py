"""The types of what public functions take and give, beside those of `modelkit` itself.

Nobody has to make one: they are what `Manifest.parity`, `Batcher.stats()` or `DriftReport.features`
are made of, and are here to be named in annotations. Names are imported when they are first used.
"""

TYPE_CHECKING = False  # see modelkit/__init__.py
if TYPE_CHECKING:
    from modelkit.drift.audit import AuditRow as AuditRow
    from modelkit.drift.audit import AuditTable as AuditTable
    from modelkit.drift.cells import Feature as Feature
    from modelkit.drift.history import History as History
    from modelkit.drift.labelfree import Calibration as Calibration
    from modelkit.drift.losses import Baseline as Baseline
    from modelkit.drift.notes import Acknowledgement as Acknowledgement
    from modelkit.drift.segments import Segmentation as Segmentation
    from modelkit.drift.target import TargetLabels as TargetLabels
    from modelkit.drift.units import ReferenceUnits as ReferenceUnits
    from modelkit.drift.values import DriftCheck as DriftCheck
    from modelkit.drift.values import Effect as Effect
    from modelkit.drift.values import FeatureDrift as FeatureDrift
    from modelkit.drift.values import Performance as Performance
    from modelkit.drift.values import SegmentDrift as SegmentDrift
    from modelkit.drift.vectors import Basis as Basis
    from modelkit.embedding.pipeline import Pipeline as Pipeline
    from modelkit.embedding.recipe import Recipe as Recipe
    from modelkit.explain.explainer import ExplainPlan as ExplainPlan
    from modelkit.lifecycle.evaluation.calibrated import BrierParts as BrierParts
    from modelkit.lifecycle.evaluation.calibrated import ReliabilityBin as ReliabilityBin
    from modelkit.lifecycle.evaluation.details import Confusion as Confusion
    from modelkit.lifecycle.evaluation.details import ResidualBand as ResidualBand
    from modelkit.lifecycle.evaluation.details import ScoreCurve as ScoreCurve
    from modelkit.lifecycle.evaluation.figures import ClassFigures as ClassFigures
    from modelkit.lifecycle.evaluation.figures import MetricFigure as MetricFigure
    from modelkit.lifecycle.evaluation.gap import TrainingGap as TrainingGap
    from modelkit.lifecycle.evaluation.leakage import LeakageCheck as LeakageCheck
    from modelkit.lifecycle.evaluation.learning import LearningCurve as LearningCurve
    from modelkit.lifecycle.evaluation.learning import LearningPoint as LearningPoint
    from modelkit.lifecycle.evaluation.slices import SliceFigures as SliceFigures
    from modelkit.lifecycle.registry.log import Alias as Alias
    from modelkit.lifecycle.registry.log import Entry as Entry
    from modelkit.lifecycle.registry.log import State as State
    from modelkit.lifecycle.registry.log import Underway as Underway
    from modelkit.lifecycle.registry.releases import Recorded as Recorded
    from modelkit.lifecycle.registry.shelf import Shelf as Shelf
    from modelkit.lifecycle.registry.verdicts import Judgement as Judgement
    from modelkit.lifecycle.retrain.policy import RetrainState as RetrainState
    from modelkit.lifecycle.retrain.policy import StandingAlarm as StandingAlarm
    from modelkit.lifecycle.retrain.run import RunStep as RunStep
    from modelkit.lifecycle.rollout.answering import SignedAnswers as SignedAnswers
    from modelkit.lifecycle.rollout.planning import Need as Need
    from modelkit.lifecycle.rollout.planning import RolloutPlan as RolloutPlan
    from modelkit.lifecycle.rollout.progress import GuardProgress as GuardProgress
    from modelkit.lifecycle.rollout.trial import Point as Point
    from modelkit.model.identity import Identity as Identity
    from modelkit.model.manifest import Attachment as Attachment
    from modelkit.model.manifest import Member as Member
    from modelkit.model.manifest import Parity as Parity
    from modelkit.package.attach import Attachable as Attachable
    from modelkit.package.attach import BoundAttachable as BoundAttachable
    from modelkit.package.load import Reference as Reference
    from modelkit.runtimes.terms.vectorizer import Texts as Texts
    from modelkit.serving.batching.policy import BatchPlan as BatchPlan
    from modelkit.serving.batching.stats import Stats as Stats
    from modelkit.serving.replicas import Replica as Replica
    from modelkit.signature.coercion import Block as Block
    from modelkit.web.query import Limits as Limits

_HOMES = {
    "TrainingGap": "modelkit.lifecycle.evaluation.gap",
    "SliceFigures": "modelkit.lifecycle.evaluation.slices",
    "ResidualBand": "modelkit.lifecycle.evaluation.details",
    "ReliabilityBin": "modelkit.lifecycle.evaluation.calibrated",
    "LearningPoint": "modelkit.lifecycle.evaluation.learning",
    "LearningCurve": "modelkit.lifecycle.evaluation.learning",
    "LeakageCheck": "modelkit.lifecycle.evaluation.leakage",
    "MetricFigure": "modelkit.lifecycle.evaluation.figures",
    "ScoreCurve": "modelkit.lifecycle.evaluation.details",
    "Confusion": "modelkit.lifecycle.evaluation.details",
    "ClassFigures": "modelkit.lifecycle.evaluation.figures",
    "BrierParts": "modelkit.lifecycle.evaluation.calibrated",
    "BoundAttachable": "modelkit.package.attach",
    "Acknowledgement": "modelkit.drift.notes",
    "History": "modelkit.drift.history",
    "ReferenceUnits": "modelkit.drift.units",
    "SegmentDrift": "modelkit.drift.values",
    "Segmentation": "modelkit.drift.segments",
    "TargetLabels": "modelkit.drift.target",
    "Attachable": "modelkit.package.attach",
    "Attachment": "modelkit.model.manifest",
    "AuditRow": "modelkit.drift.audit",
    "AuditTable": "modelkit.drift.audit",
    "Baseline": "modelkit.drift.losses",
    "Basis": "modelkit.drift.vectors",
    "BatchPlan": "modelkit.serving.batching.policy",
    "Block": "modelkit.signature.coercion",
    "Calibration": "modelkit.drift.labelfree",
    "DriftCheck": "modelkit.drift.values",
    "Effect": "modelkit.drift.values",
    "ExplainPlan": "modelkit.explain.explainer",
    "Feature": "modelkit.drift.cells",
    "FeatureDrift": "modelkit.drift.values",
    "Limits": "modelkit.web.query",
    "Member": "modelkit.model.manifest",
    "Parity": "modelkit.model.manifest",
    "Performance": "modelkit.drift.values",
    "Pipeline": "modelkit.embedding.pipeline",
    "Alias": "modelkit.lifecycle.registry.log",
    "Entry": "modelkit.lifecycle.registry.log",
    "Recipe": "modelkit.embedding.recipe",
    "Recorded": "modelkit.lifecycle.registry.releases",
    "Reference": "modelkit.package.load",
    "Replica": "modelkit.serving.replicas",
    "Identity": "modelkit.model.identity",
    "ScoredOutput": "modelkit.integrations.scorer.columns",
    "Judgement": "modelkit.lifecycle.registry.verdicts",
    "Shelf": "modelkit.lifecycle.registry.shelf",
    "State": "modelkit.lifecycle.registry.log",
    "Underway": "modelkit.lifecycle.registry.log",
    "RetrainState": "modelkit.lifecycle.retrain.policy",
    "RunStep": "modelkit.lifecycle.retrain.run",
    "StandingAlarm": "modelkit.lifecycle.retrain.policy",
    "SignedAnswers": "modelkit.lifecycle.rollout.answering",
    "GuardProgress": "modelkit.lifecycle.rollout.progress",
    "Need": "modelkit.lifecycle.rollout.planning",
    "Point": "modelkit.lifecycle.rollout.trial",
    "RolloutPlan": "modelkit.lifecycle.rollout.planning",
    "Stats": "modelkit.serving.batching.stats",
    "Texts": "modelkit.runtimes.terms.vectorizer",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - strings, sorted


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'modelkit.types' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
