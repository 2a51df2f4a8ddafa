"""What an App says of itself and of its models, to whoever only looks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from modelkit.embedding.verbs import recipe_of
from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.model.model import Model
from modelkit.model.wrapper import layer_of
from modelkit.package.trust import installed
from modelkit.report import html
from modelkit.web import openapi, v2
from modelkit.web.endpoint import Endpoint
from modelkit.web.examples import plain_example
from modelkit.web.replies import JSON, HeaderList, Refused, Reply, unavailable
from modelkit.web.routes import Verb

Metrics = Callable[[str], tuple[bytes, str]]  # of an Accept header: the body and its content type
LIVE = Reply(b'{"live":true}')
READY = Reply(b'{"ready":true,"live":true}')
_PONG = Reply(b"", ())
_UNREADY = Reply(
    b'{"ready":false,"live":true,"error":"not ready"}', (JSON, (b"retry-after", b"1")), 503
)
# Cards carry their styles in their elements, and nothing else is allowed.
_PAGE_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
# A page scrolls as a whole, and a cell of a notebook does not; on a telephone, short words break too.
_PAGE_STYLE = (
    "body>div{max-height:none!important}"
    "@media(max-width:640px){td>div,th>div{white-space:normal!important;min-width:0!important}}"
)
_PAGE_HEADERS: HeaderList = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", _PAGE_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


def health(verb: Verb, *, ready: bool) -> Reply:
    """Whether the App answers at all, and whether requests should be sent to it."""
    if verb == "live":
        return LIVE
    if not ready:
        return _UNREADY
    return READY if verb == "ready" else _PONG


def of_model(verb: Verb, endpoint: Endpoint, *, ready: bool) -> Reply:
    """What one model takes and gives, or whether it is ready."""
    name = endpoint.name
    deployment = endpoint.deployment
    model = deployment.model
    if verb == "model":
        return v2.metadata(name, deployment.identity.version, model.signature)
    if verb == "listed":
        if recipe_of(model) is None:
            raise Refused(
                f"{name!r} neither embeds nor ranks texts; GET /v1/models lists those that do", 404
            )
        return _json(_listed(name))
    if model.closed or not ready:
        raise unavailable(f"{name!r} is not ready: it, or the App, is closed or draining")
    return _json({"name": name, "ready": True})


def of_all(verb: Verb, endpoints: Mapping[str, Endpoint], root: str, *, ready: bool) -> Reply:
    """What is said of the App and all of its models, mounted at the path `root`. May take milliseconds."""
    models = {name: each.deployment.model for name, each in endpoints.items()}
    if verb == "page":
        return status_page(models, ready=ready)
    if verb == "openapi":
        return _json(openapi.document(models, root))
    if verb == "listed":
        known = [_listed(name) for name, model in models.items() if recipe_of(model)]
        return _json({"object": "list", "data": known})
    if verb == "models":
        return _json({"models": list(models)})
    server = {
        "name": "modelkit",
        "version": "".join(installed(["modelkit-sdk"]).values()),
        "extensions": ["binary_tensor_data"],
    }
    return _json(server)


def _listed(name: str) -> dict[str, Any]:
    """A model as OpenAI lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "modelkit"}


def scrape(metrics: Metrics, accept: str) -> Reply:
    """What /metrics shows, in one of the media types that the client takes."""
    body, kind = metrics(accept)
    return Reply(body, [(b"content-type", kind.encode())])


def _json(value: object) -> Reply:
    return Reply(json.dumps(value).encode())


def status_page(models: Mapping[str, Model], *, ready: bool) -> Reply:
    """A page with the card of every model, by the name under which it answers."""
    state = "ready" if ready else "not ready: closing"
    requests = html.element("p", "openapi.json describes what requests look like")
    sections = [_section(name, model) for name, model in models.items()]
    body = html.page("modelkit", html.element("p", state), requests, *sections, style=_PAGE_STYLE)
    return Reply(body.encode(), _PAGE_HEADERS)


def _section(name: str, model: Model) -> html.Markup:
    rollout = layer_of(model, Rollout)
    parts: list[str] = [_request(name, model)]
    if rollout is None:
        parts.append(model._repr_html_())
    else:
        progress = rollout.status()
        parts += [progress._repr_html_(), progress.charts()]
        parts += [held._repr_html_() for held in rollout.models]
    return html.part(name, *parts)


def _request(name: str, model: Model) -> html.Markup:
    """A request that the model answers, where it is short."""
    example = plain_example(model.signature)
    if example is None:
        return html.Markup()
    path = f"models/{quote(name, safe='')}/predict"
    style = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 .5em"
    return html.element("pre", f"POST {path}\n{json.dumps(example)}", style=style)
