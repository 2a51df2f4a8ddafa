"""What a wheel of modelkit brings beside its modules."""

import zipfile

from modelkit.integrations.deploy import PLATFORMS


def test_templates_ship_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {*file.namelist()}
    folder = "modelkit/integrations/deploy"
    assert {
        f"{folder}/{kind}/{name}"
        for kind, platform in PLATFORMS.items()
        for name in platform.templates
    } <= names
