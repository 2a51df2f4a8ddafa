"""Run the code and the commands of a page of the documentation, one after another, in a new folder.

`python` blocks share their names, `console` blocks hold commands of modelkit, and `bash` blocks are scripts.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from modelkit.cli import main

BLOCK = re.compile(
    r"^```(?P<kind>python|console|bash)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"^\$ modelkit (.*)$", re.MULTILINE)


def run(page: Path) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    text = page.read_text(encoding="utf-8")
    os.chdir(tempfile.mkdtemp())
    for block in BLOCK.finditer(text):
        if block["kind"] == "python":
            exec(compile(block["body"], str(page), "exec"), names)  # noqa: S102 - it is ours
            continue
        if block["kind"] == "bash":
            script = ["bash", "-e", "-c", block["body"]]
            subprocess.run(script, check=True)  # noqa: S603 - it is ours
            continue
        for command in COMMAND.findall(block["body"]):
            print(f"\n$ modelkit {command}", flush=True)
            main(shlex.split(command))


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve())
