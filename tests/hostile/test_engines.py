"""What an attack on Scorers and Tallies found: names, encodings, copies, homes and forged counts."""

import os
import pickle
import zipfile
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.drift import archive
from modelkit.drift.tallies import TALLY_SCHEMA
from modelkit.errors import DeviceError, DriftError, IntegrityError, SignatureError
from modelkit.integrations.mlflow.opened import open_logged
from modelkit.integrations.mlflow.records import LONGEST, _named
from modelkit.integrations.scorer import scorer as module
from modelkit.integrations.scorer.tallier import TALLY, Tallier

R = np.random.default_rng(0)
X = pd.DataFrame({"a": R.normal(size=200), "b": R.normal(size=200)})
LABELS = np.where(X["a"] > 0, "yes", "no")
IMAGES = R.normal(size=(7, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "p.mk"
    model = LogisticRegression().fit(X, LABELS)
    mk.save(model, path, example=X, name="p", version="1", background=X[:20])
    return path


class Rows(torch.nn.Module):
    """Two outputs, of which the columns of one are named as the other."""

    def forward(self, x):
        return {"y": x[:, :2], "y_0": x[:, 0]}


class Named(torch.nn.Module):
    """An output with the name that an explanation has."""

    def forward(self, x):
        return {"base": x.sum(dim=1)}


def saved(net, path, **options):
    example = torch.from_numpy(IMAGES)
    mk.save(net.eval(), path, example=example, name="n", version="1", **options)
    return path


def test_two_outputs_of_one_name_in_a_frame_are_refused(tmp_path):
    """One of them was lost without a word."""
    path = saved(Rows(), tmp_path / "rows.mk")
    scorer = mk.Scorer(path)
    (name,) = scorer.inputs
    frame = pd.DataFrame({name: list(IMAGES)})
    with pytest.raises(SignatureError, match=r"would be named \['y_0'\]"):
        scorer.frame(frame)
    assert scorer.arrow(pa.table({name: list(IMAGES)})).column_names == ["y", "y_0"]
    assert list(mk.Scorer(path, outputs=["y"]).frame(frame)) == ["y_0", "y_1"]


def test_an_output_named_as_an_explanation_is_refused(tmp_path):
    path = saved(Named(), tmp_path / "named.mk", background=torch.from_numpy(IMAGES))
    with pytest.raises(SignatureError, match="outputs of the names that an explanation adds"):
        mk.Scorer(path, explain=True)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"keep": "a"}, SignatureError, "keep is a list of names"),
        ({"keep": "id"}, SignatureError, "keep is a list of names"),
        ({"device": "gpu7"}, DeviceError, "is not a device"),
        ({"threads": 0}, DeviceError, "threads must be"),
        ({"threads": "many"}, DeviceError, "threads must be"),
    ],
)
def test_mistakes_are_told_where_the_job_starts(package, wrong, error, says):
    with pytest.raises(error, match=says):
        mk.Scorer(package, **wrong)


def test_a_kept_column_that_is_there_twice_or_has_other_rows_is_refused(package):
    scorer = mk.Scorer(package, keep=["id"])
    twice = pd.concat([X, pd.DataFrame({"id": X["a"]}), pd.DataFrame({"id": X["b"]})], axis=1)
    with pytest.raises(SignatureError, match="several columns of that name"):
        scorer.frame(twice)
    names = ["a", "b", "id", "id"]
    table = pa.table([twice.iloc[:, i].to_numpy() for i in range(4)], names=names)
    with pytest.raises(SignatureError, match="several columns of that name"):
        scorer.arrow(table)
    with pytest.raises(SignatureError, match=r"given 3 rows, and keep has others in \['id'\]"):
        scorer({"a": np.ones(3), "b": np.ones(3), "id": np.ones(4)})


def test_a_model_column_that_is_there_twice_in_a_table_is_refused(package):
    table = pa.table([X["a"], X["b"], X["a"]], names=["a", "b", "a"])
    with pytest.raises(SignatureError, match=r"several columns of the names \['a'\]"):
        mk.Scorer(package).arrow(table)


def test_arrays_that_are_missing_or_differ_are_told(tmp_path):
    scorer = mk.Scorer(saved(Rows(), tmp_path / "rows.mk"), outputs=["y_0"])
    (name,) = scorer.inputs
    for odd in (None, IMAGES[0][:2]):
        for rows in ([odd, IMAGES[0]], [IMAGES[0], odd]):
            with pytest.raises(SignatureError, match="has arrays of the shapes"):
                scorer.frame(pd.DataFrame({name: rows}))
    encoded = pa.table({name: pa.array(["a", "b"]).dictionary_encode()})
    with pytest.raises(SignatureError, match="must have shape"):
        scorer.arrow(encoded)


def test_a_file_of_text_is_no_package(package):
    with package.open(encoding="latin1") as file, pytest.raises(TypeError, match="binary mode"):
        mk.Scorer(file)


@pytest.mark.parametrize("home", ["a file", "/proc", "without write permission"])
def test_a_url_is_scored_where_no_copy_can_be_kept(package, tmp_path, monkeypatch, home):
    place = tmp_path / home
    if home == "a file":
        place.write_text("")
    elif home != "/proc":
        place.mkdir()
        (place / ".cache").write_text("")
    monkeypatch.setenv("HOME", home if home == "/proc" else str(place))
    module._held._values.clear()
    assert len(mk.Scorer(f"file://{package}").frame(X)) == len(X)


def test_a_damaged_copy_is_made_again(package, tmp_path, monkeypatch):
    """Its manifest is whole, so that every job on the machine failed until somebody deleted it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    whole = package.read_bytes()
    cached = tmp_path / ".cache" / "modelkit" / f"{mk.inspect(package).digest}.mk"
    cached.parent.mkdir(parents=True)
    graph = next(i for i in zipfile.ZipFile(package).infolist() if i.filename.endswith(".onnx"))
    damaged = bytearray(whole)
    damaged[graph.header_offset + 120] ^= 255
    cached.write_bytes(damaged)
    with pytest.raises(IntegrityError):
        mk.load(cached)
    module._held._values.clear()
    assert len(mk.Scorer(f"file://{package}").frame(X)) == len(X)
    assert cached.read_bytes() == whole
    cached.unlink()
    cached.mkdir()
    module._held._values.clear()
    assert len(mk.Scorer(f"file://{package}").frame(X)) == len(X)


def test_a_relative_path_holds_after_chdir_and_a_replaced_file_after_opening(
    package, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.mk"
    path.write_bytes(package.read_bytes())
    (tmp_path / "sub").mkdir()
    scorer = pickle.loads(pickle.dumps(mk.Scorer("mine.mk")))
    monkeypatch.chdir(tmp_path / "sub")
    module._held._values.clear()
    before = scorer.frame(X)
    path.unlink()
    assert scorer.frame(X).equals(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_child_forked_while_the_package_is_being_opened_opens_its_own(package):
    scorer = mk.Scorer(package)
    module._held._values.clear()
    place = (os.getpid(), scorer.digest, ("model", *scorer._way()))
    status = []

    def fork():
        child = os.fork()
        if not child:
            with_lock_free = module._held._lock.acquire(blocking=False)
            os._exit(0 if with_lock_free and place not in module._held._values else 3)
        status.append(os.waitpid(child, 0)[1])
        return scorer._open()

    module._held.get("other", 1, fork)
    assert status == [0]


def test_an_empty_pin_of_mlflow_is_no_pin(package, monkeypatch):
    """As where a deployment sets MODELKIT_DIGEST to a variable that it does not have."""
    digest = mk.inspect(package).digest
    monkeypatch.setenv("MODELKIT_DIGEST", digest)
    open_logged(str(package), {"digest": digest})
    for unset in ("", None):
        with pytest.raises(IntegrityError, match="model_config is set and empty"):
            open_logged(str(package), {"digest": unset})
    monkeypatch.setenv("MODELKIT_DIGEST", "")
    with pytest.raises(IntegrityError, match="MODELKIT_DIGEST is set and empty"):
        open_logged(str(package), {"digest": digest})


@pytest.mark.parametrize("settings", [None, {}, {"team": "risk"}])
def test_a_logged_model_that_would_drop_a_pin_is_refused(package, settings):
    """MLflow passes on only those settings that the logged model has."""
    with pytest.raises(IntegrityError, match="no setting 'digest'"):
        open_logged(str(package), settings)


# Tallies.


def rows_of(n, seed):
    r = np.random.default_rng(seed)
    return pd.DataFrame({"x": r.normal(size=n), "city": r.choice(["Oslo", "Lom"], n)})


def answers(n, seed):
    p = np.random.default_rng(seed).beta(2, 5, n)
    return {"probabilities": np.column_stack([1 - p, p])}


@dataclass(frozen=True)
class Past:
    """A profile, rows beside it, and their tally."""

    profile: mk.Profile
    rows: pd.DataFrame
    scores: dict[str, np.ndarray]
    tally: mk.Tally

    def forged(self, groups, counts):
        about = {"profile": self.profile.digest, "groups": groups}
        return mk.Tally.from_bytes(archive.pack(TALLY_SCHEMA, about, {"counts": counts}))


@pytest.fixture(scope="module")
def past():
    profile = mk.Profile.fit(rows_of(1500, 0), reference=rows_of(1500, 1), scores=answers(1500, 2))
    rows = rows_of(400, 3)
    scores = answers(400, 4)
    return Past(profile, rows, scores, profile.tally(rows, scores))


@pytest.mark.parametrize("kind", ["dictionary", "large_string", "string_view", "chunks"])
def test_columns_are_counted_however_arrow_encodes_them(past, kind):
    """A column of categories, as Ray and Parquet have them, was taken for one of lists."""
    city = pa.chunked_array([pa.array(past.rows["city"])])
    if kind == "dictionary":
        city = city.dictionary_encode()
    elif kind == "chunks":
        city = pa.chunked_array([city.chunk(0)[:7], city.chunk(0)[7:7], city.chunk(0)[7:]])
    else:
        city = city.cast(getattr(pa, kind)())
    lists = list(past.scores["probabilities"])
    table = pa.table({"x": past.rows["x"], "city": city, "probabilities": lists})
    found = Tallier(past.profile, ["probabilities"]).arrow(table)[TALLY].to_pylist()
    assert [mk.Tally.from_bytes(data) for data in found] == [past.tally]


def test_missing_embeddings_of_a_frame_are_told():
    def vectors(n, seed):
        return {"e": np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)}

    profile = mk.Profile.fit(vectors(600, 0), reference=vectors(600, 1))
    rows = vectors(3, 2)["e"]
    found = Tallier(profile).frame(pd.DataFrame({"e": list(rows)}))
    assert found == [profile.tally({"e": rows})]
    with pytest.raises(SignatureError, match="column 'e' has arrays of the shapes"):
        Tallier(profile).frame(pd.DataFrame({"e": [rows[0], None, rows[2]]}))


def test_scores_that_are_a_text_are_told(past):
    with pytest.raises(DriftError, match="scores is a list of names"):
        Tallier(past.profile, "probabilities")


@pytest.mark.parametrize(
    "groups",
    [
        [[None, -2]],
        [[None, 0.5]],
        [[None, True]],
        [[True, 0]],
        [[["z"], 0]],
        [[None, 0], [None, 0]],
        [["z", 0], [1, 0]],
        "ab",
        [[None]],
        3,
    ],
)
def test_bytes_with_forged_groups_are_no_tally(past, groups):
    copies = len(groups) if isinstance(groups, list) else 1
    counts = np.concatenate([past.tally.counts.astype(np.uint16)] * copies)
    with pytest.raises(DriftError, match="this is no tally"):
        past.forged(groups, counts)


@pytest.mark.parametrize("change", [lambda c: c + 0.5, lambda c: c * 1j, lambda c: c.astype(str),
                                    lambda c: c - 1, lambda c: (c + 2**62).astype(np.uint64),
                                    lambda c: c[:, :, :9].astype(np.uint8)])  # fmt: skip
def test_bytes_with_forged_counts_are_no_tally(past, change):
    with pytest.raises(DriftError, match="this is no tally"):
        past.forged([[None, 0]], change(past.tally.counts))


def test_a_tally_that_no_rows_give_is_not_tested(past):
    counts = past.tally.counts.astype(np.uint32)
    uneven = np.concatenate([counts[:, :1] * 3, counts[:, 1:]], axis=1)
    odd = [
        past.forged([[None, 7]], counts),
        past.forged([["z", 0]], counts),
        past.forged([[None, 0]], counts[:, :1]),
        past.forged([[None, 0]], uneven),
        past.forged([[None, 0]], counts * 0),
    ]
    detector = mk.Detector(past.profile)
    assert detector.test(past.forged([[None, 0]], counts)).rows == len(past.rows)
    for tally in odd:
        with pytest.raises(DriftError, match="tally"):
            detector.test(tally)


# Names of metrics in MLflow.

CHARACTERS = st.text(st.sampled_from("ab_2859f(.%é "), max_size=8)


@given(st.sets(CHARACTERS, min_size=2))
@example({"a(b", "a_28_b"})
def test_checks_of_different_names_are_metrics_of_different_names(names):
    assert len({_named(name) for name in names}) == len(names)


def test_the_name_of_a_metric_is_short_enough_for_mlflow():
    longest = ["slice " + "é" * 300 + end for end in "ab"]
    assert len(set(map(_named, longest))) == 2
    assert max(map(len, map(_named, longest))) == LONGEST
