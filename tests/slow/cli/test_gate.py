"""`modelkit gate` in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def folder(judged_pair, judged_rows, tmp_path_factory):
    where = tmp_path_factory.mktemp("gate")
    for package in judged_pair:
        shutil.copy(package, where)
    X, y = judged_rows
    table = X.assign(churned=y, region=np.where(np.arange(3000) % 3, "north", "south"))
    table.to_csv(where / "test.csv", index=False)
    table.to_parquet(where / "test.parquet", index=False)
    table.assign(id=np.arange(3000)).to_csv(where / "more.csv", index=False)
    return where


def arguments(folder, *more, data="test.csv", champion="a.mk"):
    files = [str(folder / "b.mk"), "--champion", str(folder / champion)]
    return ["gate", *files, "--data", str(folder / data), "--label", "churned", *more]


def test_a_shell_sees_the_status(folder):
    command = [
        sys.executable,
        "-m",
        "modelkit.cli",
        *arguments(folder, "--margin", "0", "--slice", "region"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 3, done.stderr
