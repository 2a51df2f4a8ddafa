"""Rows that several tests here fit on, and fresh ones."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def rows():
    return np.random.default_rng(0).normal(size=(120, 3))


@pytest.fixture(scope="session")
def fresh():
    return np.random.default_rng(1).normal(size=(300, 3)) * 2


@pytest.fixture(scope="session")
def target(rows):
    return rows @ [1.0, 2.0, 3.0]
