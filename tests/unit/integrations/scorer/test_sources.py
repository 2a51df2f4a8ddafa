"""What a Scorer opens: paths, URLs, files and digests; copies that are kept; secrets that are not."""

import pickle
import traceback
import zipfile

import pytest
from helpers.scored import LABELS, X
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import ContainerError, IntegrityError
from modelkit.integrations.mlflow.opened import open_logged
from modelkit.integrations.scorer import scorer as module


def test_a_file_of_text_is_no_package(package):
    with (
        package.open(encoding="latin1") as file,
        pytest.raises(TypeError, match="binary file object"),
    ):
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


@pytest.mark.parametrize("form", ["{}", "sha256:{}", "SHA256:{}"])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_a_digest_is_the_same_in_either_case(package, tmp_path, monkeypatch, form, case):
    digest = form.format(case(mk.inspect(package).digest))
    assert mk.Scorer(package, digest=digest).frame(X)["label"].tolist()
    assert mk.load(package, digest=digest).predict(X).tolist()
    open_logged(str(package), {"digest": digest})
    monkeypatch.setenv("MODELKIT_DIGEST", digest)
    open_logged(str(package), {"digest": digest})
    copy = tmp_path / "copy.mk"
    copy.write_bytes(package.read_bytes())
    mk.attach(copy, metadata={"a": 1}, digest=digest)
    with pytest.raises(IntegrityError, match="asked for"):
        mk.load(copy, digest=digest)
    with pytest.raises(IntegrityError):
        open_logged(str(copy), {"digest": digest})


def test_a_pickled_estimator_opens_by_a_digest_in_upper_case(tmp_path):
    model = LogisticRegression().fit(X, LABELS)
    made = mk.save(model, tmp_path / "j.mk", example=X, name="j", version="1", format="joblib")
    digest = made.digest.upper()
    found = mk.Scorer(tmp_path / "j.mk", digest=digest, allow={"joblib"}).frame(X)
    assert found["label"].tolist() == model.predict(X).tolist()


@pytest.mark.parametrize("wrong", [b"0" * 64, 7])
def test_a_digest_that_is_no_text_is_told(package, wrong):
    with pytest.raises(TypeError, match="digest is a text"):
        mk.load(package, digest=wrong)


def test_a_folder_is_told_from_a_package(package):
    with pytest.raises(ContainerError, match=r"a folder.*mk.Registry\(folder\).reference"):
        mk.Scorer(package.parent)


@pytest.mark.parametrize(
    "url", ["file://user:s3cret@host/no/p.mk", "file:///no/p.mk?X-Amz-Signature=s3cret"]
)
def test_what_a_url_has_of_secrets_stands_in_no_message(url):
    with pytest.raises(ContainerError, match=r"/no/p.mk cannot be read") as caught:
        mk.Scorer(url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value, chain=True))


def test_sources_that_are_none_are_told(tmp_path):
    with pytest.raises(TypeError, match="not int"):
        mk.Scorer(3)
    with pytest.raises(ContainerError, match="cannot be read"):
        mk.Scorer(f"file://{tmp_path}/nothing.mk")
    with pytest.raises(TypeError, match="has its own"):
        module.scorer_of(object.__new__(mk.Scorer), keep=["id"])
