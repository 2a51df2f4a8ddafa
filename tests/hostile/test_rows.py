"""Files of rows that somebody else wrote: an error says what is wrong, nothing runs, nothing is guessed."""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import pandas as pd
import pytest
from helpers.commands import run
from helpers.examples import examples
from sklearn.linear_model import LogisticRegression

import modelkit as mk

GOOD = b"a,b\n1,2\n3,4\n"
PARQUET = {"a": [1.0, 2.0], "b": [1.0, 2.0]}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "m.mk"
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])
    y = np.where(X["a"] > 0, "=cmd|' /C calc'!A0", '@sum, "quoted"')
    mk.save(LogisticRegression().fit(X, y), path, example=X, name="m", version="1")
    return path


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"", "is empty; it needs at least one row"),
        ("x.csv", b"\n\n\n", "is empty; it needs at least one row"),
        ("x.csv", b"a,b\n", "is empty; it needs at least one row"),
        ("x.csv", b"a,b,a\n1,2,3\n", "there is more than one column 'a'"),
        ("x.csv", GOOD.decode().encode("utf-16"), "cannot be read as CSV in UTF-8"),
        ("x.csv", "a,b\n1,ü\n".encode("latin-1"), "cannot be read as CSV in UTF-8"),
        ("x.csv", b"a,b\n1," + b"9" * 200_000 + b"\n", "field larger than field limit"),
        ("x.csv", b"a,b\n1," + b"9" * 100_000 + b"\n", "is not float64"),
        ("x.csv", b"a,b\n1,1e999\n", "'1e999' is not float64"),
        ("x.csv", b"a,b\n1,0x10\n", "'0x10' is not float64"),
        ("x.csv", b"a,b\n1,inf\n", "column 'b'"),
        ("x.csv", b"a,b\n1,NaN\n", "column 'b'"),
        ("x.csv", b"a,b\n1,\n", "column 'b'"),
        ("x.csv", b"a,b\n1,2,3\n", "row 0 has 3 cells, and 2 are expected"),
        ("x.csv", b'a,b\n1,"2\n', "unexpected end of data"),
        ("x.csv", b"a,b\n1,\x00\n", "is not float64"),
        ("x.csv", b"a,b\n1,=1+1\n", "'=1+1' is not float64"),
        ("x.csv.gz", gzip.compress(GOOD, mtime=0)[:-9], "cannot be read as CSV in UTF-8: Compressed file ended"),
        ("x.csv.gz", b"\x1f\x8b" + b"\x00" * 30, "cannot be read as gzip"),
        ("x.csv.gz", gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 30, "cannot be read as "),
        ("x.jsonl", b'{"a": 1, "b": 2}\n{"a": 1,\n', "line 2: "),
        ("x.jsonl", b'{"a": 1, "b": NaN}\n', "line 1: NaN is not JSON"),
        ("x.jsonl", b'{"a": 1, "b": 1e999}\n', "beyond the largest number"),
        ("x.jsonl", b'{"a": 1, "a": 2, "b": 2}\n', "a key appears twice"),
        ("x.jsonl", b'{"a": 1, "b": 2}\n{"a": 1}\n', "differ in the fields ['b']"),
        ("x.jsonl", b'{"a": 1, "b": "2"}\n', "column 'b'"),
        ("x.jsonl", b'{"a": 1, "b": [2]}\n', "column 'b'"),
        ("x.json", b"[[1, 2]]", "row 0 is [1, 2], and not an object"),
        ("x.json", b"[1, 2]", "row 0 is 1, and not an object"),
        ("x.json", b"[]", "is empty; it needs at least one row"),
        ("x.json", b"nothing", "cannot be read as JSON"),
        ("x.json", b"[" * 100_000, "cannot be read as JSON"),
        ("x.json", b'{"a": ' * 100_000, "cannot be read as JSON"),
        ("x.json", b"\xff\xfe", "cannot be read as JSON"),
        ("x.parquet", b"PAR1" * 3, "cannot be read as Parquet"),
        ("x.parquet", GOOD, "cannot be read as Parquet"),
        ("x.parquet", b"", "cannot be read as Parquet"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(capsys, package, tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    status, out, err = run(capsys, "predict", package, tmp_path / name)
    assert (status, out) == (1, "")
    assert message in err
    assert len(err) < 700


@pytest.mark.property
def test_any_damage_of_a_file_is_an_error_or_other_rows(capsys, package, tmp_path):
    """Bits are flipped in files of every kind; no damage is a traceback."""
    frame = pd.DataFrame(PARQUET)
    frame.to_parquet(tmp_path / "good.parquet")
    kinds = {
        "x.csv": GOOD,
        "x.csv.gz": gzip.compress(GOOD, mtime=0),
        "x.jsonl": b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n',
        "x.parquet": (tmp_path / "good.parquet").read_bytes(),
    }
    rng = np.random.default_rng(0)
    for name, data in kinds.items():
        for bit in rng.integers(0, 8 * len(data), examples(60)).tolist():
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            (tmp_path / name).write_bytes(changed)
            status, _, err = run(capsys, "predict", package, tmp_path / name)
            assert status in (0, 1)
            assert (status == 1) == err.startswith("modelkit: ")


def test_a_bomb_of_gzip_is_read_in_pieces(capsys, package, tmp_path):
    packed = zlib.compressobj(wbits=31)
    with open(tmp_path / "x.csv.gz", "wb") as file:
        file.write(packed.compress(b"a,b\n"))
        file.writelines(packed.compress(b"0" * (1 << 20)) for _ in range(64))
        file.write(packed.flush())
    status, _, err = run(capsys, "predict", package, tmp_path / "x.csv.gz")
    assert (status, "field larger than field limit" in err) == (1, True)


def test_texts_that_a_spreadsheet_would_run_are_written_as_they_are(capsys, package, tmp_path):
    """A quote before them would change the text: the docs say how to import them."""
    odd = ["=1+1", '"', "a\nb", "+cmd", "-2+3", "@x", "\x1b[2J", "ü", ""]
    frame = pd.DataFrame({"a": range(9), "b": range(9), "id": odd}, dtype=object)
    frame.to_csv(tmp_path / "x.csv", index=False)
    for name in ("found.csv", "found.parquet", "found.jsonl"):
        words = ("predict", package, tmp_path / "x.csv", "--id", "id", "--output", tmp_path / name)
        assert run(capsys, *words)[0] == 0
    found = pd.read_csv(tmp_path / "found.csv", keep_default_na=False)
    assert found["id"].tolist() == odd
    assert set(found["label"]) <= {"=cmd|' /C calc'!A0", '@sum, "quoted"'}
    assert pd.read_parquet(tmp_path / "found.parquet")["id"].fillna("").tolist() == odd


def test_duplicate_columns_of_parquet_are_refused(capsys, package, tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.Table.from_arrays([pa.array([1.0])] * 3, names=["a", "b", "a"])
    parquet.write_table(table, tmp_path / "x.parquet")
    status, _, err = run(capsys, "predict", package, tmp_path / "x.parquet")
    assert (status, "more than one column 'a'" in err) == (1, True)


def test_ids_of_several_types_are_an_error_in_parquet(capsys, package, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a":1,"b":2,"k":1}\n{"a":1,"b":2,"k":"x"}\n')
    words = ["predict", package, tmp_path / "x.jsonl", "--id", "k"]
    assert run(capsys, *words)[0] == 0
    status, _, err = run(capsys, *words, "--output", tmp_path / "y.parquet")
    assert (status, "do not fit into Parquet" in err) == (1, True)
    assert not (tmp_path / "y.parquet").exists()
    (tmp_path / "x.jsonl").write_text('{"a":1,"b":2,"k":null}\n{"a":1,"b":2,"k":null}\n')
    assert run(capsys, *words, "--output", tmp_path / "y.parquet")[0] == 0


def test_a_folder_and_a_file_that_is_not_there_are_named(capsys, package, tmp_path):
    for path in (tmp_path, tmp_path / "nothing.csv"):
        status, _, err = run(capsys, "predict", package, path)
        assert (status, str(path) in err) == (1, True)
    (tmp_path / "x.csv").write_bytes(GOOD)
    words = ("predict", package, tmp_path / "x.csv", "--output", tmp_path / "no" / "y.csv")
    status, _, err = run(capsys, *words)
    assert (status, "No such file or directory" in err) == (1, True)
