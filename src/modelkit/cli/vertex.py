"""The paths at which Vertex AI asks a container of one's own."""

from __future__ import annotations

from typing import Any

from modelkit.cli.settings import Settings


def routed(app: Any, name: str, settings: Settings) -> Any:
    """An ASGI application that answers at these paths too, if there are any."""
    targets = {
        settings.health_route: "/v2/health/ready",
        settings.predict_route: f"/models/{name}/instances",
    }
    paths = {path: target for path, target in targets.items() if path is not None}
    if not paths:
        return app

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        target = paths.get(scope.get("path"))
        await app(scope if target is None else {**scope, "path": target}, receive, send)

    return answer
