"""An App of two Models that add numbers up, and a client of it."""

import pytest
from helpers.apps import summed

import modelkit as mk
from modelkit.testing import Client


@pytest.fixture
def app():
    return mk.App({"sum": summed(), "other": summed()})


@pytest.fixture
def client(app):
    with Client(app) as client:
        yield client
