"""How many examples a property is tried on: a sixth of what it asks for, or all in the profile "full"."""

import os

from hypothesis import settings

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"


def examples(number):
    return number if FULL else max(5, number // 6)


# How long an example takes is the machine's affair, which may be busy.
settings.register_profile("quick", max_examples=examples(100), deadline=None)
settings.register_profile("full", max_examples=100, deadline=None)
settings.load_profile("full" if FULL else "quick")
