"""`modelkit audit verify`: what it finds, and its exit status."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.audits import KEY, OTHER_KEY, files_of, pem, write_log
from helpers.commands import run

from modelkit.events import AliasSet

PAGES = Path(__file__).parents[3] / "docs"
BASH = shutil.which("bash")
SET = AliasSet("churn", "champion", "1.1.0", "1.0.0", "gate")


@pytest.fixture
def written(tmp_path):
    """A folder, and files with a public key, another one, and checkpoints."""
    checkpoints = [write_log(tmp_path / "audit", [SET] * 3, KEY) for _ in range(2)]
    (tmp_path / "auditor.pub").write_bytes(pem(KEY)[1])
    (tmp_path / "other.pub").write_bytes(pem(OTHER_KEY)[1])
    (tmp_path / "kept").write_text("".join(f"{line}\n" for line in checkpoints))
    return tmp_path


def verify(written, capsys, *arguments):
    named = [written / each if not each.startswith("--") else each for each in arguments]
    return run(capsys, "audit", "verify", written / "audit", *named)


def test_what_nobody_changed_passes(written, capsys):
    asked = ("--key", "other.pub", "--key", "auditor.pub", "--checkpoint", "kept")
    status, out, _ = verify(written, capsys, *asked)
    assert (status, out) == (0, "12 records of 2 logs: no change was found\n")
    status, out, _ = verify(written, capsys, "--json")
    found = json.loads(out)
    assert (status, found["problems"], found["records"], len(found["notes"])) == (0, [], 12, 1)


def test_what_somebody_changed_has_another_status(written, capsys):
    status, out, _ = verify(written, capsys, "--key", "other.pub")
    assert (status, out.count("problem: ")) == (1, 2)
    path = files_of(written / "audit")[0]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    status, out, _ = verify(written, capsys)
    assert (status, "problem: record 6 of the log" in out) == (1, True)
    path.unlink()
    assert verify(written, capsys, "--key", "auditor.pub")[0] == 0
    kept = written / "kept"
    for text in (kept.read_text(), kept.read_text().strip()):
        kept.write_text(text)
        status, out, _ = verify(written, capsys, "--checkpoint", "kept")
        assert (status, out.count("is not there")) == (1, 1)


@pytest.mark.skipif(BASH is None, reason="no bash here")
def test_the_signed_lines_of_all_processes_are_checkpoints(written, capsys):
    """The line of the page collects them, an event with such words left out."""
    tricky = AliasSet("churn", "champion", "1", "0", '"signature":')
    write_log(written / "audit", [tricky], KEY)
    (command,) = re.findall(
        r"`(grep -h .*kept\.txt)`", (PAGES / "howto/protect/audit.md").read_text("utf-8")
    )
    subprocess.run([BASH, "-ec", command], cwd=written, check=True)
    lines = (written / "kept.txt").read_text().splitlines()
    assert len(lines) == 9  # of each log that it began, a checkpoint, and that it was closed
    asked = ("--key", "auditor.pub", "--checkpoint", "kept.txt")
    assert verify(written, capsys, *asked)[0] == 0
    files_of(written / "audit")[-1].unlink()
    status, out, _ = verify(written, capsys, *asked)
    assert (status, out.count("is not there")) == (1, 3)


def test_what_cannot_be_checked_is_no_pass(written, capsys):
    (written / "empty").write_bytes(b"")
    assert verify(written, capsys, "--checkpoint", "empty")[0] == 1
    assert verify(written, capsys, "--checkpoint", "nowhere")[0] == 1
    assert verify(written, capsys, "--key", "kept")[0] == 2
    assert run(capsys, "audit", "verify", written / "nowhere")[0] == 1
    assert run(capsys, "audit", "verify", written)[0] == 1


def test_a_log_cannot_drive_a_terminal(written, capsys):
    path = files_of(written / "audit")[0]
    (path.parent / "\x1b[31m.jsonl").write_bytes(b"")
    _, out, _ = verify(written, capsys)
    assert "\x1b" not in out
