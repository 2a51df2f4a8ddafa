"""Joins the changes of changelog.d into one file of this version, and dates it in CHANGELOG.md: `make changes`.

It can run again until the version is tagged: what came since is added.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "changelog.d"
LOG = ROOT / "CHANGELOG.md"
VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
JOINED = re.compile(r"\d+\.\d+\.\d+\.md")


def changes(text: str) -> list[str]:
    """The changes of a file, a line each."""
    lines = (line.strip().removeprefix("- ") for line in text.splitlines())
    return [f"- {line}" for line in lines if line and not line.startswith("#")]


def joined(before: str, texts: list[str], version: str) -> str:
    """The file of a version, with what it held before."""
    every = [line for text in [before, *texts] for line in changes(text)]
    return "\n".join([f"# {version}", "", *sorted({*every}, key=str.casefold)]) + "\n"


def dated(log: str, version: str, day: str) -> str:
    """The changelog with the day of a version. Raises SystemExit where nobody has summed up the version."""
    found, count = re.subn(
        rf"^## {re.escape(version)}, .*$", f"## {version}, {day}", log, flags=re.MULTILINE
    )
    if not count:
        raise SystemExit(f"CHANGELOG.md has no section {version}: write what is new in 15 lines")
    return found


def main() -> None:
    version = VERSION.findall((ROOT / "src/modelkit/__init__.py").read_text(encoding="utf-8"))[0]
    log = dated(LOG.read_text(encoding="utf-8"), version, str(datetime.now(UTC).date()))
    files = [
        path
        for path in sorted(FOLDER.glob("*.md"))
        if path.name != "README.md" and not JOINED.fullmatch(path.name)
    ]
    target = FOLDER / f"{version}.md"
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    texts = [path.read_text(encoding="utf-8") for path in files]
    target.write_text(joined(before, texts, version), encoding="utf-8")
    LOG.write_text(log, encoding="utf-8")
    for path in files:
        path.unlink()
    print(f"{version}: {len(files)} files are joined in {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
