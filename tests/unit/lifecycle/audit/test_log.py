"""The audit log: what is recorded, by whom, where, and what becomes of it when something goes wrong."""

import contextlib
import json
import linecache
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.audits import KEY, OTHER_KEY, files_of, pem, write_log
from helpers.records import recording

import modelkit as mk
from modelkit import events
from modelkit.errors import AuditError, ClosedError, UsageError
from modelkit.lifecycle.audit import log as log_module

SET = events.AliasSet("churn", "champion", "1.1.0", "1.0.0", "gate")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


def verify(folder, *checkpoints, keys=None):
    return mk.AuditLog.verify(folder, [KEY.public_key()] if keys is None else keys, checkpoints)


def recorded(folder, *own):
    """The events of a folder, without those of marks."""
    found = [record.event for record in mk.AuditLog.read(folder)]
    return [event for event in found if not event.startswith("audit.") or event in own]


def test_what_happens_is_recorded_with_who_asked(folder, boosting_mk):
    with mk.AuditLog(folder, KEY):
        with mk.acting_as("billing"):
            mk.load(boosting_mk, threads=1).close()
        events.emit(SET)
        events.emit(events.Denied("churn", "1.0.0", "predict", "eve", "not yours"))
        events.emit(events.Advised("not of an audit log"))
    events.emit(SET)  # it was closed
    began, loaded, alias, denied, closed = mk.AuditLog.read(folder)
    assert (began.event, closed.event) == ("audit.checkpoint", "audit.closed")
    assert (loaded.event, loaded.principal) == ("loaded", "billing")
    manifest = mk.inspect(boosting_mk)
    assert loaded.fields["digest"] == manifest.digest
    assert (alias.event, alias.principal, alias.number) == ("aliasset", None, 3)
    assert alias.fields["reason"] == "gate"
    assert denied.fields["principal"] == "eve"
    assert began.at <= loaded.at <= alias.at <= closed.at
    report = verify(folder)
    assert (report.logs, report.records, report.problems, report.notes) == (1, 5, (), ())
    assert str(report) == "5 records of 1 logs: no change was found"


def test_a_gate_and_an_alias_are_recorded(folder, judged_place, judged_rows):
    registry, candidate, _ = judged_place
    with mk.AuditLog(folder):
        registry.register(candidate)
        mk.gate(candidate, "registry:churn@champion", *judged_rows, margin=0.1, registry=registry)
        registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate")
    assert [event for event in recorded(folder) if event != "loaded"] == ["judged", "aliasset"]


def test_events_of_your_own_are_recorded_and_any_value_of_theirs(folder):
    @dataclass(frozen=True)
    class Closed(events.Event):  # a name that a mark has too
        values: object

    array = np.array([1.5, np.nan, np.inf])
    with mk.AuditLog(folder, KEY) as audit:
        stop = events.subscribe(audit.record, Closed)
        for values in (array, {1: "a", "1": "b"}, ("\ud800", -0.0, 1 << 80), None):
            events.emit(Closed(values))
        with recording() as records:
            events.emit(Closed(object()))  # JSON has no form of it
        stop()
    assert records[0].getMessage().startswith("the listener AuditLog.record raised TypeError")
    found = [
        record.fields["values"]
        for record in mk.AuditLog.read(folder)
        if record.fields.get("values")
    ]
    assert found == [
        [1.5, {"number": "nan"}, {"number": "inf"}],
        {"1": "b"},
        ["\ud800", -0.0, 1 << 80],
    ]
    assert verify(folder).problems == ()


@pytest.mark.parametrize("form", ["path", "bytes", "environment", "object"])
def test_a_key_comes_in_any_form_and_is_shown_nowhere(folder, tmp_path, monkeypatch, form):
    private, public = pem(KEY)
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "key.pub").write_bytes(public)
    monkeypatch.setenv("AUDIT_KEY", private.decode())
    keys = {
        "path": (tmp_path / "key.pem", tmp_path / "key.pub"),
        "bytes": (private, public),
        "environment": ("env:AUDIT_KEY", str(tmp_path / "key.pub")),
        "object": (KEY, KEY.public_key()),
    }
    write_log(folder, [SET], keys[form][0])
    assert verify(folder, keys=[keys[form][1]]).problems == ()
    secret = KEY.private_bytes_raw().hex()
    assert all(secret not in path.read_text() for path in files_of(folder))


@pytest.mark.parametrize("key", [b"", KEY.public_key(), "env:NOT_THERE", 1, pem(KEY)[1]])
def test_what_is_no_private_key_is_refused(folder, key):
    with pytest.raises(UsageError):
        mk.AuditLog(folder, key)
    assert not folder.exists()


def test_checkpoints_are_signed_every_so_often_and_files_end(folder):
    with mk.AuditLog(folder, KEY, checkpoint_every=3, rotate_bytes=1500) as audit:
        for _ in range(20):
            audit.record(SET)
    marks = [record.event for record in mk.AuditLog.read(folder) if record.signature]
    assert {"audit.checkpoint", "audit.closed"} == {*marks}
    files = files_of(folder)
    assert len(files) > 3
    for path in files:
        assert json.loads(path.read_text().splitlines()[-1])["signature"]
    assert all(path.stat().st_size < 3000 for path in files)
    assert [record.number for record in mk.AuditLog.read(folder)] == [*range(1, 21 + len(marks))]
    assert recorded(folder) == ["aliasset"] * 20
    assert verify(folder).problems == ()


def test_logs_that_share_a_folder_are_read_together(folder):
    with mk.AuditLog(folder, KEY) as one, mk.AuditLog(folder, OTHER_KEY) as other:
        for n in range(6):
            name = str(n)
            (one, other)[n % 2].record(events.AliasSet(name, "a", "1", "", "x"))
    records = [record for record in mk.AuditLog.read(folder) if record.event == "aliasset"]
    names = [record.fields["name"] for record in records if record.fields["reason"] == "x"]
    assert names == ["0", "1", "2", "3", "4", "5"]
    assert len({record.log for record in records}) == 2
    both = [KEY.public_key(), OTHER_KEY.public_key()]
    assert verify(folder, keys=both).problems == ()
    (problem,) = verify(folder).problems
    assert "the keys that you passed" in problem


def test_what_is_missing_or_does_not_belong_there_is_a_problem(folder, tmp_path):
    checkpoint = write_log(folder, [SET] * 9, KEY, rotate_bytes=500)
    files = files_of(folder)
    assert len(files) > 4
    assert verify(folder, checkpoint).problems == ()
    for gone, words in ((0, "is gone"), (2, "is gone"), (-1, "is not there")):
        data = files[gone].read_bytes()
        files[gone].unlink()
        assert words in verify(folder, checkpoint).problems[0]
        files[gone].write_bytes(data)
    first = files[0].name
    others = [first.replace(".000001.", spelling) for spelling in (".1.", ".0000001.")]
    for name in ("notes.txt", *others, f"{first}.gz"):
        (folder / name).write_bytes(b"")
        (problem,) = verify(folder).problems
        assert "is not of an audit log" in problem
        (folder / name).unlink()
    before = folder / first.replace(".000001.", ".000000.")
    before.write_bytes(b"")
    assert "is gone" in verify(folder).problems[0]
    files[0].rename(before)
    assert "is gone" in verify(folder).problems[0]
    before.rename(files[0])
    renamed = files[0].name.replace("-", "-1", 1)
    (folder / renamed).write_bytes(files[0].read_bytes())
    assert "it is of the log" in verify(folder).problems[0]
    (folder / renamed).unlink()
    write_log(tmp_path / "another", [SET], KEY)
    assert "is not there" in verify(tmp_path / "another", checkpoint).problems[0]
    for text in ("", "\ud800", "{}", checkpoint[:-1], files[1].read_text().splitlines()[0]):
        assert verify(folder, text).problems, text
    for path in files:
        path.unlink()
    assert "is not the folder of an audit log" in verify(folder).problems[0]
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "nowhere")


def test_what_a_check_did_not_show_is_noted(folder):
    audit = mk.AuditLog(folder, KEY)
    audit.record(SET)
    open_log, unsigned = verify(folder).notes
    assert "was not closed after record 2" in open_log
    assert "no signature covers what follows record 1" in unsigned
    audit.close()
    (unchecked,) = verify(folder, keys=()).notes
    assert "no signature was checked" in unchecked


def test_it_is_closed_once_and_belongs_to_its_process(folder):
    audit = mk.AuditLog(folder)
    with pytest.raises(TypeError, match="make one in each"):
        pickle.dumps(audit)
    audit.close()
    audit.close()
    for call in (audit.checkpoint, lambda: audit.record(SET)):
        with pytest.raises(ClosedError, match="was closed"):
            call()
    (path,) = files_of(folder)
    assert len(path.read_bytes().splitlines()) == 2


def test_threads_share_one_chain(folder):
    with mk.AuditLog(folder, KEY, checkpoint_every=7, rotate_bytes=20_000) as audit:

        def work(name):
            for n in range(50):
                audit.record(events.AliasSet(name, str(n), "", "", ""))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, "abcd"))
    assert verify(folder).problems == ()
    found = [record.fields for record in mk.AuditLog.read(folder) if record.event == "aliasset"]
    for name in "abcd":
        assert [each["alias"] for each in found if each["name"] == name] == [*map(str, range(50))]


class Stepping:
    """Does something at the n-th line of the log's own code, as a handler of a signal may."""

    # Python handles signals after calls and at loops, and so not here.
    never = ("with ", "self._writing = False", "finally:")

    def __init__(self, at, act):
        self.left = at
        self.act = act

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.trace)

    def __exit__(self, *raised):
        sys.settrace(self.before)

    def trace(self, frame, kind, _):
        if frame.f_code.co_filename != log_module.__file__:
            return None
        if kind == "line" and not linecache.getline(
            log_module.__file__, frame.f_lineno
        ).strip().startswith(self.never):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                frame.f_trace = None
                self.act()
        return self.trace


def at_every_line(folder, act):
    """Records with something between any two lines: how often that was, and how many returned."""
    audit = mk.AuditLog(folder, KEY, checkpoint_every=2, rotate_bytes=1200)
    returned = 0
    for step in range(1, 2000):
        stepping = Stepping(step, lambda: act(audit))
        with contextlib.suppress(KeyboardInterrupt), stepping:
            for _ in range(3):
                audit.record(SET)
                returned += 1
        if stepping.left > 0:
            audit.close()
            return step - 1, returned
    raise AssertionError("it never ends")


def test_what_happens_within_a_record_is_recorded_too(folder):
    """It was a deadlock, or a broken chain, of a handler or a finalizer that emits an event."""
    inner = events.AliasSet("inner", "", "", "", "")
    times, _ = at_every_line(folder, lambda _: events.emit(inner))
    names = [record.fields.get("name") for record in mk.AuditLog.read(folder)]
    assert names.count("inner") == times > 50
    assert names.count("churn") == 3 * (times + 1)
    assert verify(folder).problems == ()


def test_an_interrupt_within_a_record_leaves_a_chain_that_goes_on(folder):
    def interrupt(_):
        raise KeyboardInterrupt

    times, returned = at_every_line(folder, interrupt)
    assert times > 50
    assert returned <= recorded(folder).count("aliasset") <= returned + times
    assert verify(folder).problems == ()


def test_what_cannot_wait_within_a_record_is_refused(folder):
    refused = []

    def ask(audit):
        try:
            audit.checkpoint()
        except AuditError as error:
            refused.append(str(error))

    at_every_line(folder, ask)
    assert len(refused) > 20
    assert "its own thread is writing" in refused[0]
    assert verify(folder).problems == ()


def test_a_file_that_somebody_took_away_takes_no_more_records(folder):
    audit = mk.AuditLog(folder)
    (path,) = files_of(folder)
    data = path.read_bytes()
    path.unlink()
    with recording() as records:
        events.emit(SET)
        events.emit(SET)
    warnings = [record.getMessage() for record in records if record.levelname == "WARNING"]
    assert [text.partition(";")[0] for text in warnings] == [
        "the listener AuditLog.record raised AuditError"
    ]
    with pytest.raises(AuditError, match="somebody removed or changed"):
        audit.checkpoint()
    with pytest.raises(AuditError):
        audit.close()
    with mk.AuditLog(folder) as audit:
        path = files_of(folder)[0]
        with path.open("ab") as file:
            file.write(data)
        with pytest.raises(AuditError, match="somebody removed or changed"):
            audit.record(SET)
        os.truncate(path, path.stat().st_size - len(data))
    assert verify(folder, keys=()).problems == ()


def test_a_link_does_not_lead_the_next_file_elsewhere(folder, tmp_path):
    with mk.AuditLog(folder, KEY, rotate_bytes=0) as audit:
        audit.record(SET)  # so that another file is due
        log, part, _ = files_of(folder)[-1].name.split(".")
        link = folder / f"{log}.{int(part) + 1:06d}.jsonl"
        link.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(AuditError, match="cannot be written"):
            audit.record(SET)
        link.unlink()
        audit.record(SET)
    assert not (tmp_path / "elsewhere").exists()
    assert verify(folder).problems == ()


def test_more_logs_are_read_than_files_may_be_open(folder):
    resource = pytest.importorskip("resource")
    for _ in range(64):
        write_log(folder, [SET])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(open(os.devnull, "rb")).fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (here + 32, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        assert recorded(folder) == ["aliasset"] * 64
        assert verify(folder, keys=()).logs == 64


def test_a_record_longer_than_what_is_read_at_once(folder):
    long = events.AliasSet("x" * 200_000, "", "", "", "")
    checkpoint = write_log(folder, [long, SET, long], KEY)
    assert verify(folder, checkpoint).problems == ()
    names = [r.fields["name"] for r in mk.AuditLog.read(folder) if r.event == "aliasset"]
    assert names == [long.name, SET.name, long.name]


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for where in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="cannot hold an audit log"):
            mk.AuditLog(where)


@pytest.mark.parametrize("every", [0, -1])
def test_checkpoints_that_are_never_due_are_refused(folder, every):
    with pytest.raises(UsageError, match="a number from 1"):
        mk.AuditLog(folder, checkpoint_every=every)


def test_files_are_for_their_owner_alone(folder):
    with mk.AuditLog(folder) as audit:
        served = audit.answers(mk.FunctionModel(lambda feeds: feeds, SAME))
        served.predict([[1.0]], key="somebody")
    assert folder.stat().st_mode & 0o77 == 0
    assert (folder / "subjects").stat().st_mode & 0o77 == 0
    assert files_of(folder)[0].stat().st_mode & 0o77 == 0


SAME = mk.Signature(
    [mk.TensorSpec("x", "float64", ("n", 1))], [mk.TensorSpec("x", "float64", ("n", 1))]
)
