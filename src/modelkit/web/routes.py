"""Which request is for what: a dozen fixed paths, of which two parts are names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

Verb = Literal[
    "page",
    "metrics",
    "openapi",
    "server",
    "live",
    "ready",
    "models",
    "model",
    "model_ready",
    "infer",
    "predict",
    "explain",
    "instances",
]
UNMATCHED = "unmatched"  # the template of every path that is none of ours
_GET = ("GET", "HEAD")
_POST = ("POST",)
_TEMPLATES: dict[str, Verb] = {
    "/": "page",
    "/metrics": "metrics",
    "/openapi.json": "openapi",
    "/v2": "server",
    "/v2/health/live": "live",
    "/v2/health/ready": "ready",
    "/v2/models": "models",
    "/v2/models/{model}": "model",
    "/v2/models/{model}/ready": "model_ready",
    "/v2/models/{model}/infer": "infer",
    "/v2/models/{model}/versions/{version}": "model",
    "/v2/models/{model}/versions/{version}/ready": "model_ready",
    "/v2/models/{model}/versions/{version}/infer": "infer",
    "/models/{model}/predict": "predict",
    "/models/{model}/explain": "explain",
    "/models/{model}/instances": "instances",
}
_ASKING = ("infer", "predict", "explain", "instances")


@final
@dataclass(frozen=True, slots=True)
class Route:
    """What a path is for.

    Attributes:
        template: the path with `{model}` and `{version}` in place of names; one of 16 texts.
        verb: what is asked.
        name: of the model, as the path has it; empty where the path names none.
        version: of the model, or None where the path names none.
    """

    template: str
    verb: Verb
    name: str = ""
    version: str | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the path takes."""
        return _POST if self.asks else _GET

    @property
    def asks(self) -> bool:
        """Whether a model is asked, by the body of the request."""
        return self.verb in _ASKING

    @property
    def is_health(self) -> bool:
        """Whether it is a probe, which needs no permission and has no limit."""
        return self.verb in ("live", "ready")


def route_of(path: str) -> Route | None:
    """The route of a path without its mount and its query; None where there is none."""
    parts = path.split("/")
    name = ""
    version = None
    if parts[:3] == ["", "v2", "models"] and len(parts) > 3:
        name = parts[3]
        parts[3] = "{model}"
        if len(parts) > 5 and parts[4] == "versions":
            version = parts[5]
            parts[5] = "{version}"
    elif parts[:2] == ["", "models"] and len(parts) > 2:
        name = parts[2]
        parts[2] = "{model}"
    template = "/".join(parts) or "/"  # a mount may leave nothing of its own path
    verb = _TEMPLATES.get(template)
    if verb is None or ("{model}" in template and not name):
        return None
    return Route(template, verb, name, version)


def below(root: str, path: str) -> str:
    """A path without the mount it begins with."""
    if root and path.startswith(root) and path[len(root) :][:1] in ("", "/"):
        return path[len(root) :]
    return path
