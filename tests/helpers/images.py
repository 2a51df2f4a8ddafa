"""Images of what `modelkit export docker` writes, built and run by real programs, whose data lies in a folder of ours.

No registry of images can be asked here, so a Debian with Python stands for `python:3.N-slim`.
"""

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.places import ROOT
from helpers.programs import until
from modelkit.integrations.deploy import exported

BASE = "localhost/python:slim"
DEBIAN = "python3-minimal,python3-venv,python3-pip,ca-certificates,libstdc++6"
UNUSED = ("man", "locale", "doc")  # folders of /usr/share
MINUTES = 300  # seconds that a command may take
OFFLINE = ("--build-arg", f"BASE={BASE}", "--build-arg", "PIP_NO_INDEX=1")


def ran(*command, **how):
    """What a command prints, which has to succeed."""
    done = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, timeout=MINUTES, **how
    )
    assert done.returncode == 0, f"{command[:4]}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def needs_root(*programs):
    """Skips a test that cannot start containers here."""
    missing = [program for program in programs if shutil.which(program) is None]
    reason = f"{', '.join(missing)} is not installed: make programs" if missing else "needs root"
    return pytest.mark.skipif(bool(missing) or os.getuid() != 0, reason=reason)


def debian(path):
    """Write the files of a Debian with Python, as this machine has it."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNUSED]
    options = ["--quiet", "--variant=essential", f"--include={DEBIAN}", *excluded]
    try:
        ran("mmdebstrap", *options, "--format=tar", suite, path)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no packages of Debian to make a base image of: {error!s:.300}")


def python_of(base):
    """The version of Python in the files of a system, such as 3.13."""
    with tarfile.open(base) as file:
        found = (re.fullmatch(r"\./usr/bin/python(3\.\d+)", name) for name in file.getnames())
        return next(filter(None, found))[1]


def context(package, base, wheel, folder, **how):
    """What an image is built from without an index: what is exported, and every wheel that it needs."""
    (folder / "wheels").mkdir(parents=True)
    write(folder, exported("docker", package, **how))
    (folder / "other.mk").write_bytes(b"a package that stands beside it stays out of the image")
    machine = platform.machine()
    systems = [f"manylinux_2_{n}_{machine}" for n in (17, 27, 28)] + [f"manylinux2014_{machine}"]
    shutil.copy(wheel, folder / "wheels")
    options = ["--quiet", "--only-binary=:all:", f"--python-version={python_of(base)}"]
    options += [f"--platform={system}" for system in systems]
    options += ["--find-links", folder / "wheels", "--dest", folder / "wheels"]
    ran(sys.executable, "-m", "pip", "download", *options, "-r", folder / "requirements.txt")


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def wheel_of_modelkit(folder):
    """The wheel of this checkout."""
    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


class Podman:
    """Podman and Buildah, whose images and containers lie in a folder of their own."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        places = f'graphroot = "{folder}/images"\nrunroot = "{folder}/run"'
        settings = folder / "storage.conf"
        settings.write_text(f'[storage]\ndriver = "overlay"\n{places}\n')
        self.environ = os.environ | {
            "CONTAINERS_STORAGE_CONF": str(settings),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }

    def __call__(self, *arguments):
        # crun, which is the default, does not start where there are control groups of version 1.
        # conmon writes a file where it was started, if memory runs out.
        command = ("podman", "--runtime", "runc", *arguments)
        return ran(*command, env=self.environ, cwd=self.folder)

    def build(self, base, folder, image):
        """Build an image of a context; Buildah has no BuildKit."""
        self("import", "--quiet", base, BASE)
        limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        options = ["--format=docker", "--isolation=chroot", "--network=host"]
        for name, limit in limits.items():  # more than these cannot be had
            most = resource.getrlimit(limit)[1]
            options.append(f"--ulimit={name}={most}:{most}")
        command = ["buildah", "build", *options, *OFFLINE, "--tag", image, folder]
        ran(*command, env=self.environ)

    @contextmanager
    def run(self, *arguments):
        """A container in the network of this machine, which ends with the block."""
        name = self("run", "--detach", "--network=host", *arguments).strip()
        try:
            yield name
        finally:
            self("rm", "--force", "--time=0", name)

    def state(self, name):
        return json.loads(self("inspect", name))[0]["State"]

    def logs(self, name):
        return ran("sh", "-c", 'podman logs "$1" 2>&1', "sh", name, env=self.environ)

    def remove(self):
        """End all, and remove what is stored."""
        self("rm", "--all", "--force", "--time=0")
        self("rmi", "--all", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)


class Docker:
    """A daemon of Docker in a network and a table of mounts of its own, so that nothing of this machine changes."""

    def __init__(self, folder):
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self.environ = os.environ | {"DOCKER_HOST": self.host}

    @contextmanager
    def running(self):
        """The daemon, until the block ends; the tests are skipped where it does not start."""
        data = self.folder / "data"
        data.mkdir(parents=True)
        places = [f"--data-root={data}", f"--exec-root={self.folder}/exec"]
        options = [f"--host={self.host}", f"--pidfile={self.folder}/pid", *places]
        # Files of a disk take a minute to be removed.
        script = 'mount -t tmpfs tmpfs "$0" && ip link set lo up && exec dockerd "$@"'
        command = ["unshare", "--net", "--mount", "sh", "-c", script, data, *options]
        log = self.folder / "log"
        with log.open("w") as written:
            daemon = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)
        try:
            while not (self.folder / "docker.sock").exists() or not self._answers():
                if daemon.poll() is not None:
                    pytest.skip(f"dockerd does not start here: {log.read_text()[-300:]}")
                time.sleep(0.1)
            yield self
            containers = self("ps", "--all", "--quiet").split()
            if containers:  # it would wait for each to end by itself
                self("rm", "--force", *containers)
        finally:
            daemon.terminate()
            daemon.wait(60)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self):
        command = ["docker", "version"]
        return not subprocess.run(
            command, check=False, capture_output=True, env=self.environ
        ).returncode

    def __call__(self, *arguments, cwd=None):
        return ran("docker", *arguments, env=self.environ, cwd=cwd)

    def inspected(self, *arguments):
        return json.loads(self("inspect", *arguments))[0]

    def image(self, archive, name, *files, entrypoint):
        """An image of the base with programs of this machine, under the name of one that cannot be fetched."""
        folder = self.folder / "image"
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        self("import", archive, BASE)
        lines = [f"FROM {BASE}", "COPY * /bin/", f"ENTRYPOINT {json.dumps(entrypoint)}"]
        (folder / "Dockerfile").write_text("\n".join(lines))
        self("build", "--quiet", "--tag", name, folder)


def settled(found):
    """What `found` gives once it gives something, within a minute."""
    return until(found, "what was waited for", MINUTES)


STORED = Path(sys.prefix) / "containers"  # one folder for all workers of a run
