"""A registry in a folder: aliases change once and from what the caller saw, names and places are checked."""

from __future__ import annotations

import os
import pickle
import re
import threading
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from helpers.churn import ALL_VERSIONS, Record, X, Y
from helpers.records import hearing
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import Conflict, NotFound, RegistryError, UsageError
from modelkit.events import AliasSet


def test_the_way_of_a_model(registry):
    first = registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    assert (first.version, first.generation) == ("1.0.0", 1)
    second = registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate 7")
    registry.set_alias("churn", "previous", "1.0.0", expected=None, reason="kept")
    # By generation: another alias was set since, which is no conflict.
    registry.set_alias("churn", "champion", "2.0.0", expected=second.generation, reason="gate 8")
    assert {name: alias.version for name, alias in registry.aliases("churn").items()} == {
        "champion": "2.0.0",
        "previous": "1.0.0",
    }
    assert registry.generation("churn") == 4
    history = registry.history("churn", "champion")
    assert [(entry.version, entry.was) for entry in history] == [
        ("1.0.0", None),
        ("1.1.0", "1.0.0"),
        ("2.0.0", "1.1.0"),
    ]
    assert [release.version for release in registry.versions("churn")] == list(ALL_VERSIONS)
    assert registry.names() == ("churn",)
    with registry.load("churn") as model:
        assert model.manifest.version == "2.0.0"
        assert (pickle.loads(pickle.dumps(model)).predict(X) == model.predict(X)).all()
    with registry.load("churn", "1.0.0", threads=1) as model:
        assert model.manifest.version == "1.0.0"


def test_who_sets_an_alias_is_heard_of_and_a_promotion_sets_one(released):
    with hearing(AliasSet) as heard:
        released.set_alias("churn", "canary", "1.1.0", expected=None, reason="trial")
        with pytest.raises(Conflict):
            released.set_alias("churn", "canary", "1.0.0", expected=None, reason="late")
        policy = mk.RolloutPolicy([mk.RolloutStage(0.5)])
        for version, decision in (("2.0.0", "rollback"), ("1.1.0", "promote")):
            rollout = released.start_rollout("churn", version, policy, reason="try it")
            released.decide_rollout("churn", rollout, decision, reason=f"to {decision}")
    assert heard == [
        AliasSet("churn", "canary", "1.1.0", "", "trial"),
        AliasSet("churn", "champion", "1.1.0", "1.0.0", "to promote"),
    ]


def test_a_conflict_says_who_was_faster(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate 7")
    for expected, said in (("1.0.0", r"1\.0\.0"), (1, "1"), (None, "none")):
        message = rf"champion is 1\.1\.0, and you expected {said}: .*gate 7.*and expect 1\.1\.0$"
        with pytest.raises(Conflict, match=message) as caught:
            registry.set_alias("churn", "champion", "2.0.0", expected=expected, reason="late")
        assert caught.value.now.version == "1.1.0"
        assert pickle.loads(pickle.dumps(caught.value)).now == caught.value.now
    with pytest.raises(Conflict, match="expected=None makes it"):
        registry.set_alias("churn", "shadow", "2.0.0", expected="1.0.0", reason="late")


def test_there_and_back_is_seen_by_the_generation_and_not_by_the_version(registry):
    seen = registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="up")
    registry.set_alias("churn", "champion", "1.0.0", expected="1.1.0", reason="down")
    with pytest.raises(Conflict):
        registry.set_alias("churn", "champion", "2.0.0", expected=seen.generation, reason="late")
    registry.set_alias("churn", "champion", "2.0.0", expected="1.0.0", reason="by version")


def test_a_retired_version_gets_no_alias(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    with pytest.raises(Conflict, match="let the alias name another version first"):
        registry.retire("churn", "1.0.0", reason="wrong labels")
    registry.retire("churn", "2.0.0", reason="trained on the wrong labels")
    with pytest.raises(Conflict, match="trained on the wrong labels"):
        registry.set_alias("churn", "champion", "2.0.0", expected="1.0.0", reason="gate")
    registry.load("churn", "2.0.0").close()


@pytest.mark.parametrize("name", ["../churn", "a/b", "", "Churn", "..", "churn\n", "c" * 65])
def test_no_name_leaves_the_folder(registry, name):
    for ask in (
        lambda: registry.versions(name),
        lambda: registry.aliases(name),
        lambda: registry.load(name, "champion"),
        lambda: registry.set_alias(name, "champion", "1.0.0", expected=None, reason="x"),
        lambda: registry.load("churn", f"../{name}/1"),
        lambda: registry.keep("churn", "1.0.0", f"../{name}", b""),
        lambda: registry.set_alias("churn", name + "/", "1.0.0", expected=None, reason="x"),
    ):
        with pytest.raises(UsageError):
            ask()


def test_what_is_not_there_is_named(registry):
    with pytest.raises(
        NotFound, match=r"does not have churn@3\.0; it has: 1\.0\.0, 1\.1\.0, 2\.0\.0"
    ):
        registry.load("churn", "3.0")
    with pytest.raises(NotFound, match="no model 'chrun'; it has: churn"):
        registry.versions("chrun")
    with pytest.raises(UsageError, match="a reason is needed"):
        registry.set_alias("churn", "champion", "1.0.0", expected=None, reason=" ")
    with pytest.raises(UsageError, match="a folder or a bucket"):
        mk.Registry("ftp://models")
    file = registry.fetch("churn", "1.0.0")
    with pytest.raises(UsageError, match="is a file"):
        mk.Registry(file)


def test_a_folder_that_is_gone_is_said_to_be_gone(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    assert registry.aliases("churn")["champion"].version == "1.0.0"
    folder = Path(registry.url)
    folder.rename(folder.with_name("elsewhere"))
    for which in ("champion", "1.0.0"):
        with pytest.raises(NotFound, match=r"1\.0\.0 is gone from .*, which is not there any more"):
            registry.reference("churn", which)
    folder.with_name("elsewhere").rename(folder)
    (folder / "models" / "churn" / "versions" / "1.0.0.json").unlink()
    with pytest.raises(NotFound, match=r"churn 1\.0\.0 is gone from .*models\. Put back"):
        registry.load("churn", "champion")


def test_a_reference_says_what_it_is_of_and_where(registry):
    release = registry.version("churn", "1.1.0")
    told = f"Reference({registry.url!r}, 'churn', '1.1.0', digest={release.digest!r})"
    assert repr(registry.reference("churn", "1.1.0")) == told


def test_an_alias_and_a_version_never_share_a_name(registry, tmp_path):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    path = tmp_path / "champion.mk"
    mk.save(LogisticRegression().fit(X, Y), path, example=X, name="churn", version="champion")
    with pytest.raises(UsageError, match="cannot be named 'champion', which is an alias"):
        registry.register(path)
    with pytest.raises(UsageError, match="is an alias: pass"):
        registry.set_alias("churn", "other", "champion", expected=None, reason="x")
    registry.set_alias("churn", "canary", "1.0.0", expected=None, reason="x")
    for version, told in (("canary", "has an alias 'canary'"), ("v2", "")):
        mk.save(LogisticRegression().fit(X, Y), path, example=X, name="churn", version=version)
        if told:
            with pytest.raises(RegistryError, match=told):
                registry.register(path)
    stale = mk.Registry(registry.url)
    stale._versions.of = lambda name: []  # as whoever looked just before the version was there
    registry.register(path)
    registry.register(path)
    with pytest.raises(RegistryError, match="'v2' is a version of churn"):
        stale.set_alias("churn", "v2", "1.0.0", expected=None, reason="x")
    assert [entry.kind for entry in registry.history("churn")] == ["alias", "alias", "named"]


def test_of_an_alias_and_a_version_that_are_made_at_once_one_is(registry, tmp_path):
    for number in range(8):
        name = f"canary{number}"
        path = tmp_path / f"{name}.mk"
        mk.save(LogisticRegression().fit(X, Y), path, example=X, name="churn", version=name)
        made = []
        start = threading.Barrier(2)

        def attempt(work, made=made, start=start):
            start.wait()
            with suppress(RegistryError):
                work()
                made.append(work)

        one, other = mk.Registry(registry.url), mk.Registry(registry.url)
        works = [
            lambda path=path, one=one: one.register(path),
            lambda name=name, other=other: other.set_alias(
                "churn", name, "1.0.0", expected=None, reason="x"
            ),
        ]
        threads = [threading.Thread(target=attempt, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1


def test_it_is_pickled_by_its_place_and_works_from_elsewhere(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    near = mk.Registry("models")
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(near)).names() == ("churn",)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_readable(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    Path(registry._store.path("models/churn/log")).chmod(0o555)
    assert mk.Registry(registry.url).aliases("churn")["champion"].version == "1.0.0"
    with pytest.raises(PermissionError):
        registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate")


def test_its_card_shows_what_is_current(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="<b>first</b>")
    card = registry._repr_html_()
    assert "champion" in card
    assert "<b>first" not in card
    assert registry.aliases("churn")["champion"].at[:19].replace("T", " ") in card
    assert "1.0.0" in registry.version("churn", "champion")._repr_html_()


@pytest.mark.parametrize(
    ("where", "fix"),
    [
        ("s3//typo", "is it s3://typo?"),
        ("s3:/x", "is it s3://x?"),
        ("s3:bucket/x", "is it s3://bucket/x?"),
        ("S3://bucket", "is it s3://bucket?"),
        (PurePosixPath("gs://bucket/path"), "is it gs://bucket/path?"),
        ("https://storage.example/bucket", "such as s3://bucket/path, and the address"),
        ("https:/storage.example/bucket", "such as s3://bucket/path, and the address"),
        ("file:///srv/models", "give the path of a folder as it is"),
        ("", "'.' is the folder that you are in"),
    ],
)
def test_what_is_meant_as_a_url_is_no_folder(tmp_path, monkeypatch, where, fix):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(fix)):
        mk.Registry(where)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("where", ["s3", "gs-models", "models", "./s3:x", "a:b", "azure"])
def test_other_names_are_folders(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    assert mk.Registry(where).url == str(tmp_path / where)


@pytest.mark.parametrize(
    "url", ["s3://user:4711@bucket/x", "az://container/x?sig=4711", "gs://4711@b"]
)
def test_an_address_with_credentials_is_no_registry_and_is_not_shown(url):
    pytest.importorskip("obstore")
    with pytest.raises(UsageError, match="leave them out") as refused:
        mk.Registry(url)
    assert "4711" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://user:4711@h/x", "s3:/user:4711@b", "file:///x?token=4711"]
)
def test_an_address_that_is_misspelt_is_shown_without_credentials(url):
    with pytest.raises(UsageError, match="a registry is a folder or a bucket") as refused:
        mk.Registry(url)
    assert "4711" not in str(refused.value)


def test_a_model_is_not_a_package(registry):
    with pytest.raises(TypeError, match=r"not LogisticRegression; mk\.save writes"):
        registry.register(LogisticRegression())


def test_a_name_that_is_misspelt(registry, capsys):
    with pytest.raises(NotFound, match="has no model 'chrun'; it has: churn"):
        registry.load("chrun", "champion")
    assert main(["registry", registry.url, "history", "chrun"]) == 1
    assert "has no model 'chrun'; it has: churn" in capsys.readouterr().err


def test_to_register_again_needs_no_parents_and_says_what_differs(tmp_path, churn_packages):
    registry = mk.Registry(tmp_path / "models")
    registry.register(churn_packages / "1.0.0.mk", parents=["0.9.0"])
    assert registry.register(churn_packages / "1.0.0.mk").parents == ("0.9.0",)
    with pytest.raises(mk.errors.Conflict, match=r"with parents \('0.9.0',\), not \('0.8.0',\)"):
        registry.register(churn_packages / "1.0.0.mk", parents=["0.8.0"])


@pytest.mark.parametrize("expected", [True, np.int64(1), 1.0, b"1.0.0", ["1.0.0"]])
def test_an_expectation_of_another_type_is_refused(released, expected):
    with pytest.raises(TypeError, match="expected is a version"):
        released.set_alias("churn", "champion", "1.1.0", expected=expected, reason="gate")
    assert released.aliases("churn")["champion"].version == "1.0.0"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 << 70, "\ud800", [[[[]]]] * 2])
def test_no_value_closes_the_log(released, value):
    """An entry that nobody can read would stop every reader and writer for ever."""
    rollout = released.start_rollout("churn", "1.1.0", Record(), reason="try")
    nested = value
    for _ in range(20):
        nested = [nested] if isinstance(value, list) else nested
    with pytest.raises(RegistryError, match="the entry"):
        released.decide_rollout("churn", rollout, "hold", reason="x", about={"e": nested})
    assert mk.Registry(released.url).generation("churn") == 2
    released.decide_rollout("churn", rollout, "rollback", reason="x", about={"e": 1.5})


@pytest.mark.parametrize("reason", [None, 3, b"why", ""])
def test_a_reason_is_a_text(released, reason):
    with pytest.raises(UsageError, match="a reason is needed"):
        released.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason=reason)


def test_any_text_is_a_reason(released):
    for reason in ("\ud800", "\x00\x1b[31m", "ß" * 10_000, "</script>"):
        seen = released.aliases("churn")["champion"].generation
        released.set_alias("churn", "champion", "1.1.0", expected=seen, reason=reason)
        assert mk.Registry(released.url).aliases("churn")["champion"].reason == reason
    assert "<script" not in released._repr_html_()


def test_what_an_alias_names_is_a_copy(released):
    released.aliases("churn").clear()
    assert released.aliases("churn")["champion"].version == "1.0.0"


def test_a_version_on_trial_is_not_retired_and_a_retired_one_not_promoted(released):
    rollout = released.start_rollout("churn", "1.1.0", Record(), reason="try")
    with pytest.raises(Conflict, match="on trial"):
        released.retire("churn", "1.1.0", reason="wrong labels")
    released.decide_rollout("churn", rollout, "rollback", reason="worse")
    released.retire("churn", "1.1.0", reason="wrong labels")
    with pytest.raises(Conflict, match="wrong labels"):
        released.start_rollout("churn", "1.1.0", Record(), reason="again", force=True)


def test_an_alias_is_not_retired_as_if_it_were_a_version(released):
    with pytest.raises(UsageError, match="is an alias: pass"):
        released.retire("churn", "champion", reason="x")
    assert released.state("churn").retired == {}


@pytest.mark.parametrize(("given", "error", "said"), [
    ({"name": ["churn"]}, UsageError, r"name ['churn'] must be a string"),
    ({"alias": None}, UsageError, "alias None must be a string"),
    ({"version": 1.0}, UsageError, "version 1.0 must be a string"),
    ({"expected": 1.0}, TypeError, "expected is a version (str), the generation of an entry (int) or None"),
    ({"reason": 3}, UsageError, "a reason is needed"),
    ({"verdict": "promote"}, TypeError, "verdict is what mk.gate(...) gives, not 'promote'"),
])  # fmt: skip
def test_an_alias_of_other_types_says_which_are_needed(registry, given, error, said):
    usual = {
        "name": "churn",
        "alias": "champion",
        "version": "1.0.0",
        "expected": None,
        "reason": "r",
    }
    with pytest.raises(error, match=re.escape(said)):
        registry.set_alias(**(usual | given))
    assert registry.aliases("churn") == {}


def test_a_version_is_registered_with_a_verdict_alone(registry, churn_packages):
    with pytest.raises(TypeError, match=r"verdict is what mk\.gate"):
        registry.register(churn_packages / "1.0.0.mk", verdict=True)
