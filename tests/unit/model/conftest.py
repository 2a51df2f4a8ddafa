"""A small Model, and every verb to ask it by."""

import asyncio
import inspect

import pytest
from helpers.flowers import FLOWER, VERBS, Recorder, flower

from modelkit import FunctionModel


@pytest.fixture
def model():
    return FunctionModel(flower, FLOWER)


@pytest.fixture(params=VERBS)
def ask(request):
    """Each verb as a function of the model, the rows and its keywords."""
    return lambda model, X, **keywords: getattr(model, request.param)(X, **keywords)


@pytest.fixture(params=[*VERBS, *(f"a{verb}" for verb in VERBS)])
def ask_or_await(request):
    """Each verb, and each async verb awaited on a loop of its own."""

    def ask(model, X, **keywords):
        answer = getattr(model, request.param)(X, **keywords)
        return asyncio.run(answer) if inspect.iscoroutine(answer) else answer

    return ask


@pytest.fixture
def recorder(model):
    return Recorder(model)
