"""The types of what public functions take and give, beside those of `modelkit` itself.

Nobody has to make one: they are what `Manifest.parity`, `Batcher.stats()` or `DriftReport.features`
are made of, and are here to be named in annotations. Names are imported when they are first used.
"""

TYPE_CHECKING = False  # see modelkit/__init__.py
if TYPE_CHECKING:
    from modelkit.batching.policy import BatchPlan as BatchPlan
    from modelkit.batching.stats import Stats as Stats
    from modelkit.coercion import Block as Block
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
    from modelkit.evaluation.calibrated import BrierParts as BrierParts
    from modelkit.evaluation.calibrated import ReliabilityBin as ReliabilityBin
    from modelkit.evaluation.details import Confusion as Confusion
    from modelkit.evaluation.details import ResidualBand as ResidualBand
    from modelkit.evaluation.details import ScoreCurve as ScoreCurve
    from modelkit.evaluation.figures import ClassFigures as ClassFigures
    from modelkit.evaluation.figures import MetricFigure as MetricFigure
    from modelkit.evaluation.gap import TrainingGap as TrainingGap
    from modelkit.evaluation.leakage import LeakageCheck as LeakageCheck
    from modelkit.evaluation.learning import LearningCurve as LearningCurve
    from modelkit.evaluation.learning import LearningPoint as LearningPoint
    from modelkit.evaluation.slices import SliceFigures as SliceFigures
    from modelkit.explain.explainer import ExplainPlan as ExplainPlan
    from modelkit.identity import Identity as Identity
    from modelkit.manifest import Attachment as Attachment
    from modelkit.manifest import Member as Member
    from modelkit.manifest import Parity as Parity
    from modelkit.package.attach import Attachable as Attachable
    from modelkit.package.attach import BoundAttachable as BoundAttachable
    from modelkit.package.load import Reference as Reference
    from modelkit.recipe import Recipe as Recipe
    from modelkit.registry.log import Alias as Alias
    from modelkit.registry.log import Entry as Entry
    from modelkit.registry.log import State as State
    from modelkit.registry.log import Underway as Underway
    from modelkit.registry.releases import Recorded as Recorded
    from modelkit.registry.shelf import Shelf as Shelf
    from modelkit.registry.verdicts import Judgement as Judgement
    from modelkit.replicas import Replica as Replica
    from modelkit.retraining.policy import RetrainState as RetrainState
    from modelkit.retraining.policy import StandingAlarm as StandingAlarm
    from modelkit.retraining.run import RunStep as RunStep
    from modelkit.rollout.answering import SignedAnswers as SignedAnswers
    from modelkit.rollout.planning import Need as Need
    from modelkit.rollout.planning import RolloutPlan as RolloutPlan
    from modelkit.rollout.progress import GuardProgress as GuardProgress
    from modelkit.rollout.trial import Point as Point
    from modelkit.texts.vectorizer import Texts as Texts
    from modelkit.web.query import Limits as Limits

_HOMES = {
    "TrainingGap": "modelkit.evaluation.gap",
    "SliceFigures": "modelkit.evaluation.slices",
    "ResidualBand": "modelkit.evaluation.details",
    "ReliabilityBin": "modelkit.evaluation.calibrated",
    "LearningPoint": "modelkit.evaluation.learning",
    "LearningCurve": "modelkit.evaluation.learning",
    "LeakageCheck": "modelkit.evaluation.leakage",
    "MetricFigure": "modelkit.evaluation.figures",
    "ScoreCurve": "modelkit.evaluation.details",
    "Confusion": "modelkit.evaluation.details",
    "ClassFigures": "modelkit.evaluation.figures",
    "BrierParts": "modelkit.evaluation.calibrated",
    "BoundAttachable": "modelkit.package.attach",
    "Acknowledgement": "modelkit.drift.notes",
    "History": "modelkit.drift.history",
    "ReferenceUnits": "modelkit.drift.units",
    "SegmentDrift": "modelkit.drift.values",
    "Segmentation": "modelkit.drift.segments",
    "TargetLabels": "modelkit.drift.target",
    "Attachable": "modelkit.package.attach",
    "Attachment": "modelkit.manifest",
    "AuditRow": "modelkit.drift.audit",
    "AuditTable": "modelkit.drift.audit",
    "Baseline": "modelkit.drift.losses",
    "Basis": "modelkit.drift.vectors",
    "BatchPlan": "modelkit.batching.policy",
    "Block": "modelkit.coercion",
    "Calibration": "modelkit.drift.labelfree",
    "DriftCheck": "modelkit.drift.values",
    "Effect": "modelkit.drift.values",
    "ExplainPlan": "modelkit.explain.explainer",
    "Feature": "modelkit.drift.cells",
    "FeatureDrift": "modelkit.drift.values",
    "Limits": "modelkit.web.query",
    "Member": "modelkit.manifest",
    "Parity": "modelkit.manifest",
    "Performance": "modelkit.drift.values",
    "Pipeline": "modelkit.embedding.pipeline",
    "Alias": "modelkit.registry.log",
    "Entry": "modelkit.registry.log",
    "Recipe": "modelkit.recipe",
    "Recorded": "modelkit.registry.releases",
    "Reference": "modelkit.package.load",
    "Replica": "modelkit.replicas",
    "Identity": "modelkit.identity",
    "ScoredOutput": "modelkit.scorer.outputs",
    "Judgement": "modelkit.registry.verdicts",
    "Shelf": "modelkit.registry.shelf",
    "State": "modelkit.registry.log",
    "Underway": "modelkit.registry.log",
    "RetrainState": "modelkit.retraining.policy",
    "RunStep": "modelkit.retraining.run",
    "StandingAlarm": "modelkit.retraining.policy",
    "SignedAnswers": "modelkit.rollout.answering",
    "GuardProgress": "modelkit.rollout.progress",
    "Need": "modelkit.rollout.planning",
    "Point": "modelkit.rollout.trial",
    "RolloutPlan": "modelkit.rollout.planning",
    "Stats": "modelkit.batching.stats",
    "Texts": "modelkit.texts.vectorizer",
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
