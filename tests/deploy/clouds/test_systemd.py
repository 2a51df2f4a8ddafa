"""The unit of docs/recipes: what systemd says of it, and what it does under systemd."""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers.places import ROOT
from helpers.programs import needs, until

import modelkit as mk

UNIT = ROOT / "docs" / "recipes" / "modelkit.service"
BOOT = Path(__file__).with_name("boot_systemd.sh")
NAMESPACES = ["--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts", "--ipc", "--net"]
LOG = "/var/log/modelkit"
PATIENCE = 280
FIRST_DYNAMIC = 61184  # of the numbers that systemd gives to users that exist while they run
pytestmark = needs("systemctl", "systemd-analyze", "unshare", "nsenter", "ip")


def test_systemd_reads_every_line_of_the_unit(tmp_path):
    """All but the path of the program, which is not here."""
    text = UNIT.read_text("utf-8").replace("/opt/modelkit/bin/modelkit", shutil.which("true"))
    (tmp_path / UNIT.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / UNIT.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_may_do_little(tmp_path):
    """The exposure that systemd counts, from 0 to 100: what a program without any limit has is 96."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout


def others_python():
    """A Python of this version that any user may run; None where there is none."""
    name = "python" + ".".join(platform.python_version_tuple()[:2])
    for path in (Path(sys.executable).resolve(), Path("/usr/bin", name)):
        if path.exists() and not path.is_relative_to("/root") and not path.is_relative_to("/home"):
            return path
    return None


def may_unshare():
    """Whether this user may make namespaces, mount in them, and use the cgroups of version 2."""
    try_it = "mount -t tmpfs tmpfs /mnt && mount -t cgroup2 cgroup2 /mnt"
    command = ["unshare", *NAMESPACES, "sh", "-c", try_it]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    return done.returncode == 0


class Systemd:
    """A systemd with the unit alone, as the first process of namespaces of its own."""

    def __init__(self, folder, unit, package, python):
        environ = {
            **os.environ,
            "PYTHON": str(python),
            "SITE": sysconfig.get_path("purelib"),
            "SOURCE": str(Path(mk.__file__).parents[1]),
        }
        command = ["unshare", *NAMESPACES, "bash", BOOT, folder, unit, package]
        self.process = subprocess.Popen(command, env=environ)
        until(self.has_booted, "systemd")

    def has_booted(self):
        assert self.process.poll() is None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.first = children.split()[0] if children else None
        return self.first and self.run("systemctl", "is-active", "start.target").returncode == 0

    def run(self, *command):
        """Run a command inside."""
        inside = ["nsenter", "--target", self.first, "--all", *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def show(self, name):
        return self.run(
            "systemctl", "show", "--property", name, "--value", "modelkit"
        ).stdout.strip()

    def log(self):
        return self.run("cat", LOG).stdout

    def end(self):
        self.process.kill()  # and, as it does, all processes inside
        self.process.wait(PATIENCE)


@pytest.fixture
def boot(tmp_path, tumour_mk):
    python = others_python()
    if os.geteuid() != 0 or not may_unshare() or python is None:
        pytest.skip("needs root, namespaces, and a Python outside of its home")
    booted = []

    def begin(digest):
        text = UNIT.read_text("utf-8").replace("sha256:" + 64 * "0", digest)
        logged = f"StandardOutput=append:{LOG}\nStandardError=append:{LOG}\nKillSignal="
        (tmp_path / "unit").write_text(text.replace("KillSignal=", logged))
        (tmp_path / "systemd").mkdir()
        systemd = Systemd(tmp_path / "systemd", tmp_path / "unit", tumour_mk, python)
        booted.append(systemd)
        systemd.run("systemctl", "start", "modelkit")
        return systemd

    yield begin
    for systemd in booted:
        systemd.end()


def test_it_answers_as_a_user_of_no_rights_and_drains(boot, tumour_mk, question, expected):
    systemd = boot(mk.inspect(tumour_mk).digest)
    until(lambda: "://" in systemd.log(), "modelkit serve")
    answer = systemd.run("/opt/modelkit/bin/python", *question)
    assert json.loads(answer.stdout)["outputs"] == expected, systemd.log()
    status = systemd.run("cat", f"/proc/{systemd.show('MainPID')}/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert int(fields["Uid"].split()[0]) >= FIRST_DYNAMIC
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert systemd.run("systemctl", "stop", "modelkit").returncode == 0
    assert (systemd.show("Result"), systemd.show("ExecMainStatus")) == ("success", "0")


def test_another_package_is_never_served(boot):
    systemd = boot("sha256:" + 64 * "0")
    until(lambda: int(systemd.show("NRestarts")) > 0, "the end of the first try")
    assert "that was asked for" in systemd.log()
    assert "://" not in systemd.log()
