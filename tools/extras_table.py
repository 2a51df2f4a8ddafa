"""Measures what each extra brings, and writes it into the table of docs/start/install.md: `make extras`.

Each is installed by pip without a cache into an environment of its own, with `cpu` where a runtime is needed. MB are
what site-packages holds beyond pip; seconds are those of the processor, so that neither other programs nor the network
count.
"""

import platform
import re
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/start/install.md"
ROW = re.compile(r"^\| `([a-z-]+)` \|(.*)\|[^|]*\|[^|]*\|$", re.MULTILINE)
MACHINE = re.compile(r"^Measured with .*$", re.MULTILINE)
ALONE = ("cpu", "gpu")


def measured(wheel: Path, extras: str) -> tuple[int, int]:
    """The megabytes and seconds of an install of the wheel with these extras."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)  # noqa: S603
        python = Path(folder, "bin/python")
        packages = next(Path(folder).glob("lib/python*/site-packages"))
        before, start = size(packages), processor()
        pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile"]
        subprocess.run([*pip, f"{wheel}[{extras}]"], check=True)  # noqa: S603
        return round(size(packages) - before), round(processor() - start)


def processor() -> float:
    """The seconds that ended programs took of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def main(wheel: str) -> None:
    def row(found: re.Match[str]) -> str:
        name, text = found.groups()
        megabytes, seconds = measured(
            Path(wheel).resolve(), name if name in ALONE else f"cpu,{name}"
        )
        print(f"{name}: {megabytes} MB, {seconds} s", flush=True)
        return f"| `{name}` |{text}| {megabytes} | {seconds} |"

    page = ROW.sub(row, PAGE.read_text(encoding="utf-8"))
    today = datetime.now(UTC).date()
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    about = "Seconds are CPU time: what pip does beside the download."
    page = MACHINE.sub(f"Measured with {machine}, {today}, by `make extras`. {about}", page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
