"""Which request is for what: two dozen fixed paths, of which two parts are names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

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
    "outcome",
    "ping",
    "invocations",
    "embeddings",
    "embed",
    "listed",
    "rerank",
]
UNMATCHED = "unmatched"  # the template of every path that is none of ours
GET = ("GET", "HEAD")
POST = ("POST",)  # to a model, which answers the body of the request
HEALTH = ("live", "ready", "ping")  # probes, which need no permission and have no limit
TEMPLATES: dict[str, Verb] = {
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
    "/models/{model}/outcome": "outcome",
    "/ping": "ping",  # it and the next are SageMaker's
    "/invocations": "invocations",
    "/v1/embeddings": "embeddings",  # it and the next two are OpenAI's
    "/v1/models": "listed",
    "/v1/models/{model}": "listed",
    "/embed": "embed",  # it and the next are those of text-embeddings-inference (TEI)
    "/rerank": "rerank",
    "/v1/rerank": "rerank",  # it and the next are Cohere's
    "/v2/rerank": "rerank",
}
_NAMED = re.compile("(/v[12]/models|/models)/([^/]+)(.*)", re.DOTALL)
TEXTS: tuple[Verb, ...] = ("embeddings", "embed", "rerank")  # which name the model in the body
_POSTED = ("infer", "predict", "explain", "instances", "outcome", "invocations", *TEXTS)


class Route(NamedTuple):
    """What a path is for.

    Attributes:
        template: the path with `{model}` and `{version}` in place of names; one of `TEMPLATES`.
        verb: what is asked.
        methods: the methods that the path takes, GET or POST.
        name: of the model, as the path or the body has it; empty where they name none.
        version: of the model, or None where the path names none.
    """

    template: str
    verb: Verb
    methods: tuple[str, ...]
    name: str = ""
    version: str | None = None


@lru_cache(256)
def route_of(path: str) -> Route | None:
    """The route of a path without its mount and its query; None where there is none."""
    template = path or "/"  # a mount may leave nothing of its own path
    name = ""
    version = None
    named = _NAMED.fullmatch(path)
    if named is not None:
        models, name, rest = named.groups()
        if models == "/v2/models" and rest.startswith("/versions/"):
            version, slash, action = rest.removeprefix("/versions/").partition("/")
            rest = "/versions/{version}" + slash + action
        template = models + "/{model}" + rest
    verb = TEMPLATES.get(template)
    if verb is None:
        return None
    return Route(template, verb, POST if verb in _POSTED else GET, name, version)


def below(root: str, path: str) -> str:
    """A path without the mount it begins with."""
    if path.startswith(root) and path[len(root) :][:1] in ("", "/"):
        return path[len(root) :]
    return path
