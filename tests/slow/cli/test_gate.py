"""`modelkit gate` in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.judged import arguments, folder_of


@pytest.fixture(scope="module")
def folder(judged_pair, judged_rows, tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("gate"), judged_pair, judged_rows)


def test_a_shell_sees_the_status(folder):
    command = [
        sys.executable,
        "-m",
        "modelkit",
        *arguments(folder, "--margin", "0", "--slice", "region"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 3, done.stderr
