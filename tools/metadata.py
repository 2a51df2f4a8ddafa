"""What an index shows of a release: the README with links that lead to the repository, and its URLs.

Hatchling runs this where a wheel is built. The address stands in `tool.modelkit` of pyproject.toml.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")


def absolute(text: str, repository: str, version: str) -> str:
    """A page whose relative links lead to the files of a version."""
    return LINK.sub(rf"]({repository}/blob/v{version}/\1)", text)


class Metadata(MetadataHookInterface):  # type: ignore[misc]
    """The fields `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set both."""
        root = Path(self.root)
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        home = project["tool"]["modelkit"]["repository"]
        text = (root / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, home, metadata["version"]),
        }
        version = f"{home}/blob/v{metadata['version']}"
        metadata["urls"] = {
            "Documentation": f"{version}/docs/index.md",
            "Source": home,
            "Changelog": f"{version}/CHANGELOG.md",
            "Issues": f"{home}/issues",
        }
