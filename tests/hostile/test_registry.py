"""What was done to the folder of a registry on purpose: foreign files, forged states and releases, logs that were damaged."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.churn import VERSIONS, Record, file_of, log_of, registry_at

import modelkit as mk
from modelkit.errors import IntegrityError, RegistryError, UntrustedError


@pytest.fixture
def registry(tmp_path, churn_packages):
    registry = registry_at(tmp_path / "models", churn_packages)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return registry


POLICY = mk.RolloutPolicy((mk.RolloutStage(0.5),))
FOREIGN = (b"", b"\xff\xfe", b"[]", b"null", b"{}", b"{", b"[" * 100_000, b"\x00" * 1_000_000)


@pytest.mark.parametrize("data", FOREIGN, ids=lambda data: repr(data[:4]))
def test_a_foreign_file_in_the_log_or_among_versions_is_named(registry, data):
    entry = log_of(registry, 2)
    entry.write_bytes(data)
    for ask in (
        lambda: mk.Registry(registry.url).aliases("churn"),
        lambda: registry.set_alias("churn", "b", "1.0.0", expected=None, reason="x"),
    ):
        with pytest.raises(RegistryError, match="log/0000000002"):
            ask()
    entry.unlink()
    file_of(registry, "models/churn/versions/9.json").write_bytes(data)
    with pytest.raises(RegistryError, match=r"versions/9\.json"):
        registry.version("churn", "9")


@pytest.mark.parametrize("name", ["0", "0000000000", "7", "readme.txt", "0000000002.bak"])
def test_a_foreign_file_beside_the_entries_is_read_over(registry, name):
    file_of(registry, f"models/churn/log/{name}").write_bytes(b"x")
    cold = mk.Registry(registry.url)
    assert cold.aliases("churn")["champion"].version == "1.0.0"
    for i in range(3):
        cold.set_alias("churn", f"a{i}", "1.0.0", expected=None, reason="x")
    assert len(mk.Registry(registry.url).aliases("churn")) == 4


def test_a_file_of_a_number_far_ahead_takes_no_time(registry):
    log_of(registry, 9_999_999_999).write_bytes(b"x")
    with pytest.raises(RegistryError, match="entry 2 of the log is gone"):
        mk.Registry(registry.url).aliases("churn")


def lose(registry, *numbers):
    for number in numbers:
        log_of(registry, number).unlink()


def copy_as(registry, number, other):
    plain = json.loads(log_of(registry, number).read_text()) | {"generation": other}
    log_of(registry, other).unlink(missing_ok=True)
    log_of(registry, other).write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda registry: lose(registry, 3), "entry 3 of the log is gone; put it back"),
        (lambda registry: lose(registry, 3, 4, 5), "entry 3 of the log is gone"),
        (lambda registry: copy_as(registry, 2, 9), "entry 9 of the log .* follows the entry"),
        (lambda registry: copy_as(registry, 1, 10), "entry 10 of the log .* follows the entry"),
        (lambda registry: log_of(registry, 10).mkdir(), "log/0000000010 is a folder"),
        (lambda registry: os.mkfifo(log_of(registry, 10)), "log/0000000010 is a pipe"),
        (lambda registry: log_of(registry, 10).symlink_to("/dev/zero"), "0010 is a pipe or a dev"),
        (
            lambda registry: log_of(registry, 10).symlink_to(log_of(registry, 10)),
            "0010 leads to no file",
        ),
        (
            lambda registry: os.truncate(
                os.open(log_of(registry, 10), os.O_CREAT | os.O_RDWR), 1 << 40
            ),
            "0010 has 1,099,511,627,776 bytes",
        ),
    ],
)
def test_a_log_that_was_damaged_is_an_error_and_no_old_alias_comes_back(registry, damage, told):
    for number in range(2, 10):
        version = "1.0.0" if number % 2 else "1.1.0"
        registry.set_alias("churn", "champion", version, expected=number - 1, reason="x")
    damage(registry)
    cold = mk.Registry(registry.url)
    for look in (cold.aliases, cold.history):
        with pytest.raises(RegistryError, match=told):
            look("churn")
    with pytest.raises(RegistryError, match=told):
        cold.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="x")


def test_an_entry_that_is_lost_before_it_was_read_is_told_to_who_follows(registry):
    reader = mk.Registry(registry.url)
    assert reader.generation("churn") == 1
    for number in (2, 3):
        registry.set_alias("churn", f"a{number}", "1.0.0", expected=None, reason="x")
    lose(registry, 2)
    for look in (
        lambda name: reader.log(name).check(),
        lambda name: reader.retire(name, "1.1.0", reason="x"),
    ):
        with pytest.raises(RegistryError, match="entry 2 of the log is gone"):
            look("churn")


def test_a_release_of_another_package_is_refused(registry):
    versions = file_of(registry, "models/churn/versions/1.1.0.json")
    other = json.loads(versions.with_name("1.0.0.json").read_text())
    versions.chmod(0o644)
    versions.write_text(json.dumps(json.loads(versions.read_text()) | {"digest": other["digest"]}))
    for work in (registry.load, registry.fetch, lambda *which: mk.load(registry.reference(*which))):
        with pytest.raises(IntegrityError, match=r"names the package of churn 1.0"):
            work("churn", "1.1.0")


@pytest.mark.parametrize(
    "change", [{"version": "1.1.0"}, {"generation": 0}, {"generation": -3}, {"generation": 9}]
)
def test_an_entry_that_states_a_forged_alias_is_an_error(registry, change):
    """What older ones state is believed where the log is opened; the history tells of it."""
    for name in "ab":
        registry.set_alias("churn", name, "1.0.0", expected=None, reason="x")
    before = registry.aliases("churn")
    for number in (3, 2):
        path = log_of(registry, number)
        kept = path.read_bytes()
        plain = json.loads(kept)
        plain["state"]["aliases"]["champion"] |= change
        path.chmod(0o644)
        path.write_text(json.dumps(plain))
        with pytest.raises(RegistryError, match="states other aliases than follow"):
            mk.Registry(registry.url).history("churn")
        path.write_bytes(kept)
    assert mk.Registry(registry.url).aliases("churn") == before


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 7},
        {"kind": "decided", "about": {"decision": "advance"}},
        {"kind": "decided", "about": {"decision": "advance", "stage": "2"}},
        {"kind": "decided", "about": {"decision": "advance", "stage": True}},
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(registry, change):
    registry.start_rollout("churn", "1.1.0", Record(), reason="try")
    plain = json.loads(log_of(registry, 2).read_text())
    log_of(registry, 3).write_text(json.dumps(plain | {"generation": 3} | change))
    with pytest.raises(RegistryError, match=r"log/0000000003|entry 3"):
        mk.Registry(registry.url).aliases("churn")


def test_foreign_files_and_folders_are_no_versions_and_no_models(registry):
    for name in ("models/Lost Found", "models/churn/versions/a.json.d", "models/.git"):
        Path(registry._store.path(name)).mkdir()
    for name in ("README.txt", "1.0.0.json.bak", "a b.json", ".x.tmp"):
        file_of(registry, f"models/churn/versions/{name}").write_text("x")
    for folder in ("models", "models/churn/versions", "models/churn/log"):
        file_of(registry, f"{folder}/circle").symlink_to("circle")
    registry = mk.Registry(registry.url)
    assert registry.names() == ("churn",)
    assert [release.version for release in registry.versions("churn")] == list(VERSIONS)
    assert "champion" in registry._repr_html_()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../evil"},
        {"version": "../../evil"},
        {"digest": "../../../evil"},
        {"digest": "A" * 64},
        {"verdict": "../x"},
    ],
)
def test_a_forged_release_leads_to_no_other_path(registry, tmp_path, change):
    path = file_of(registry, "models/churn/versions/1.0.0.json")
    plain = json.loads(path.read_text())
    path.chmod(0o644)
    path.write_text(json.dumps(plain | change))
    for ask in (
        lambda: registry.fetch("churn", "1.0.0", tmp_path / "a" / "b"),
        lambda: registry.load("churn", "1.0.0"),
        lambda: registry.versions("churn"),
    ):
        with pytest.raises(RegistryError, match=r"versions/1\.0\.0\.json"):
            ask()
    assert not (tmp_path / "a").exists()


def test_a_forged_entry_leads_to_no_other_path(registry):
    rollout = registry.start_rollout("churn", "1.1.0", POLICY, reason="x")
    forge = {"id": "x/../../../../../evil"}
    rollout = replace(rollout, **forge)
    with pytest.raises(RegistryError, match="and not 32 hexadecimal digits"):
        registry.rollout_folder("churn", rollout)


def test_a_rollout_in_a_log_that_lost_an_entry_takes_no_counts_of_another(registry):
    """Of the same number: what its processes counted would decide at once."""
    first = registry.start_rollout("churn", "1.1.0", POLICY, reason="x")
    registry.rollout_folder("churn", first).create("sums/0000000001", b"counts")
    log_of(registry, first.generation).unlink()
    again = mk.Registry(registry.url)
    second = again.start_rollout("churn", "1.1.0", POLICY, reason="x")
    assert second.generation == first.generation
    assert again.rollout_folder("churn", second).read("sums/0000000001") is None


def test_a_folder_in_the_place_of_an_entry_takes_no_descriptors(registry):
    log_of(registry, 2).mkdir()
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("the system does not list open files")
    before = len([*open_files.iterdir()])
    for _ in range(50):
        with pytest.raises(RegistryError, match=r"log/0000000002 is a folder"):
            registry.generation("churn")
    assert len([*open_files.iterdir()]) <= before + 2


def test_nothing_is_written_after_a_log_that_was_removed_or_replaced(registry, churn_packages):
    stale = mk.Registry(registry.url)
    for i in range(4):
        registry.set_alias("churn", f"a{i}", "1.0.0", expected=None, reason="x")
    assert stale.generation("churn") == 5
    shutil.rmtree(file_of(registry, "models/churn/log/x").parent)
    with pytest.raises(RegistryError, match="the log was removed, or replaced"):
        stale.set_alias("churn", "b", "1.0.0", expected=None, reason="x")
    shutil.rmtree(registry.url)
    again = mk.Registry(registry.url)
    again.register(churn_packages / "1.0.0.mk")
    for i in range(5):
        again.set_alias("churn", f"b{i}", "1.0.0", expected=None, reason="y")
    with pytest.raises(RegistryError, match="the log was removed, or replaced"):
        stale.set_alias("churn", "b", "1.0.0", expected=None, reason="x")
    assert again.generation("churn") == 5
    log_of(again, 3).unlink()
    with pytest.raises(RegistryError, match="entry 3 of the log is gone"):
        again.history("churn")


def test_a_damaged_package_is_not_registered_again_as_if_it_were_whole(registry, churn_packages):
    path = registry.fetch("churn", "1.0.0")
    path.chmod(0o644)
    path.write_bytes((churn_packages / "1.1.0.mk").read_bytes())
    with pytest.raises(IntegrityError):
        registry.register(churn_packages / "1.0.0.mk")
    for options in ({}, {"digest": None}):
        with pytest.raises(IntegrityError):
            registry.load("churn", "1.0.0", **options)


def test_a_joblib_package_needs_a_digest_of_the_caller(registry, churn_packages):
    """Whoever may write a registry may not choose the code that its readers run."""
    release = registry.register(churn_packages / "joblib.mk")
    for options in ({}, {"allow": {"joblib"}}, {"digest": release.digest}):
        with pytest.raises(UntrustedError):
            registry.load("pickled", "1", **options)
    for digest in ([], ["0" * 64]):
        with pytest.raises(IntegrityError, match="not among the digests that you trust"):
            registry.load("pickled", "1", allow={"joblib"}, digest=digest)
    for digest in (release.digest, ["0" * 64, f"sha256:{release.digest}"]):
        registry.load("pickled", "1", allow={"joblib"}, digest=digest).close()
