"""What a wheel of modelkit brings beside its modules."""

import subprocess
import sys
import zipfile

from helpers.places import ROOT

from modelkit.integrations.deploy import PLATFORMS


def test_templates_ship_in_the_wheel(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = {*file.namelist()}
    folder = "modelkit/integrations/deploy"
    assert {
        f"{folder}/{kind}/{name}"
        for kind, platform in PLATFORMS.items()
        for name in platform.templates
    } <= names
