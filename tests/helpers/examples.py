"""How many examples a property is tried on, and how many rows of a table: some, or all in the profile "full"."""

import os

import pytest
from hypothesis import HealthCheck, settings

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"


def examples(number):
    """A sixth of what a property asks for, or all of it."""
    return number if FULL else max(5, number // 6)


def some(names, table, quick, *, ids=None):
    """Parametrize by a table, of which a quick run tries these rows, or this number spread over it."""
    rows = list(table)
    if not FULL and isinstance(quick, list):
        rows = quick
    elif not FULL:
        spread = slice(0, quick * (len(rows) // quick), len(rows) // quick)
        rows = rows[spread]
        ids = ids[spread] if isinstance(ids, list) else ids
    parametrized = pytest.mark.parametrize(names, rows, ids=ids)
    return lambda test: pytest.mark.property(parametrized(test))


# How long an example takes, and its making, is the machine's affair, which may be busy.
LASTING = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=examples(100), **LASTING)
settings.register_profile("full", max_examples=100, **LASTING)
settings.load_profile("full" if FULL else "quick")
