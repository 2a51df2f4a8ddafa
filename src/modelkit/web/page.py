"""The status page: the cards of the models, without a script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from modelkit.lifecycle.rollout.within import rollout_in
from modelkit.model.model import Model
from modelkit.report import html
from modelkit.web.examples import plain_example
from modelkit.web.reply import HeaderList, Reply

# Cards carry their styles in their elements, and nothing else is allowed.
_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
# A page scrolls as a whole, and a cell of a notebook does not; on a telephone, short words break too.
_STYLE = (
    "body>div{max-height:none!important}"
    "@media(max-width:640px){td>div,th>div{white-space:normal!important;min-width:0!important}}"
)
_HEADERS: HeaderList = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


def status_page(models: Mapping[str, Model], *, ready: bool) -> Reply:
    """A page with the card of every model, by the name under which it answers."""
    state = "ready" if ready else "not ready: closing"
    sections = "".join(_section(name, model) for name, model in models.items())
    about = "openapi.json describes what requests look like"
    body = f'<p style="margin:0">{state}</p><p style="margin:0">{about}</p>{sections}'
    return Reply(200, _HEADERS, html.page("modelkit", body, _STYLE).encode())


def _section(name: str, model: Model) -> str:
    title = f'<h2 style="font-size:15px;margin:1.5em 0 .5em">{html.escape(name)}</h2>'
    rollout = rollout_in(model)
    request = _request(name, model)
    if rollout is None:
        return f"{title}{request}{model._repr_html_()}"
    progress = rollout.status()
    models = "".join(held._repr_html_() for held in rollout.models)
    return f"{title}{request}{progress._repr_html_()}{progress.charts()}{models}"


def _request(name: str, model: Model) -> str:
    """A request that the model answers, where it is short."""
    example = plain_example(model.signature)
    if example is None:
        return ""
    path = html.escape(f"models/{quote(name, safe='')}/predict")
    style = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 .5em"
    return f'<pre style="{style}">POST {path}\n{html.escape(json.dumps(example))}</pre>'
