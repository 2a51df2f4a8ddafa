"""What the tests of drift share: a Profile of a few rows, and one of real days."""

import pytest
from helpers.flights import rows_of
from helpers.streams import APART, SMALL

import modelkit as mk


@pytest.fixture(scope="session")
def small():
    return mk.Profile.fit(SMALL, reference=APART)


@pytest.fixture(scope="session")
def of_days():
    return mk.Profile.fit(
        rows_of(range(30)), reference=rows_of(range(30, 90)), unit="day", time="when"
    )
