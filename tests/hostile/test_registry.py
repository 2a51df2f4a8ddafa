"""What was done to the registry on purpose: foreign files, forged states, forks, and values that poison a log."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.churn import VERSIONS, X, Y, registry_at, save_versions
from helpers.processes import forks, passes_in_a_child
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import (
    Conflict,
    IntegrityError,
    NotFound,
    PackageError,
    RegistryError,
    UntrustedError,
)
from modelkit.lifecycle.registry import journal as journals
from modelkit.lifecycle.registry.log import KEPT_EVERY, State, state_name, write_state


class Record:
    """A policy or a verdict, as far as a registry reads one."""

    def __init__(self, text="{}", candidate_digest=""):
        self.text = text
        self.candidate_digest = candidate_digest

    def to_json(self):
        return self.text


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = save_versions(tmp_path_factory.mktemp("packages"))
    model = LogisticRegression(C=9.0).fit(X, Y)
    mk.save(model, folder / "other.mk", example=X, name="churn", version="1.0.0")
    mk.save(model, folder / "joblib.mk", example=X, name="pickled", version="1", format="joblib")
    return folder


@pytest.fixture
def registry(tmp_path, packages):
    registry = registry_at(tmp_path / "models", packages)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return registry


def file_of(registry, name):
    path = Path(registry._store.path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def log_of(registry, number):
    return file_of(registry, f"models/churn/log/{number:010d}")


@pytest.mark.parametrize("expected", [True, np.int64(1), 1.0, b"1.0.0", ["1.0.0"]])
def test_an_expectation_of_another_type_is_refused(registry, expected):
    with pytest.raises(TypeError, match="expected is a version"):
        registry.set_alias("churn", "champion", "1.1.0", expected=expected, reason="gate")
    assert registry.aliases("churn")["champion"].version == "1.0.0"


@pytest.mark.parametrize("parents", ["1.0.0", [1], [b"1.0.0"], [None]])
def test_parents_that_could_not_be_read_again_are_refused(tmp_path, packages, parents):
    registry = mk.Registry(tmp_path / "models")
    with pytest.raises(TypeError, match="parents are a list"):
        registry.register(packages / "1.0.0.mk", parents=parents)
    assert registry.names() == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 << 70, "\ud800", [[[[]]]] * 2])
def test_no_value_closes_the_log(registry, value):
    """An entry that nobody can read would stop every reader and writer for ever."""
    rollout = registry.start_rollout("churn", "1.1.0", Record(), reason="try")
    nested = value
    for _ in range(20):
        nested = [nested] if isinstance(value, list) else nested
    with pytest.raises(RegistryError, match="the entry"):
        registry.decide_rollout("churn", rollout, "hold", reason="x", about={"e": nested})
    assert mk.Registry(registry.url).generation("churn") == 2
    registry.decide_rollout("churn", rollout, "rollback", reason="x", about={"e": 1.5})


@pytest.mark.parametrize("reason", [None, 3, b"why", ""])
def test_a_reason_is_a_text(registry, reason):
    with pytest.raises(RegistryError, match="a reason is needed"):
        registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason=reason)


def test_any_text_is_a_reason(registry):
    for reason in ("\ud800", "\x00\x1b[31m", "ß" * 10_000, "</script>"):
        seen = registry.aliases("churn")["champion"].generation
        registry.set_alias("churn", "champion", "1.1.0", expected=seen, reason=reason)
        assert mk.Registry(registry.url).aliases("churn")["champion"].reason == reason
    assert "<script" not in registry._repr_html_()


def test_what_an_alias_names_is_a_copy(registry):
    registry.aliases("churn").clear()
    assert registry.aliases("churn")["champion"].version == "1.0.0"


def test_a_version_on_trial_is_not_retired_and_a_retired_one_not_promoted(registry):
    rollout = registry.start_rollout("churn", "1.1.0", Record(), reason="try")
    with pytest.raises(Conflict, match="on trial"):
        registry.retire("churn", "1.1.0", reason="wrong labels")
    registry.decide_rollout("churn", rollout, "rollback", reason="worse")
    registry.retire("churn", "1.1.0", reason="wrong labels")
    with pytest.raises(Conflict, match="wrong labels"):
        registry.start_rollout("churn", "1.1.0", Record(), reason="again", force=True)


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
        registry.release("churn", "9")


@pytest.mark.parametrize("data", FOREIGN, ids=lambda data: repr(data[:4]))
@pytest.mark.parametrize("name", [state_name(50), "0", "0000000000", "readme.txt"])
def test_a_foreign_file_among_the_kept_states_is_read_over(registry, name, data):
    file_of(registry, f"models/churn/states/{name}").write_bytes(data)
    cold = mk.Registry(registry.url)
    assert cold.aliases("churn")["champion"].version == "1.0.0"
    for i in range(KEPT_EVERY):
        cold.set_alias("churn", f"a{i}", "1.0.0", expected=None, reason="x")
    assert len(mk.Registry(registry.url).aliases("churn")) == KEPT_EVERY + 1


def test_a_state_of_another_log_is_not_believed(registry):
    """Its last entry is another one."""
    for generation, last in ((1, "another"), (1, "")):
        state = file_of(registry, f"models/churn/states/{state_name(generation)}")
        state.write_bytes(write_state(State(generation=generation, last=last)))
        cold = mk.Registry(registry.url)
        assert cold.generation("churn") == 1
        assert cold.aliases("churn")["champion"].version == "1.0.0"
        state.unlink()


def edit(change):
    def work(registry, number):
        path = log_of(registry, number)
        path.chmod(0o644)
        path.write_text(json.dumps(json.loads(path.read_text()) | change(registry)))

    return work


def lose(registry, *numbers, states=False):
    if states:
        shutil.rmtree(file_of(registry, "models/churn/states/x").parent)
    for number in numbers:
        log_of(registry, number).unlink()


def copy_as(registry, number, other):
    plain = json.loads(log_of(registry, number).read_text()) | {"generation": other}
    log_of(registry, other).unlink(missing_ok=True)
    log_of(registry, other).write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda registry: lose(registry, 3, states=True),
            "entry 3 of the log is gone; put it back",
        ),
        (lambda registry: lose(registry, 3, 4, 5, states=True), "entry 3 of the log is gone"),
        (lambda registry: lose(registry, 8, 9), "entry 8 of the log is gone"),  # a state is kept
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
    for look in (reader.check_log, lambda name: reader.retire(name, "1.1.0", reason="x")):
        with pytest.raises(RegistryError, match="entry 2 of the log is gone"):
            look("churn")


def test_entries_of_an_earlier_modelkit_follow_without_the_id_of_the_one_before(registry):
    registry.set_alias("churn", "canary", "1.1.0", expected=None, reason="x")
    edit(lambda _: {"previous": None})(registry, 2)
    cold = mk.Registry(registry.url)
    cold.set_alias("churn", "canary", "1.0.0", expected="1.1.0", reason="x")
    assert len(cold.history("churn")) == 3


def test_a_package_that_is_rewritten_while_it_is_registered_is_kept_as_it_was_checked(
    registry, packages, tmp_path, monkeypatch
):
    path = tmp_path / "written.mk"
    path.write_bytes((packages / "other.mk").read_bytes())
    fresh = mk.Registry(tmp_path / "fresh")
    add = fresh._versions.add

    def rewritten(*args):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\0" * 64)
        return add(*args)

    monkeypatch.setattr(fresh._versions, "add", rewritten)
    fresh.register(path)
    fresh.load("churn", "1.0.0").close()
    with pytest.raises(PackageError):
        registry.register(path)  # what it is now


def test_a_release_of_another_package_is_refused(registry):
    versions = file_of(registry, "models/churn/versions/1.1.0.json")
    other = json.loads(versions.with_name("1.0.0.json").read_text())
    versions.chmod(0o644)
    versions.write_text(json.dumps(json.loads(versions.read_text()) | {"digest": other["digest"]}))
    for work in (registry.load, registry.fetch, lambda *which: mk.load(registry.reference(*which))):
        with pytest.raises(IntegrityError, match=r"names the package of churn 1.0"):
            work("churn", "1.1.0")


def test_the_history_tells_of_a_state_that_was_forged(registry):
    """Whoever may write the folder may write a state as well; the log then says otherwise."""
    (entry,) = registry.history("churn")
    forged = registry.state("churn").after(entry)
    alias = forged.aliases["champion"]
    for told in ({"version": "1.1.0"}, {"generation": 0}, {"generation": -3}, {"generation": 9}):
        plain = json.loads(write_state(forged))
        plain["aliases"]["champion"] |= told
        state = file_of(registry, f"models/churn/states/{state_name(1)}")
        state.write_text(json.dumps(plain))
        with pytest.raises(RegistryError, match="a kept state says that champion is"):
            mk.Registry(registry.url).history("churn")
        state.unlink()
    assert mk.Registry(registry.url).aliases("churn")["champion"] == alias


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
    for folder in ("models", "models/churn/versions", "models/churn/states", "models/churn/log"):
        file_of(registry, f"{folder}/circle").symlink_to("circle")
    registry = mk.Registry(registry.url)
    assert registry.names() == ("churn",)
    assert [release.version for release in registry.versions("churn")] == list(VERSIONS)
    assert "champion" in registry._repr_html_()


def test_what_a_dead_writer_left_is_removed_by_a_later_one(registry, tmp_path):
    """And not what another one may still be writing, nor what is not of a registry."""
    names = [f".{'a' * 32}.tmp", f".{'b' * 32}.tmp", ".x.tmp"]
    left, written, foreign = (file_of(registry, f"models/churn/log/{name}") for name in names)
    for path in (left, written, foreign):
        path.write_text("x")
    for path in (left, foreign):
        os.utime(path, (time.time() - 90_000,) * 2)
    mk.Registry(registry.url).set_alias("churn", "old", "1.0.0", expected=None, reason="r")
    assert [path.exists() for path in (left, written, foreign)] == [False, True, True]


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


def test_a_name_that_is_taken_by_nothing_that_can_be_read_is_told(registry, monkeypatch):
    """A link that leads nowhere, where a writer waited for a minute and a half."""
    monkeypatch.setattr(journals, "PAUSE", None)  # who waits fails
    log_of(registry, 2).symlink_to("/nowhere/at/all")
    with pytest.raises(RegistryError, match=r"log/0000000002 is taken"):
        registry.set_alias("churn", "b", "1.0.0", expected=None, reason="x")


class Unseen:
    """A store, of which an NFS client does not see the newest file yet."""

    def __init__(self, store):
        self.store = store

    def create(self, name, data):
        return not name.endswith("log/0000000002") and self.store.create(name, data)

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_a_file_that_cannot_be_seen_yet_is_waited_for(registry, monkeypatch):
    monkeypatch.setattr(journals, "UNSEEN", 0.05)
    registry._journal("churn")._store = Unseen(registry._store)
    with pytest.raises(RegistryError, match=r"log/0000000002 is taken"):
        registry.set_alias("churn", "b", "1.0.0", expected=None, reason="x")


def test_nothing_is_written_after_a_log_that_was_removed_or_replaced(registry, packages):
    stale = mk.Registry(registry.url)
    for i in range(4):
        registry.set_alias("churn", f"a{i}", "1.0.0", expected=None, reason="x")
    assert stale.generation("churn") == 5
    shutil.rmtree(file_of(registry, "models/churn/log/x").parent)
    with pytest.raises(RegistryError, match="the log was removed, or replaced"):
        stale.set_alias("churn", "b", "1.0.0", expected=None, reason="x")
    shutil.rmtree(registry.url)
    again = mk.Registry(registry.url)
    again.register(packages / "1.0.0.mk")
    for i in range(5):
        again.set_alias("churn", f"b{i}", "1.0.0", expected=None, reason="y")
    with pytest.raises(RegistryError, match="the log was removed, or replaced"):
        stale.set_alias("churn", "b", "1.0.0", expected=None, reason="x")
    assert again.generation("churn") == 5
    log_of(again, 3).unlink()
    with pytest.raises(RegistryError, match="entry 3 of the log is gone"):
        again.history("churn")


def test_a_damaged_package_is_not_registered_again_as_if_it_were_whole(registry, packages):
    path = registry.fetch("churn", "1.0.0")
    path.chmod(0o644)
    path.write_bytes((packages / "1.1.0.mk").read_bytes())
    with pytest.raises(IntegrityError):
        registry.register(packages / "1.0.0.mk")
    for options in ({}, {"digest": None}):
        with pytest.raises(IntegrityError):
            registry.load("churn", "1.0.0", **options)


def test_a_joblib_package_needs_a_digest_of_the_caller(registry, packages):
    """Whoever may write a registry may not choose the code that its readers run."""
    release = registry.register(packages / "joblib.mk")
    for options in ({}, {"allow": {"joblib"}}, {"digest": release.digest}):
        with pytest.raises(UntrustedError):
            registry.load("pickled", "1", **options)
    for digest in ([], ["0" * 64]):
        with pytest.raises(IntegrityError, match="not among the digests that you trust"):
            registry.load("pickled", "1", allow={"joblib"}, digest=digest)
    for digest in (release.digest, ["0" * 64, f"sha256:{release.digest}"]):
        registry.load("pickled", "1", allow={"joblib"}, digest=digest).close()


def test_a_verdict_belongs_to_its_release(tmp_path, packages):
    registry = mk.Registry(tmp_path / "models")
    # Its writer died before it made the release.
    digest = hashlib.sha256(b'{"a": 1}').hexdigest()
    registry._store.create(f"blobs/sha256/{digest}.verdict.json", b'{"a": 1}')
    model = mk.inspect(packages / "1.0.0.mk").model_digest
    release = registry.register(packages / "1.0.0.mk", verdict=Record('{"b": 2}', model))
    assert registry.kept("churn", "1.0.0", "verdict.json") == b'{"b": 2}'
    assert release.verdict == hashlib.sha256(b'{"b": 2}').hexdigest()
    with pytest.raises(Conflict, match="registered with verdict"):
        registry.register(packages / "1.0.0.mk", verdict=Record('{"a": 1}', model))
    assert registry.kept("churn", "1.0.0", "verdict.json") == b'{"b": 2}'
    registry.register(packages / "1.1.0.mk")
    with pytest.raises(NotFound):
        registry.kept("churn", "1.1.0", "verdict.json")
    for version in VERSIONS:
        with pytest.raises(RegistryError, match="registered with"):
            registry.keep("churn", version, "verdict.json", b"{}")


@forks
def test_a_fork_while_a_registry_is_in_use_hangs_nobody(registry):
    stop = threading.Event()

    def poll():
        while not stop.is_set():
            registry.generation("churn")

    def check():
        signal.alarm(20)
        assert registry.aliases("churn")["champion"].version == "1.0.0"

    threads = [threading.Thread(target=poll) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert all(passes_in_a_child(check) for _ in range(10))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(os.name != "posix", reason="needs a umask")
@pytest.mark.parametrize(("umask", "modes"), [(0o022, (0o444, 0o755)), (0o077, (0o400, 0o700))])
def test_files_are_read_by_whom_the_umask_says(tmp_path, packages, umask, modes):
    code = (
        "import os, sys, modelkit as mk\n"
        "os.umask(int(sys.argv[3]))\n"
        "registry = mk.Registry(sys.argv[1])\n"
        "registry.register(sys.argv[2])\n"
        "print(registry.fetch('churn', '1.0.0', sys.argv[1] + '-copy'))"
    )
    where = tmp_path / "models"
    command = [sys.executable, "-c", code, str(where), str(packages / "1.0.0.mk"), str(umask)]
    copy = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    found = [path for path in where.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in found} == {modes[0]}
    assert {path.parent.stat().st_mode & 0o777 for path in found} == {modes[1]}
    assert copy.stat().st_mode & 0o777 == 0o666 & ~umask


REGISTER = """
import sys
import modelkit as mk
registry = mk.Registry(sys.argv[1])
sys.stdin.readline()
try:
    print(registry.register(sys.argv[2], parents=[sys.argv[3]]).digest)
except mk.errors.Conflict as error:
    print("conflict")
"""


def test_of_two_packages_of_one_version_one_is_registered(tmp_path, packages):
    where = tmp_path / "models"
    command = [sys.executable, "-c", REGISTER, str(where)]
    names = ("1.0.0.mk", "other.mk")
    workers = [
        subprocess.Popen(
            [*command, str(packages / name), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert sorted(told).count("conflict") == 1
    release = mk.Registry(where).release("churn", "1.0.0")
    won = told.index(release.digest)
    assert release.parents == (names[won],)
    with mk.Registry(where).load("churn", "1.0.0") as model:
        assert model.manifest.digest == release.digest


def test_a_copy_that_fails_leaves_nothing_behind(registry, tmp_path):
    target = registry.fetch("churn", "1.0.0", tmp_path / "here")
    target.unlink()
    target.mkdir()
    with pytest.raises(OSError, match="director"):
        registry.fetch("churn", "1.0.0", tmp_path / "here")
    target.rmdir()
    assert registry.fetch("churn", "1.0.0", tmp_path / "here") == target
    assert list((tmp_path / "here").iterdir()) == [target]


COUNT = """
import sys
import modelkit as mk
registry = mk.Registry(sys.argv[1])
done = 0
while done < 40:
    now = registry.aliases("churn")["champion"]
    reason = "1" if now.reason == "first" else str(int(now.reason) + 1)
    try:
        registry.set_alias("churn", "champion", "1.0.0", expected=now.generation, reason=reason)
        done += 1
    except mk.errors.Conflict:
        pass
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals and links")
def test_processes_that_are_stopped_and_see_it_by_other_paths_lose_nothing(registry, tmp_path):
    """The folder as it is, by a symbolic link, and as a relative path."""
    (tmp_path / "link").symlink_to(registry.url)
    paths = (registry.url, str(tmp_path / "link"), "models")
    workers = [
        subprocess.Popen([sys.executable, "-c", COUNT, path], cwd=tmp_path) for path in paths
    ]
    rng = random.Random(0)
    seen = 1
    while any(worker.poll() is None for worker in workers):
        worker = rng.choice(workers)
        worker.send_signal(signal.SIGSTOP)
        others = [other for other in workers if other is not worker]
        until = seen + 10
        while registry.generation("churn") < until:
            if all(other.poll() is not None for other in others):
                break
        seen = registry.generation("churn")
        worker.send_signal(signal.SIGCONT)
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    reasons = [entry.reason for entry in registry.history("churn", "champion")[1:]]
    assert reasons == [str(number + 1) for number in range(120)]


def test_an_alias_is_not_retired_as_if_it_were_a_version(registry):
    with pytest.raises(RegistryError, match="is an alias; pass the version"):
        registry.retire("churn", "champion", reason="x")
    assert registry.state("churn").retired == {}


class Full:
    """A store on a disk on which there is no room for states."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)

    def create(self, name, data):
        if "/states/" in name:
            raise OSError(28, "No space left on device")
        return self.store.create(name, data)


def test_a_state_that_cannot_be_kept_is_no_failure_of_the_change(registry):
    """The alias was changed, and the writer was told that it was not."""
    full = mk.Registry(registry.url)
    full._store = Full(full._store)
    for i in range(2 * KEPT_EVERY):
        full.set_alias("churn", f"a{i}", "1.0.0", expected=None, reason="x")
    assert mk.Registry(registry.url).generation("churn") == 2 * KEPT_EVERY + 1


def test_a_disk_that_is_full_changes_nothing_and_leaves_nothing(registry, packages, tmp_path):
    """The system says no in the middle of a file that is larger than the process may write."""
    code = """
import resource, signal, sys
import modelkit as mk
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
registry = mk.Registry(sys.argv[1])
for act in (
    lambda: registry.register(sys.argv[2]),
    lambda: registry.set_alias("churn", "b", "1.0.0", expected=None, reason="x" * 400),
    lambda: registry.fetch("churn", "1.0.0", sys.argv[3]),
):
    try:
        act()
    except OSError as error:
        print(error.errno)
"""
    pytest.importorskip("resource")
    before = sorted(Path(registry.url).rglob("*"))
    command = [sys.executable, "-c", code, registry.url, str(packages / "joblib.mk")]
    done = subprocess.run(
        [*command, str(tmp_path / "copy")], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["27"] * 3
    assert sorted(Path(registry.url).rglob("*")) == before
    assert list((tmp_path / "copy").iterdir()) == []


def test_the_history_of_a_name_that_is_misspelt_is_an_error(registry, capsys):
    assert main(["registry", registry.url, "history", "chrun"]) == 1
    assert "no model 'chrun'" in capsys.readouterr().err
