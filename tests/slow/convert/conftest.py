"""What is trained here is small, and takes one thread."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _small(one_thread):
    """Threads that wait for one another take longer than the training."""
