"""Every law is tried on every Model of one table; `helpers.models` has it, and the forms of their rows."""

import pytest
from helpers.models import BARE, LOADED, MODELS

import modelkit as mk
from modelkit.model.wrapper import layers_of


def of(table):
    @pytest.fixture(scope="module", params=[*table])
    def subject(request):
        found = table[request.param](request.getfixturevalue)
        yield found
        for layer in layers_of(found.model):  # a wrapper does not close what it wraps
            layer.close()

    return subject


@pytest.fixture(scope="module")
def audit_log(tmp_path_factory):
    """It hears of what others load as well, for as long as a file of tests lasts."""
    with mk.AuditLog(tmp_path_factory.mktemp("audit")) as log:
        yield log


subject = of(MODELS)  # every Model
bare = of(BARE)  # without wrappers
loaded = of(LOADED)  # from a package
