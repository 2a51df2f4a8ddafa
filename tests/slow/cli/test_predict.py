"""`modelkit predict` in a process of its own: its encoding, and a reader that goes away."""

import os
import subprocess
import sys

import pandas as pd
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
        "--input",
        str(tmp_path / "x.csv"),
    ]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == b"modelkit: the output takes no '\\xf6'; set PYTHONIOENCODING=utf-8\n"


def test_a_reader_that_goes_away_is_no_error(penguins_mk, penguins, tmp_path):
    pd.concat([penguins[0]] * 30).to_csv(tmp_path / "x.csv", index=False)  # more than a pipe holds
    command = [
        sys.executable,
        "-m",
        "modelkit",
        "predict",
        str(penguins_mk),
        "--input",
        str(tmp_path / "x.csv"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0  # so that `modelkit predict ... | head` is well under pipefail
