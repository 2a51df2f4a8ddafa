"""Law 12. A version is immutable; an alias changes atomically and only from the value the caller saw.

Processes that are killed: `tests/slow/package/test_write.py` and `tests/slow/lifecycle`.
"""

import shutil

import pytest
from helpers.churn import VERSIONS, Record, X, Y, registry_at
from helpers.examples import examples
from helpers.stores import Killed, deadly
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import Conflict
from modelkit.lifecycle.gate.holdout import counted_use

CHANGES = st.lists(
    st.tuples(st.sampled_from(VERSIONS), st.sampled_from([None, *VERSIONS])), max_size=8
)


@pytest.fixture
def registry(churn_packages, tmp_path):
    return registry_at(tmp_path / "models", churn_packages)


def test_a_version_is_never_replaced(registry, churn_packages, tmp_path):
    before = {release.version: release.digest for release in registry.versions("churn")}
    other = LogisticRegression(C=9.0).fit(X, Y)
    mk.save(other, tmp_path / "other.mk", example=X, name="churn", version=VERSIONS[0])
    with pytest.raises(Conflict):
        registry.register(tmp_path / "other.mk")
    registry.register(churn_packages / f"{VERSIONS[0]}.mk")  # the same once more
    assert {release.version: release.digest for release in registry.versions("churn")} == before


@settings(max_examples=examples(60))
@given(changes=CHANGES)
def test_an_alias_changes_only_from_the_value_that_was_seen(
    churn_packages, tmp_path_factory, changes
):
    registry = registry_at(tmp_path_factory.mktemp("registry"), churn_packages)
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


def named_like_an_alias(registry, packages):
    """A package that makes three files: an entry for its name, the package and the release."""
    registry.register(packages / "narrow.mk")


def by_a_verdict(registry, packages):
    """A record of a verdict too, beside a release that is there."""
    digest = registry.version("churn", "1.0.0").model_digest
    registry.register(packages / "1.0.0.mk", verdict=Record('{"a": 1}', digest))


def promoted(registry, packages):
    """A rollout that begins, goes on, and ends as the alias moves."""
    rollout = registry.state("churn").rollout
    if registry.aliases("churn")["champion"].version == "1.1.0":
        return
    if rollout is None:
        rollout = registry.start_rollout("churn", "1.1.0", Record(), reason="try")
    if rollout.stage == 0:
        registry.decide_rollout("churn", rollout, "advance", reason="on")
    rollout = registry.state("churn").rollout
    registry.decide_rollout("churn", rollout, "promote", reason="good")


def moved(registry, packages):
    if registry.aliases("churn")["champion"].version == "1.0.0":
        registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate")


def retired(registry, packages):
    if "1.1.0" not in registry.state("churn").retired:
        registry.retire("churn", "1.1.0", reason="wrong labels")


def kept(registry, packages):
    registry.keep("churn", "1.1.0", "report.json", b"{}")


def used(registry, packages):
    """Two gates on one hold-out, each of which is one use however often it is counted."""
    folder = registry.hold_out_folder("0" * 64)
    assert [counted_use(folder, gate) for gate in ("a", "b")] == [1, 2]


OPERATIONS = [named_like_an_alias, by_a_verdict, promoted, moved, retired, kept, used]


def seen(url):
    """Everything that a registry says, without times, ids and who."""
    registry = mk.Registry(url)
    state = registry.state("churn")
    with registry.load("churn") as model:
        version = model.manifest.version
    for release in registry.versions("churn"):
        assert registry.fetch("churn", release.version).exists()  # and it is whole
    return (
        version,
        [(release.version, release.verdict) for release in registry.versions("churn")],
        [(entry.kind, entry.version, entry.alias) for entry in registry.history("churn")],
        {name: alias.version for name, alias in state.aliases.items()},
        (state.names, {*state.retired}, state.rollout is None),
    )


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_whoever_is_killed_between_two_writes_is_gone_on_with(churn_packages, tmp_path, operation):
    """The next one finds the old or the new, does the same again, and comes to the same."""
    template = tmp_path / "before"
    before = registry_at(template, churn_packages)
    before.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    shutil.copytree(template, tmp_path / "undisturbed")
    registry, store = deadly(tmp_path / "undisturbed", 0, made=False)
    operation(registry, churn_packages)
    writes = -store.left
    assert writes >= 1
    undisturbed = seen(tmp_path / "undisturbed")
    for number in range(1, writes + 1):
        for made in (False, True):
            where = tmp_path / f"{number} {made}"
            shutil.copytree(template, where)
            with pytest.raises(Killed):
                operation(deadly(where, number, made=made)[0], churn_packages)
            between = seen(where)  # the next reader finds a whole registry
            assert between[2] == undisturbed[2][: len(between[2])]
            operation(mk.Registry(where), churn_packages)
            assert seen(where) == undisturbed
