"""The types of what public functions take and give, beside the types in `modelkit` itself.

They are what `Manifest.parity`, `Batcher.stats()` or `DriftReport.features` are made of, and are here
to be named in annotations. Of these you make `Limits`, `GateCheck`, `PrivacyClaim` and `RetrainState`
at most. Names are imported when they are first used; type checkers read `types.pyi`.
"""

from modelkit import _on_first_use

_HOMES = {
    "Acknowledgement": "modelkit.drift.values",
    "Alarm": "modelkit.drift.values",
    "Alias": "modelkit.lifecycle.registry.log",
    "Attachable": "modelkit.package.attach",
    "Attachment": "modelkit.model.manifest",
    "AuditRecord": "modelkit.lifecycle.audit.chain",
    "AuditReport": "modelkit.lifecycle.audit.reading",
    "BatchPlan": "modelkit.serving.batching.policy",
    "Block": "modelkit.signature.coercion",
    "BoundAttachable": "modelkit.package.attach",
    "Call": "modelkit.model.call",
    "ClassFigures": "modelkit.lifecycle.evaluation.figures",
    "Confusion": "modelkit.lifecycle.evaluation.details",
    "Device": "modelkit.model.device",
    "DriftCheck": "modelkit.drift.values",
    "Due": "modelkit.lifecycle.retrain.policy",
    "Effect": "modelkit.drift.values",
    "Entry": "modelkit.lifecycle.registry.log",
    "ExplainPlan": "modelkit.explain.explainer",
    "Feature": "modelkit.drift.cells",
    "FeatureDrift": "modelkit.drift.values",
    "GateCheck": "modelkit.lifecycle.evaluation.check",
    "GuardProgress": "modelkit.lifecycle.rollout.progress",
    "History": "modelkit.drift.history",
    "Identity": "modelkit.model.identity",
    "Judgement": "modelkit.lifecycle.registry.rules",
    "LeakageCheck": "modelkit.lifecycle.evaluation.leakage",
    "Limits": "modelkit.web.query",
    "Listing": "modelkit.report.listing",
    "Log": "modelkit.store.log",
    "Manifest": "modelkit.model.manifest",
    "Member": "modelkit.model.manifest",
    "MeterTotals": "modelkit.serving.metering.totals",
    "MetricFigure": "modelkit.lifecycle.evaluation.figures",
    "ModelVersion": "modelkit.lifecycle.registry.releases",
    "Need": "modelkit.lifecycle.rollout.planning",
    "PackageSignature": "modelkit.package.signing",
    "PairRecipe": "modelkit.embedding.recipe",
    "Parity": "modelkit.model.manifest",
    "Performance": "modelkit.drift.values",
    "Pipeline": "modelkit.embedding.pipeline",
    "Placement": "modelkit.model.device",
    "Point": "modelkit.lifecycle.rollout.trial",
    "PrivacyClaim": "modelkit.model.privacy",
    "Ranked": "modelkit.embedding.verbs",
    "Recipe": "modelkit.embedding.recipe",
    "Recorded": "modelkit.lifecycle.registry.releases",
    "Reference": "modelkit.package.source",
    "ReliabilityBin": "modelkit.stats.calibration",
    "Replica": "modelkit.serving.replicas",
    "ResidualBand": "modelkit.lifecycle.evaluation.details",
    "RetrainRun": "modelkit.lifecycle.retrain.run",
    "RetrainState": "modelkit.lifecycle.retrain.policy",
    "RetrainStep": "modelkit.lifecycle.retrain.run",
    "RobustnessFigure": "modelkit.lifecycle.evaluation.robustness",
    "RolloutPlan": "modelkit.lifecycle.rollout.planning",
    "RolloutProgress": "modelkit.lifecycle.rollout.progress",
    "ScoreCurve": "modelkit.lifecycle.evaluation.details",
    "ScoredOutput": "modelkit.integrations.scorer.columns",
    "SegmentDrift": "modelkit.drift.values",
    "Subfolder": "modelkit.store.subfolder",
    "SignedAnswers": "modelkit.lifecycle.rollout.answering",
    "SliceFigures": "modelkit.lifecycle.evaluation.figures",
    "StandingAlarm": "modelkit.lifecycle.retrain.policy",
    "State": "modelkit.lifecycle.registry.log",
    "Stats": "modelkit.serving.batching.stats",
    "Tally": "modelkit.drift.counts",
    "Texts": "modelkit.runtimes.terms.vectorizer",
    "Training": "modelkit.lifecycle.retrain.work",
    "TrainingGap": "modelkit.lifecycle.evaluation.gap",
    "Underway": "modelkit.lifecycle.registry.log",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - strings, sorted

__getattr__ = _on_first_use(globals(), _HOMES)


def __dir__() -> list[str]:
    return __all__
