"""What the tests of the gate share: a Verdict, and the two models that are judged."""

import numpy as np
import pytest
from helpers.judged import ASKED

import modelkit as mk


@pytest.fixture(scope="session")
def rows(judged_rows):
    X, y = judged_rows
    return X.assign(region=np.where(np.arange(3000) % 3, "north", "south")), y


@pytest.fixture(scope="session")
def verdict(judged_pair, rows):
    return mk.gate(*judged_pair, *rows, **ASKED)


@pytest.fixture(scope="session")
def models(judged_pair):
    """The candidate and the champion, loaded."""
    with mk.load(judged_pair[0], threads=1) as one, mk.load(judged_pair[1], threads=1) as other:
        yield one, other
