"""Law 12. A version is immutable; an alias changes atomically and only from the value the caller saw.

Crashes at every moment: `tests/slow/package/test_write.py` and `tests/slow/lifecycle`.
"""

import pytest
from helpers.churn import VERSIONS, X, Y, save_versions
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import Conflict

CHANGES = st.lists(
    st.tuples(st.sampled_from(VERSIONS), st.sampled_from([None, *VERSIONS])), max_size=8
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return save_versions(tmp_path_factory.mktemp("versions"))


@pytest.fixture
def registry(packages, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    for version in VERSIONS:
        registry.register(packages / f"{version}.mk")
    return registry


def test_a_version_is_never_replaced(registry, packages, tmp_path):
    before = {release.version: release.digest for release in registry.versions("churn")}
    other = LogisticRegression(C=9.0).fit(X, Y)
    mk.save(other, tmp_path / "other.mk", example=X, name="churn", version=VERSIONS[0])
    with pytest.raises(Conflict):
        registry.register(tmp_path / "other.mk")
    registry.register(packages / f"{VERSIONS[0]}.mk")  # the same once more
    assert {release.version: release.digest for release in registry.versions("churn")} == before


@settings(max_examples=examples(60))
@given(changes=CHANGES)
def test_an_alias_changes_only_from_the_value_that_was_seen(packages, tmp_path_factory, changes):
    registry = mk.Registry(tmp_path_factory.mktemp("registry"))
    for version in VERSIONS:
        registry.register(packages / f"{version}.mk")
    current, moves = None, 0
    for version, seen in changes:
        if seen == current:
            registry.set_alias("churn", "champion", version, expected=seen, reason="test")
            current, moves = version, moves + 1
        else:
            with pytest.raises(Conflict):
                registry.set_alias("churn", "champion", version, expected=seen, reason="test")
        aliases = mk.Registry(registry.url).aliases("churn")
        assert {name: alias.version for name, alias in aliases.items()} == (
            {} if current is None else {"champion": current}
        )
    assert len(registry.history("churn", "champion")) == moves
