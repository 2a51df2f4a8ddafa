"""An App of two Models that add numbers up, and a client of it."""

import pytest
from helpers.apps import summed
from helpers.client import Client

import modelkit as mk


@pytest.fixture
def app():
    return mk.App({"sum": summed(), "other": summed()})


@pytest.fixture
def client(app):
    with Client(app) as client:
        yield client
