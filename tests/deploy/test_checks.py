"""The commands that `modelkit export --check` names, as a shell runs them in the folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.images import write

from modelkit.integrations.deploy import PLATFORMS, exported

COMMANDS = [
    command
    for platform in PLATFORMS.values()
    for command in platform.checks
    if "server" not in command  # that one asks a cluster
]
ENVIRON = os.environ | {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
}


@pytest.mark.parametrize("command", COMMANDS)
def test_they_find_nothing_in_what_was_written(command, tumour_mk, tmp_path):
    missing = [
        word for word in programs(command) if shutil.which(word, path=ENVIRON["PATH"]) is None
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed: make programs")
    for kind in PLATFORMS:
        write(tmp_path, exported(kind, tumour_mk, registry="s3://models/production"))
    done = ran(command, tmp_path)
    assert done.returncode == 0, done.stderr
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace("FROM", "FORM").replace(":", ";"))
    assert ran(command, tmp_path).returncode != 0


def programs(command):
    return [part.split()[0] for part in command.split("|")]


def ran(command, folder):
    command = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(
        command, check=False, cwd=folder, env=ENVIRON, capture_output=True, text=True, timeout=280
    )
