"""Which error of the library is whose fault over HTTP: the client's, the time's, or ours."""

import pytest
from helpers.errors import sample, tree

from modelkit import errors
from modelkit.web.replies import refused_by

STATUSES = {
    "SignatureError": 422,
    "ExplainError": 422,
    "DeadlineExceeded": 504,
    "ClosedError": 503,
    "MissingExtraError": 501,
    "AccessDenied": 403,
}


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_an_error_has_the_status_of_whose_fault_it_is(kind):
    """A UsageError, as all that is not in the table, is a mistake of the host: a 500, and no 400."""
    refused = refused_by(sample(kind))
    assert (None if refused is None else refused.status) == STATUSES.get(kind.__name__)
    assert kind.__module__ == errors.__name__
