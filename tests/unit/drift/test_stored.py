"""What is stored of a Profile comes back, and bytes that were changed are refused or harmless."""

import pickle
import warnings

import numpy as np
import pytest
from helpers.drawn import noisy_rows, rng
from helpers.examples import examples
from helpers.streams import column
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.drift.cells import CELLS
from modelkit.drift.profile import Profile
from modelkit.errors import PackageError

DAY = np.datetime64("2024-01-01", "us")


def rich():
    n = 1200
    rows = {
        "a": rng(1).normal(size=n), "b": column([None if i % 7 else True for i in range(n)]),
        "c": column(["\ud800", "é"] * (n // 2)),
        "t": DAY + np.arange(n), "k": np.full(n, 3), "e": rng(2).normal(size=(n, 5)),
        "s": column(["x", "y"] * (n // 2)),
    }  # fmt: skip
    p = rng(3).random(n)
    labels = (rng(4).random(n) < p).astype(int)
    train = rows | {"a": rng(5).normal(size=n), "e": rng(6).normal(size=(n, 5))}
    return Profile.fit(
        train,
        reference=rows,
        scores=np.c_[1 - p, p],
        labels=labels,
        stratum="s",
        importance={"a": 3},
    )


def test_a_profile_comes_back_from_its_bytes_byte_for_byte():
    profile = rich()
    data = profile.to_bytes()
    back = Profile.from_bytes(memoryview(data))
    assert back.to_bytes() == data
    assert back.digest == profile.digest == rich().digest
    assert back.features == profile.features
    assert np.array_equal(back.counts, profile.counts)
    assert (back.baseline, back.strata, back.rows) == (profile.baseline, ("x", "y"), 1200)
    assert pickle.loads(pickle.dumps(profile)).digest == profile.digest
    assert "8 features" not in repr(back)
    assert "2 strata by s" in repr(back)
    assert sum(feature.weight for feature in back.features) == pytest.approx(1)


def of(about):
    return about["layout"]["features"]


def changed(profile, counts=0, **arrays):
    import io

    with np.load(io.BytesIO(profile.to_bytes())) as file:
        whole = dict(file) | arrays
        assert "/counts" in whole
        if not isinstance(counts, int):
            whole["/counts"] = counts
    out = io.BytesIO()
    np.savez(out, **{name: array for name, array in whole.items() if array is not None})
    return out.getvalue()


def about(profile, edit):
    import io
    import json

    with np.load(io.BytesIO(profile.to_bytes())) as file:
        plain = json.loads(file["about"].tobytes())
    edit(plain)
    return np.frombuffer(json.dumps(plain).encode(), np.uint8)


def test_bytes_that_are_no_profile_are_refused():
    profile = Profile.fit(noisy_rows(400))
    data = profile.to_bytes()
    objects = np.array([{"a": 1}], object)
    edits = [
        lambda a: a.update(schema="modelkit.profile/2"), lambda a: a.pop("schema"), lambda a: a.pop("rows"),
        lambda a: of(a).pop(), lambda a: of(a)[0].update(kind="numbers"), lambda a: of(a)[0].update(stride=0),
        lambda a: of(a)[0].update(edges=99), lambda a: of(a)[0].update(weight=float("nan")),
        lambda a: of(a)[1].update(categories=[f"{i}" for i in range(65)]),
        lambda a: of(a)[0].update(more=1),
        lambda a: a["layout"]["strata"].append("b"), lambda a: a.update(rows="many"), lambda a: a.update(ordered=1),
        lambda a: a["layout"].update(strata=[1]), lambda a: of(a)[0].update(stride="2"),
        lambda a: of(a)[0].update(coarse="g" * CELLS), lambda a: of(a)[0].update(coarse="0"),
        lambda a: a.update(baseline={"n": 1, "total": 0.0, "squares": 0.0, "binary": "yes"}),
    ]  # fmt: skip
    edges = np.concatenate([feature.edges for feature in profile.features])
    hostile = [
        *[changed(profile, edges=odd) for odd in (edges[:-1], np.append(edges, 9), edges[::-1], edges * np.nan)],
        changed(profile, edges=None), changed(profile, edges=edges.reshape(1, -1)), changed(profile, edges=objects),
        b"", b"PK\x03\x04", data[:100], data[: len(data) // 2], pickle.dumps(1), rng().bytes(500),
        changed(profile, objects), changed(profile, None), changed(profile, -profile.counts),
        changed(profile, profile.counts[:, :, :60]), changed(profile, profile.counts / 2),
        *[changed(profile, about=about(profile, edit)) for edit in edits],
    ]  # fmt: skip
    for i, wrong in enumerate(hostile):
        with pytest.raises(PackageError):
            print(i, Profile.from_bytes(wrong))  # noqa: T201 - shown where it is accepted


def test_a_calibration_whose_parts_do_not_fit_is_refused():
    p = rng(9).random(400)
    rows = {"x": p}
    answers = {"scores": np.c_[1 - p, p], "labels": (p > 0.4).astype(int)}
    profile = Profile.fit({"x": rng(8).random(400)}, reference=rows, **answers)
    own = profile.calibration
    parts = {
        "steps/0": [own.steps[0][:2], own.steps[0][:, :0], own.steps[0] * np.nan, np.array(1.0)]
    }
    for name, spoilt in parts.items():
        for array in spoilt:
            with pytest.raises(PackageError):
                Profile.from_bytes(changed(profile, **{f"/calibration/{name}": array}))


@settings(max_examples=examples(60))
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=3))
def test_flipped_bytes_are_refused_or_harmless(at, patch):
    data = bytearray(Profile.fit(noisy_rows(200)).to_bytes())
    at %= len(data)
    data[at : at + len(patch)] = patch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of headers written by another version
        try:
            assert isinstance(Profile.from_bytes(bytes(data)), Profile)
        except PackageError as error:
            assert "profile" in str(error)  # noqa: PT017 - either outcome is right


def test_nothing_is_unpickled(monkeypatch):
    data = rich().to_bytes()
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "load", None)
    assert Profile.from_bytes(data).rows == 1200


def test_a_feature_takes_two_and_a_half_kilobytes_at_most():
    n = 6000
    plain = {f"x{i}": rng(i).normal(size=n) for i in range(20)}
    named = {f"c{i}": rng(i).choice([f"category {j}" for j in range(64)], n) for i in range(20)}
    for rows in (plain, named, plain | named):
        assert len(Profile.fit(rows).to_bytes()) <= 2500 * len(rows)
