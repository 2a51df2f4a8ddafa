"""`modelkit predict` in a process of its own: its encoding, and a reader that goes away."""

import gzip
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.shells import bytes_as, table_in
from sklearn.linear_model import LogisticRegression

import modelkit as mk


def test_an_output_without_the_characters_is_an_error_that_says_so(tmp_path):
    X = pd.DataFrame({"x": [0.0, 1.0] * 10})
    mk.save(
        LogisticRegression().fit(X, ["Größe", "b"] * 10),
        tmp_path / "g.mk",
        example=X,
        name="g",
        version="1",
    )
    X.to_csv(tmp_path / "x.csv", index=False)
    command = [
        sys.executable,
        "-m",
        "modelkit",
        "predict",
        str(tmp_path / "g.mk"),
        str(tmp_path / "x.csv"),
    ]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == b"modelkit: the output cannot show '\\xf6'; set PYTHONIOENCODING=utf-8\n"


def test_a_reader_that_goes_away_is_no_error(penguins_mk, penguins, tmp_path):
    pd.concat([penguins[0]] * 30).to_csv(tmp_path / "x.csv", index=False)  # more than a pipe holds
    command = [
        sys.executable,
        "-m",
        "modelkit",
        "predict",
        str(penguins_mk),
        str(tmp_path / "x.csv"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0  # so that `modelkit predict ... | head` is well under pipefail


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "csv.gz"])
def test_ten_times_the_rows_take_the_same_memory(tmp_path, form):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(201_000, 10))).add_prefix("x")
    few = X[:1000]
    fitted = LogisticRegression().fit(few, few["x0"] > 0)
    mk.save(fitted, tmp_path / "m.mk", example=few, name="m", version="1")
    code = (
        "import pathlib, re, sys\n"
        "from modelkit.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(int(re.search('VmHWM: *\\t *([0-9]+) kB', status)[1]) / 1024)"
    )
    used = []
    for rows in (20_100, 201_000):
        (tmp_path / f"x.{form}").write_bytes(bytes_as(X[:rows], f"x.{form}"))
        words = [str(tmp_path / name) for name in ("m.mk", f"x.{form}", f"y.{form}")]
        done = subprocess.run(
            [sys.executable, "-c", code, "predict", *words[:2], "--output", words[2]],
            capture_output=True,
            check=True,
            text=True,
        )
        used.append(float(done.stdout))
    data = (tmp_path / f"y.{form}").read_bytes()
    plain = gzip.decompress(data) if form.endswith("gz") else data
    assert len(table_in(plain, form.removesuffix(".gz"))) == 201_000
    # In MB; the rows take 16 as numbers, and hundreds as records.
    assert used[1] < used[0] + 30
