"""The status page: the cards of the models, without a script."""

from __future__ import annotations

from collections.abc import Mapping

from modelkit import html
from modelkit.model import Model
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


def status_page(
    models: Mapping[str, Model],
    *,
    ready: bool,
) -> Reply:
    """A page with the card of every model, by the name under which it answers."""
    state = "ready" if ready else "not ready: closing"
    sections = "".join(_section(name, model) for name, model in models.items())
    body = f'<p style="margin:0">{state}</p>{sections}'
    return Reply(200, _HEADERS, html.page("modelkit", body, _STYLE).encode())


def _section(
    name: str,
    model: Model,
) -> str:
    return f'<h2 style="font-size:15px;margin:1.5em 0 .5em">{html.escape(name)}</h2>{model._repr_html_()}'
