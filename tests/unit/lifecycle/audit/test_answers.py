"""Answers that are recorded: by whom, of which version, and by hashes that a subject can take back."""

import asyncio
import json
import os
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers.apps import PREDICT, ROW, ask, summed, uvicorn_of
from helpers.audits import KEY, files_of
from helpers.examples import examples
from helpers.rollouts import model
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import AccessDenied, AuditError, ClosedError, SignatureError, UsageError
from modelkit.lifecycle.audit.answers import canonical

MIXED = mk.Signature(
    [
        mk.TensorSpec("age", "float64", ("n", 1), (mk.Column("age", "float64", nullable=True),)),
        mk.TensorSpec("town", "string", ("n", 1), (mk.Column("town", "string", nullable=True),)),
        mk.TensorSpec("count", "int64", ("n", 1), (mk.Column("count", "int64"),)),
    ],
    [mk.TensorSpec("label", "string", ("n",)), mk.TensorSpec("score", "float64", ("n",))],
)
PERSON = {"age": 31.5, "town": "Köln", "count": 3}


def echo(feeds):
    return {"label": feeds["town"][:, 0], "score": feeds["age"][:, 0] * 2}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


@pytest.fixture
def audit(folder):
    with mk.AuditLog(folder, KEY) as log:
        yield log


@pytest.fixture
def served(audit):
    return audit.answers(mk.FunctionModel(echo, MIXED))


def answers(folder):
    found = mk.AuditLog.read(folder)
    return [record for record in found if record.event == "audit.answer"]


def verify(folder):
    return mk.AuditLog.verify(folder, [KEY.public_key()]).problems


def test_an_answer_is_recorded_with_who_gave_it_to_whom(audit, folder, boosting_mk, breast_cancer):
    X = breast_cancer[0][:3]
    with mk.load(boosting_mk, threads=1) as loaded:
        served = audit.answers(loaded)
        with mk.acting_as("ward 4"):
            label = served.predict(X, key="patient 17")
        outputs = served.run(X)
        assert (label == loaded.predict(X)).all()
        assert all((outputs[name] == values).all() for name, values in loaded.run(X).items())
        manifest = loaded.manifest
    first, second = answers(folder)
    assert (first.principal, second.principal) == ("ward 4", None)
    for record in (first, second):
        known = (manifest.name, manifest.version, manifest.digest)
        assert tuple(record.fields[name] for name in ("name", "version", "digest")) == known
        assert "outputs" not in record.fields
    assert (first.fields["subject"] is None, second.fields["subject"]) == (False, None)
    text = files_of(folder)[0].read_text()
    assert "patient" not in text


def test_a_rollout_of_packages_is_recorded_by_the_arm_that_answered(
    audit, folder, numbered_packages
):
    paths = sorted(numbered_packages.iterdir())[:2]
    with mk.load(paths[0], threads=1) as one, mk.load(paths[1], threads=1) as two:
        served = audit.answers(mk.Rollout(one, two, share=0.5, seed=0))
        versions = [served.run(np.ones((1, 3)), key=str(n)).served_by.version for n in range(20)]
    assert [record.fields["version"] for record in answers(folder)] == versions
    assert len({*versions}) == 2


def test_a_version_that_stays_with_its_caller_is_recorded(audit, folder):
    one, two = model(1), model(2)
    served = audit.answers(mk.Rollout(one, two, share=0.5, seed=0))
    pinned = served._for_key("a")
    assert pinned.inner.inner in (one, two)
    assert pinned._for_key("b") is pinned
    pinned.predict(np.ones((1, 3)), key="a")
    asyncio.run(pinned.apredict(np.ones((1, 3)), key="a"))
    first, second = (record.fields for record in answers(folder))
    assert first == second
    assert first["subject"]


def test_a_layer_that_hides_who_answered_is_refused(audit, folder):
    class Hiding(mk.Wrapper):
        def _call(self, X, outputs, call):
            return dict(self.inner._call(X, outputs, call))

        async def _acall(self, X, outputs, call):
            return dict(await self.inner._acall(X, outputs, call))

    served = audit.answers(Hiding(mk.Rollout(model(1), model(2), share=0.5)))
    with pytest.raises(AuditError, match="hides which version answered"):
        served.predict(np.ones((1, 3)))
    assert answers(folder) == []


cells = st.fixed_dictionaries(
    {
        "age": st.none() | st.floats(allow_infinity=False),
        "town": st.none() | st.text(max_size=5),
        "count": st.integers(-(2**53), 2**53),
    }
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(cells, min_size=1, max_size=5))
def test_the_same_rows_have_one_hash_whatever_holds_them(rows):
    columns = {name: [row[name] for row in rows] for name in PERSON}
    frame = pd.DataFrame(columns)
    forms = [
        rows,
        [dict(reversed(row.items())) for row in rows],
        columns,
        {**columns, "count": np.array(columns["count"], np.int64)},
        frame.astype({"age": float, "town": object}),
        frame[["town", "count", "age"]].astype({"age": "Float64", "town": "string"}),
        pl.DataFrame(columns, schema={"age": pl.Float64, "town": pl.String, "count": pl.Int64}),
    ]
    assert len({b"".join(canonical(MIXED.coerce(form))) for form in forms}) == 1


arrays = st.one_of(
    st.lists(st.integers(-2, 2), max_size=4).map(lambda values: np.array(values, np.int64)),
    st.lists(st.integers(-2, 2), max_size=4).map(lambda values: np.array(values, np.float32)),
    st.lists(st.integers(-2, 2), max_size=4).map(lambda values: np.array([values, values], "<i4")),
    st.lists(st.text('a\n\0"1', max_size=3), max_size=3).map(lambda v: np.array(v, object)),
    st.lists(st.text("a1", max_size=3), max_size=3).map(np.array),
)
tensors = st.dictionaries(st.text("ab\n ", max_size=2), arrays, max_size=3)


def plain(tensors):
    """What tells tensors apart, by other means."""
    return {
        name: ("texts" if each.dtype.kind in "OU" else each.dtype.str, each.shape, each.tolist())
        for name, each in tensors.items()
    }


@settings(max_examples=examples(2000), deadline=None)
@given(tensors, tensors)
def test_other_tensors_have_other_bytes(one, other):
    if any(not each.size and each.dtype.kind == "f" for each in (*one.values(), *other.values())):
        return  # an empty list makes an array of floats, also for texts
    same = b"".join(canonical(one)) == b"".join(canonical(other))
    assert same == (plain(one) == plain(other))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_missing_number_is_one_value_whatever_its_bits(dtype):
    kind = np.dtype(dtype)
    quiet = np.array([1.0, np.nan], dtype)
    other = quiet.copy()
    bits = other.view(f"u{kind.itemsize}")
    bits[1] |= 1 << (8 * kind.itemsize - 1) | 5  # another sign, and a payload
    assert quiet.tobytes() != other.tobytes()
    found = [b"".join(canonical({"x": array})) for array in (quiet, other)]
    assert (
        found[0]
        == found[1]
        == b"'x' " + f"{kind.str} (2,) {quiet.nbytes}\n".encode() + quiet.tobytes()
    )
    assert np.isnan(other[1])  # and the caller's stays as it is
    assert b"".join(canonical({"x": np.array([1.0, 2.0], dtype)})) != found[0]


def test_async_answers_are_recorded_alike(served, audit, folder):
    async def ask():
        with mk.acting_as("loop"):
            return await served.arun([PERSON], key="a")

    outputs = asyncio.run(ask())
    served.run([PERSON], key="a")
    one, other = answers(folder)
    assert one.fields == other.fields
    assert one.principal == "loop"
    assert outputs["score"].tolist() == [63.0]


def test_outputs_are_recorded_where_you_ask_for_them(audit, folder):
    served = audit.answers(mk.FunctionModel(echo, MIXED), outputs=True)
    served.run([PERSON, {**PERSON, "age": None}])
    served.predict(pd.DataFrame([PERSON]))
    whole, label = (record.fields for record in answers(folder))
    assert whole["outputs"] == {"label": ["Köln", "Köln"], "score": [63.0, {"number": "nan"}]}
    assert label["outputs"] == {"label": ["Köln"]}
    assert "output" not in whole


def test_what_is_refused_or_fails_is_no_answer(served, audit, folder):
    with pytest.raises(SignatureError):
        served.predict([{"age": 1.0}])

    def fail(feeds):
        raise ZeroDivisionError

    failing = audit.answers(mk.FunctionModel(fail, MIXED))
    with pytest.raises(ZeroDivisionError):
        failing.predict([PERSON])
    assert answers(folder) == []


def test_a_meter_inside_counts_what_is_refused(audit):
    metered = mk.Meter(mk.FunctionModel(echo, MIXED))
    served = audit.answers(metered)
    with pytest.raises(SignatureError):
        served.predict([{"age": 1.0}])
    served.predict([PERSON])
    calls = metered.totals().calls
    assert (calls["ok"], sum(calls.values())) == (1, 2)


def test_a_server_records_who_asked_and_answers_nobody_unrecorded(audit, folder):
    def policy(principal, action, about):
        return principal != "bob"

    served = mk.Guarded(audit.answers(mk.Batcher(summed())), policy)
    app = mk.App({"sum": served}, auth=lambda headers: headers.get("x-client-name"))
    names = ["alice", "bob", "carol"] * 20

    def ask_as(name):
        headers = {"content-type": "application/json", "x-client-name": name}
        return ask(server.port, "POST", PREDICT, json.dumps(ROW).encode(), headers)

    with uvicorn_of(app) as server, ThreadPoolExecutor(6) as pool:
        statuses = [answer[0] for answer in pool.map(ask_as, names)]
        audit.close()
        refused = ask_as("alice")
    assert statuses == [403 if name == "bob" else 200 for name in names]
    assert refused[0] == 503
    assert Counter(record.principal for record in answers(folder)) == {"alice": 20, "carol": 20}
    denied = [record for record in mk.AuditLog.read(folder) if record.event == "denied"]
    assert [record.principal for record in denied] == ["bob"] * 20


def test_explanations_are_no_answers(audit, folder, boosting_mk, breast_cancer):
    X = breast_cancer[0]
    with mk.load(boosting_mk, threads=1) as loaded:
        served = audit.answers(loaded)
        assert served.unobserved is loaded
        mk.Explainer(served, background=X[:20]).explain(X[:1])
        with pytest.raises(UsageError, match="put it outside"):
            mk.Batcher(served)
    assert answers(folder) == []


def test_a_subject_that_is_forgotten_cannot_be_found_and_the_log_holds(audit, served, folder):
    for key in ("ann", "bob", "ann", None, None):
        served.predict([PERSON], key=key)
    ann, bob, again, nobody, _ = (record.fields for record in answers(folder))
    assert ann["subject"] == again["subject"] != bob["subject"]
    assert (
        ann["input"] == again["input"] != bob["input"] != nobody["input"]
    )  # though rows are the same
    keys = {path.read_bytes() for path in (folder / "subjects").rglob("*") if path.is_file()}
    assert len(keys) == 3
    assert audit.forget("ann") is True
    assert audit.forget("ann") is False
    assert audit.forget("eve") is False
    left = {path.read_bytes() for path in (folder / "subjects").rglob("*") if path.is_file()}
    assert len(left) == 2
    assert left < keys
    served.predict([PERSON], key="ann")
    served.predict([PERSON], key="bob")
    ann_later, bob_later = (record.fields for record in answers(folder)[-2:])
    assert ann_later["subject"] != ann["subject"]
    assert ann_later["input"] != ann["input"]
    assert bob_later == bob
    found = [record for record in mk.AuditLog.read(folder) if record.event == "audit.forgotten"]
    assert [record.fields for record in found] == [{}]  # or the time of a request would link it
    assert verify(folder) == ()


def keys_in(folder):
    return [path for path in (folder / "subjects").rglob("*") if path.is_file()]


@pytest.mark.parametrize("subject", [None, 17, b"ann"])
def test_what_is_no_subject_is_not_forgotten(audit, served, folder, subject):
    """None took the key of all calls without a subject."""
    served.predict([PERSON])
    with pytest.raises(TypeError, match="a subject is a text"):
        audit.forget(subject)
    served.predict([PERSON])
    one, other = answers(folder)
    assert one.fields["input"] == other.fields["input"]


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_a_damaged_key_is_forgotten_too(audit, served, folder, damage):
    served.predict([PERSON], key="ann")
    (key,) = keys_in(folder)
    os.chmod(key, 0o600)
    key.write_bytes(damage)
    assert audit.forget("ann") is True
    assert keys_in(folder) == []
    key.mkdir()
    with pytest.raises(OSError, match=key.name):
        audit.forget("ann")
    found = [record.fields for record in mk.AuditLog.read(folder)]
    assert found.count({}) == 1


def test_keys_are_for_their_owner_alone_even_after_all_were_removed(served, folder):
    served.predict([PERSON], key="ann")
    shutil.rmtree(folder / "subjects")
    folder.chmod(0o755)
    served.predict([PERSON], key="ann")
    assert keys_in(folder)
    assert (folder / "subjects").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("subject", ["../../x", "", "\ud800", "a/b", "\0", "x" * 10_000, "ß"])
def test_any_text_is_a_subject(audit, served, folder, subject):
    served.predict([PERSON], key=subject)
    assert audit.forget(subject) is True
    assert {path.name for path in folder.iterdir()} == {"subjects", files_of(folder)[0].name}
    assert verify(folder) == ()


def test_who_forgets_elsewhere_is_heeded_at_once(audit, served, folder):
    served.predict([PERSON], key="ann")
    with mk.AuditLog(folder, KEY) as other:
        assert other.forget("ann")
    served.predict([PERSON], key="ann")
    one, later = (record.fields["subject"] for record in answers(folder))
    assert one != later


def test_a_subject_gets_one_key_whoever_is_first(served, folder):
    start = threading.Barrier(8)

    def ask_for(subject):
        start.wait()
        served.predict([PERSON], key=subject)

    with ThreadPoolExecutor(8) as pool:
        for turn in range(10):
            list(pool.map(ask_for, [str(turn)] * 8))
    tags = Counter(record.fields["subject"] for record in answers(folder))
    assert sorted(tags.values()) == [8] * 10


def test_an_answer_that_cannot_be_recorded_is_not_given(audit, served, folder):
    (folder / "subjects").write_bytes(b"")
    with pytest.raises(AuditError, match=r"the key of a subject cannot be read: .*subjects"):
        served.predict([PERSON], key="a")
    (folder / "subjects").unlink()
    served.predict([PERSON], key="a")
    (key,) = (path for path in (folder / "subjects").rglob("*") if path.is_file())
    os.chmod(key, 0o600)
    key.write_bytes(b"short")
    with pytest.raises(AuditError, match="is damaged"):
        served.predict([PERSON], key="a")
    audit.close()
    with pytest.raises(ClosedError):
        served.predict([PERSON])
    assert len(answers(folder)) == 1
    assert verify(folder) == ()


def test_what_cannot_be_recorded_is_refused(audit, served):
    with pytest.raises(UsageError, match="recorded already"):
        audit.answers(mk.Meter(served))
    with pytest.raises(TypeError, match="takes a Model"):
        audit.answers("churn.mk")


def test_a_guarded_goes_around(audit, folder):
    """Inside, whom it denies would have had a key made for each subject they name."""
    guarded = mk.Guarded(mk.FunctionModel(echo, MIXED), lambda *_: False)
    with pytest.raises(UsageError, match=r"Guarded\(audit\.answers\(\.\.\.\), \.\.\.\)"):
        audit.answers(guarded)
    outside = mk.Guarded(audit.answers(guarded.inner), lambda *_: False)
    with pytest.raises(AccessDenied):
        outside.predict([PERSON], key="a")
    assert not (folder / "subjects").exists()
