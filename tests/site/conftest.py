"""The site, as `make docs` builds it, and a browser without a network."""

import shutil
import subprocess
import sys

import pytest
from helpers.places import ROOT

MINUTES = 300_000  # milliseconds, since a browser may wait for its turn


@pytest.fixture(scope="session")
def site(once):
    """A folder with the site; a warning of Sphinx is an error."""

    def build(folder):
        command = ["-q", "-E", "-W", "--keep-going", "-n", "-b", "html"]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "sphinx",
                *command,
                ROOT / "docs",
                folder,
                "-d",
                f"{folder}.trees",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return once("site", build)


@pytest.fixture(scope="session")
def browser():
    """Chromium, as the system has it."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: make programs")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"], timeout=MINUTES
        )
