"""Files of a folder are created once, whole or not at all; buckets keep the same contract in `tests/slow/lifecycle`."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelkit.errors import NotAFile, UsageError
from modelkit.store import open_store

RECORD = b"a record of some bytes"


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "kept")


def test_a_file_is_created_once(store):
    assert store.read("log/1") is None
    assert store.create("log/1", RECORD)
    assert not store.create("log/1", b"another")
    assert store.read("log/1") == RECORD


def test_a_file_that_has_the_content_was_made(store):
    """By whomever: the answer to the one who made it may have been lost."""
    assert store.create("log/1", RECORD)
    assert store.create("log/1", RECORD)
    assert store.create("log/1", memoryview(RECORD))


def test_of_many_writers_of_one_name_one_succeeds(store):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: store.create("log/1", b"%d" % i), range(32)))
    assert made.count(True) == 1
    assert store.read("log/1") == b"%d" % made.index(True)
    assert store.names("log") == ["1"]


def test_names_and_folders_are_listed_in_their_order(store):
    assert store.names("log") == store.folders("log") == []
    for name in ("log/b", "log/a", "log/c", "log/deep/er", "log/deeper/x"):
        store.create(name, RECORD)
    assert store.names("log") == ["a", "b", "c"]
    assert store.names("log", after="a") == ["b", "c"]
    assert store.folders("log") == ["deep", "deeper"]
    store.remove("log/b")
    assert store.names("log") == ["a", "c"]


def test_what_is_no_record_is_named(store):
    store.create("log/1", RECORD)
    with pytest.raises(NotAFile, match="22 bytes"):
        store.read("log/1", most=10)
    with pytest.raises(NotAFile, match="a folder in place of a file"):
        store.read("log")
    with pytest.raises(NotAFile, match="leads to no file"):
        store.read("log/1/2")


def test_a_disk_that_is_full_is_an_error_of_the_file_and_leaves_nothing(store, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.create("log/1", RECORD)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*log/2"):
        store.create("log/2", RECORD)
    assert os.listdir(store.path("log")) == ["1"]


def test_a_folder_that_became_read_only_is_an_error_of_the_file(store, monkeypatch):
    def refused(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    store.create("log/1", RECORD)
    for name in ("open", "unlink"):
        monkeypatch.setattr(os, name, refused)
    with pytest.raises(OSError, match=r"Read-only file system: .*log/2"):
        store.create("log/2", RECORD)


def test_a_file_cannot_be_written_to(store):
    store.create("log/1", RECORD)
    assert os.stat(store.path("log/1")).st_mode & 0o222 == 0


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "kept").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file; a registry is a folder or a bucket"):
        open_store(tmp_path / "kept")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("", "'.' is the folder that you are in"),
        ("s3:/models", "is it s3://models"),
        ("S3//models/x", "is it s3://models/x"),
        ("gs:models", "is it gs://models"),
        ("file:///models", "give the path of a folder as it is"),
        ("https://store/models", "give a bucket by its own URL"),
        ("https://me:secret@store/models", "https://"),
    ],
)
def test_a_misspelt_address_is_refused_with_the_fix(where, words):
    with pytest.raises(UsageError) as caught:
        open_store(where)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
