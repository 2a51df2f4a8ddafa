"""An App as a blueprint of Flask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelkit.errors import importing
from modelkit.web.wsgi import Wsgi

if TYPE_CHECKING:
    from flask import Blueprint, Response

# The edge says which of them a path takes, in the form of all of its errors.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def blueprint_of(wsgi: Wsgi) -> Blueprint:
    """A blueprint that answers all paths below its `url_prefix`.

    Raises MissingExtraError if flask is not installed.
    """
    with importing("flask", "App.blueprint()"):
        from flask import Blueprint, Response, request

    def answer(path: str = "") -> Response:
        status, headers, body = wsgi.reply(request.environ, f"/{path}")
        return Response(body, status, headers)

    blueprint = Blueprint("modelkit", __name__)
    for rule in ("/", "/<path:path>"):
        blueprint.add_url_rule(
            rule, "answer", answer, methods=_METHODS, provide_automatic_options=False
        )
    return blueprint
