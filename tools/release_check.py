"""Builds a wheel and a source distribution, looks into both, and tries the wheel: `make release-check`.

For each Python that is found: with numpy alone, with the oldest libraries that the package admits, and with the newest.
`make release-check PYTHONS="3.11 3.14" KINDS="bare oldest" TESTS=tests/unit/package` tries some of that. A Python can
be a path. What is built and installed lies in build/release.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "release"
UV = Path(sys.executable).with_name("uv")
TOOL = "modelkit"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RESOLUTION = {"oldest": "lowest-direct", "newest": "highest"}
# What the tests bring beside old libraries: scikit-learn 1.8 takes no frames of polars 2.
BESIDE = {"oldest": ("polars<2",)}
# What old libraries warn of beside new ones is not about this library.
QUIET = {"oldest": ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning")}
TYPES = {f"{TOOL}/{name}" for name in ("py.typed", "__init__.pyi", "types.pyi")}
# Neither tests nor models; a page or a table that the library writes out is no model.
UNWANTED = re.compile(r"(^|/)tests?/|\.(mk|onnx|npz|joblib|pkl|pt|ipynb|pyc)$")
RELATIVE = re.compile(r"\]\((?!https?://|#)[^)]*\)")
BARE = """
import contextlib, inspect, io, sys
import modelkit
assert "numpy" not in sys.modules, "import modelkit imports numpy"
exec("from modelkit import *", {})  # where no name of ours stands for one of these modules
for module in (modelkit, modelkit.types, modelkit.errors, modelkit.events):
    for name in getattr(module, "__all__", dir(module)):
        getattr(module, name)
    inspect.getmembers(module)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        help(module)
    assert len(shown.getvalue()) > 1000, "help shows nothing"
try:
    modelkit.load("none.mk")
except modelkit.errors.ModelkitError as error:
    print(error)
except FileNotFoundError:
    pass
"""


def run(*command: object, folder: Path = ROOT) -> None:
    subprocess.run([str(word) for word in command], cwd=folder, check=True)  # noqa: S603


def built() -> tuple[Path, Path]:
    """The wheel and the source distribution, made anew."""
    dist = PLACE / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    run(UV, "build", "--quiet", "--out-dir", dist, ROOT)
    run(UV.with_name("twine"), "check", "--strict", *dist.glob("*.whl"), *dist.glob("*.tar.gz"))
    return next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))


def faults(wheel: Path, source: Path) -> Iterator[str]:
    """What a release must not be."""
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        (about,) = [name for name in names if name.endswith("/METADATA")]
        metadata = file.read(about).decode()
    with tarfile.open(source) as tar:
        sources = [name.partition("/")[2] for name in tar.getnames()]
    yield from (f"the wheel lacks {name}" for name in sorted(TYPES - {*names}))
    yield from (f"the wheel holds {name}" for name in names if UNWANTED.search(name))
    yield from (
        f"the source distribution holds {name}" for name in sources if UNWANTED.search(name)
    )
    odd = {name.partition("/")[0] for name in names} - {TOOL, about.partition("/")[0]}
    yield from (f"the wheel installs {name} beside {TOOL}" for name in odd)
    yield from (f"a link of the README is relative: {link}" for link in RELATIVE.findall(metadata))
    for field in ("Project-URL", "Author", "License-Expression", "Requires-Python"):
        if f"\n{field}: " not in metadata:
            yield f"the metadata lack {field}"
    if "Provides-Extra: dev" in metadata:
        yield "what developers need is an extra"


def environment(wheel: Path, python: str, kind: str) -> Path:
    """The Python of a new environment that has the wheel, and its libraries of this kind."""
    place = PLACE / f"{Path(python).name}-{kind}"
    run(UV, "venv", "--quiet", "--clear", "--python", python, place)
    install = (UV, "pip", "install", "--quiet", "--python", place)
    if kind == "bare":
        run(*install, wheel)
    else:
        extras = ("--extra", "cpu", "--extra", "all", "-r", "pyproject.toml")
        wheels = ("--only-binary", ":all:", "--resolution", RESOLUTION[kind])
        run(*install, *wheels, *extras)
        run(*install, "--no-deps", wheel)
        run(*install, "-r", "requirements/matrix.txt", *BESIDE.get(kind, ()))
    return place / "bin" / "python"


def tried(wheel: Path, python: str, kind: str, tests: Sequence[str]) -> bool:
    """Whether the wheel works there."""
    try:
        there = environment(wheel, python, kind)
        if kind == "bare":
            run(there, "-c", BARE, folder=PLACE)
        else:
            options = ("-q", "-p", "no:cacheprovider", "-n", "2", *QUIET.get(kind, ()))
            run(there, "-m", "pytest", *options, *tests)
    except subprocess.CalledProcessError as error:
        print(error)
        return False
    return True


def found(python: str) -> bool:
    command = [str(UV), "python", "find", "--no-python-downloads", python]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pythons", nargs="*", default=PYTHONS)
    parser.add_argument("--kinds", nargs="*", default=["bare", *RESOLUTION])
    parser.add_argument("--tests", nargs="*", default=())
    args = parser.parse_args()
    wheel, source = built()
    wrong = [*faults(wheel, source)]
    print("\n".join(wrong) or f"{wheel.name} and {source.name} hold what they should")
    cells = {
        (python, kind): tried(wheel, python, kind, args.tests) if found(python) else None
        for python in args.pythons
        for kind in args.kinds
    }
    for (python, kind), good in cells.items():
        print(
            f"{python} {kind}: {'not found here' if good is None else 'works' if good else 'FAILS'}"
        )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if project["tool"][TOOL]["repository"].endswith(".example"):
        print("not ready to publish: set `repository` in tool.modelkit of pyproject.toml")
    return 1 if wrong or False in cells.values() else 0


if __name__ == "__main__":
    sys.exit(main())
