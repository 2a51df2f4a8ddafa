"""Paths and their templates, of which there are few."""

import re

import pytest
from helpers.apps import summed
from helpers.client import Client

import modelkit as mk
from modelkit.web.routes import route_of


def test_there_are_few_templates_whatever_is_asked():
    templates = set()
    heads = (
        "",
        "/v2",
        "/v2/models",
        "/models",
        "/v2/models/m",
        "/models/m",
        "/v2/models/m/versions",
    )
    tails = (
        "",
        "/",
        "/x",
        "/ready",
        "/infer",
        "/predict",
        "/1/infer",
        "/1",
        "/1/ready",
        "/health/live",
    )
    for head in heads:
        for tail in tails:
            route = route_of(head + tail)
            if route is not None:
                templates.add(route.template)
    assert len(templates) <= 15
    assert all(re.sub(r"{\w+}", "", template).isascii() for template in templates)


ROOTS = [
    ("/ml", "/ml/v2", 200),
    ("/ml", "/mlx/v2", 404),
    ("/ml", "/v2", 200),
    ("/v2", "/v2/v2", 200),
    ("/ml", "/ml", 200),
]


@pytest.mark.parametrize(("root", "path", "status"), ROOTS)
def test_a_root_path_is_taken_off_where_it_stands(root, path, status):
    app = mk.App({"sum": summed()})

    async def mounted(scope, receive, send):
        await app({**scope, "root_path": root}, receive, send)

    with Client(mounted) as client:
        assert client.get(path).status == status
