"""modelkit: run machine-learning models inside your own process.

A Model turns a batch into a batch. Everything else stores one, wraps one, explains one, watches
one, or chooses one. Names are imported when they are first used, so `import modelkit` costs
nothing; what needs a library that is not installed says so when it is called. Type checkers read
`__init__.pyi`.
"""

__version__ = "0.1.0"

_HOMES = {
    "App": "modelkit.web.app",
    "AuditLog": "modelkit.lifecycle.audit.log",
    "Batcher": "modelkit.serving.batching.batcher",
    "Column": "modelkit.signature.spec",
    "Constraints": "modelkit.lifecycle.evaluation.robustness",
    "Detector": "modelkit.drift.detector",
    "DriftReport": "modelkit.drift.report",
    "Evaluation": "modelkit.lifecycle.evaluation.evaluation",
    "Explainer": "modelkit.explain.explainer",
    "Explanation": "modelkit.explain.explanation",
    "FunctionModel": "modelkit.model.function",
    "GateMetric": "modelkit.lifecycle.gate.policy",
    "Guard": "modelkit.lifecycle.rollout.guards",
    "Guarded": "modelkit.serving.guarded",
    "InputChecks": "modelkit.lifecycle.input_checks",
    "Meter": "modelkit.serving.metering.meter",
    "Model": "modelkit.model.model",
    "Monitor": "modelkit.drift.monitor",
    "Preprocess": "modelkit.convert.preprocess",
    "Profile": "modelkit.drift.profile",
    "Registry": "modelkit.lifecycle.registry.registry",
    "Replicas": "modelkit.serving.replicas",
    "Reranker": "modelkit.embedding.reranker",
    "RetrainPolicy": "modelkit.lifecycle.retrain.policy",
    "RobustnessReport": "modelkit.lifecycle.evaluation.robustness",
    "Rollout": "modelkit.lifecycle.rollout.rollout",
    "RolloutPolicy": "modelkit.lifecycle.rollout.policy",
    "RolloutStage": "modelkit.lifecycle.rollout.policy",
    "Scorer": "modelkit.integrations.scorer.scorer",
    "Signature": "modelkit.signature.signature",
    "TensorSpec": "modelkit.signature.spec",
    "TextEncoder": "modelkit.embedding.encoder",
    "Trust": "modelkit.package.signing",
    "Verdict": "modelkit.lifecycle.gate.verdict",
    "Wrapper": "modelkit.model.wrapper",
    "acting_as": "modelkit.model.access",
    "attach": "modelkit.package.attach",
    "bearer_tokens": "modelkit.web.auth",
    "devices": "modelkit.runtimes.sessions",
    "embed": "modelkit.embedding.verbs",
    "errors": "modelkit.errors",
    "evaluate": "modelkit.lifecycle.evaluation.evaluate",
    "events": "modelkit.events",
    "gate": "modelkit.lifecycle.gate.gate",
    "inspect": "modelkit.package.source",
    "layered": "modelkit.lifecycle.layered",
    "load": "modelkit.package.load",
    "quantize_embeddings": "modelkit.embedding.precision",
    "rank": "modelkit.embedding.verbs",
    "retrain": "modelkit.lifecycle.retrain.retrain",
    "robustness": "modelkit.lifecycle.robustness.robustness",
    "save": "modelkit.package.save",
    "semantic_search": "modelkit.embedding.precision",
    "seal": "modelkit.package.sealing",
    "sign": "modelkit.package.signing",
    "to_json": "modelkit._internal.json",
    "types": "modelkit.types",
}

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605 - strings, sorted


def _on_first_use(module: dict[str, object], homes: dict[str, str]) -> object:
    """`__getattr__` for the globals of a module: it imports names from their homes, and keeps them."""

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")
        from importlib import import_module

        home = import_module(homes[name])
        value = home if homes[name] == f"modelkit.{name}" else getattr(home, name)
        module[name] = value
        return value

    return get


__getattr__ = _on_first_use(globals(), _HOMES)


def __dir__() -> list[str]:
    return __all__
