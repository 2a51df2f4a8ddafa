"""Save everyday pipelines by modelkit, skl2onnx and skops, compare their answers, and print Markdown tables.

make bench NAME=breadth                                                         every pipeline; goes on where it stopped
.venv-bench-breadth/bin/python -m benchmarks.breadth.run --only LightGBM    those whose name holds a text
.venv-bench-breadth/bin/python -m benchmarks.breadth.run --again --write    all anew, and keep the tables

README.md beside this file says what each table means.
"""

import argparse
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # nothing is sent while it is measured
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the threads of what trains spin while they wait

from benchmarks.common.measure import interleave, report, seconds, table, write
from benchmarks.conversion.answers import asked
from benchmarks.conversion.everyday import Everyday
from benchmarks.conversion.kept import FOLDER, VERSIONS, collect, findings, fitted, forget
from benchmarks.conversion.packages import answered, package_of, saved, tiled
from benchmarks.conversion.pipelines import PIPELINES

import modelkit as mk

BEFORE = "c198415"  # the commit whose graphs ours are compared with
LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "xgboost-cpu", "lightgbm", "catboost")
KINDS = {
    "modelkit": "modelkit",
    "before": f"modelkit at {BEFORE}",
    "skl2onnx": "skl2onnx alone",
    "skops": "skops",
}
ROWS = {
    "fresh": "fresh rows",
    "recombined": "seen values, recombined",
    "float32": "float32 callers",
    "extreme": "a million times as large",
    "infinite": "infinities",
    "gaps": "gaps",
    "unseen": "words never seen",
}
WRONG = 1e-5  # relative: what a difference may be, with no label flipped beyond ties
FAINT = 1e-12  # relative: what is not worth a line
SIZES = (1, 10_000)
ROUNDS = {1: 5, 10_000: 3}
LONG = 0.5  # seconds of all calls together, from which on there is one round
Found = dict[str, Any]


def verdict(found: Found) -> str:
    """converted, wrong or refused."""
    if found["state"] != "converted":
        return "refused"
    answers = [measured for measured in found["rows"].values() if not isinstance(measured, str)]
    wrong = any(relative > WRONG or flips > even for relative, flips, even in answers)
    return "wrong" if wrong or found.get("batches", 0.0) > WRONG else "converted"


def wrong_when_fresh(found: Found) -> bool:
    """Whether rows that are out of the ordinary in nothing are answered wrongly."""
    return verdict(found | {"rows": {"fresh": found["rows"]["fresh"]}, "batches": 0.0}) == "wrong"


def worst(found: Found) -> float:
    return max((m[0] for m in found["rows"].values() if not isinstance(m, str)), default=0.0)


def chosen(only: str) -> list[Everyday]:
    pipelines = [pipeline for pipeline in PIPELINES if only.lower() in pipeline.name.lower()]
    if not pipelines:
        sys.exit(f"no pipeline has {only!r} in its name")
    return pipelines


def of(kind: str, only: str) -> dict[str, Found]:
    """The findings about the pipelines that were chosen."""
    found = findings(kind)
    return {p.name: found[p.name] for p in chosen(only) if p.name in found}


def measure(only: str) -> None:
    """All that is not known yet: packages here, those of before and the rivals in processes of their own."""
    pipelines = chosen(only)
    for pipeline in pipelines:
        fitted(pipeline)
    older = FOLDER / f"source-{BEFORE}"
    if not older.exists():
        older.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", BEFORE, "src"], check=True, capture_output=True)  # noqa: S607
        subprocess.run(["tar", "x", "-C", str(older)], check=True, input=archive.stdout)  # noqa: S607
    others = [
        child(sys.executable, "benchmarks.conversion.packages", "before", only, path=older / "src"),
        child(f"{sys.prefix}-rivals/bin/python", "benchmarks.conversion.rivals", only),
    ]
    collect("modelkit", pipelines, partial(saved, "modelkit"))
    for other in others:
        if other.wait():
            sys.exit(f"{other.args} failed")
    collect("times", pipelines, times)


def child(
    python: str, module: str, *arguments: str, path: Path | None = None
) -> subprocess.Popen[bytes]:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.Popen([python, "-m", module, *arguments], env=environment)


def times(pipeline: Everyday) -> Found:
    """Median seconds of source, package and the package of before, in turns, by number of rows."""
    package = package_of("modelkit", pipeline)
    if not package.exists():
        return {"state": "refused"}
    model, _, fresh = fitted(pipeline)
    older = package_of("before", pipeline)
    found: Found = {"state": "converted"}
    verb = "predict" if hasattr(model, "predict") else "transform"
    with mk.load(package) as ours, mk.load(older if older.exists() else package) as theirs:
        for size in SIZES:
            rows = tiled(fresh, size)
            calls: dict[Any, Callable[[], object]] = {
                "source": partial(asked, model, verb, rows),
                "modelkit": partial(answered, ours, rows),
            }
            if older.exists():
                calls["before"] = partial(answered, theirs, rows)
            once = sum(seconds(call, 1) for call in calls.values())
            found[str(size)] = interleave(calls, 1 if once > LONG else ROUNDS[size], block=0.002)
    return found


def counts(only: str) -> str:
    """How many convert"""
    lines = []
    for kind, name in KINDS.items():
        found = of(kind, only)
        verdicts = [verdict(each) for each in found.values()]
        differences = [worst(each) for each in found.values() if each["state"] == "converted"]
        finite = [value for value in differences if value < inf]
        flips = sum(
            max(0, measured[1] - measured[2])
            for each in found.values()
            for measured in each.get("rows", {}).values()
            if not isinstance(measured, str)
        )
        refused = sum(
            isinstance(m, str) for each in found.values() for m in each.get("rows", {}).values()
        )
        lines.append(
            [
                name,
                str(len(found)),
                *(str(verdicts.count(each)) for each in ("converted", "refused", "wrong")),
                str(
                    sum(
                        each["state"] == "converted" and wrong_when_fresh(each)
                        for each in found.values()
                    )
                ),
                f"{statistics.median(finite):.1g}" if finite else "",
                "infinite" if len(finite) < len(differences) else f"{max(finite, default=0):.1g}",
                str(flips),
                str(refused),
            ]
        )
    header = "| pipelines | converted | refused | wrong | of these on fresh rows"
    header += " | median of the largest differences | largest | labels flipped beyond ties | kinds of rows not taken"
    known = VERSIONS.read_text(encoding="utf-8") if VERSIONS.exists() else "not run"
    return f"Rivals: {known}.\n\n" + table(header, lines)


def refusals(only: str) -> str:
    """What modelkit refuses, and with which message"""
    found = of("modelkit", only)
    lines = [
        [name, cell(each["message"])]
        for name, each in found.items()
        if each["state"] != "converted"
    ]
    lines += [
        [f"{name}, {ROWS[rows]}", cell(answer)]
        for name, each in found.items()
        for rows, answer in each.get("rows", {}).items()
        if isinstance(answer, str)
    ]
    return table("pipeline | message", lines) if lines else "Nothing."


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def differences(only: str) -> str:
    """Where answers of a package differ most from the source's"""
    lines = []
    for name, each in of("modelkit", only).items():
        if each["state"] != "converted" or (worst(each) <= FAINT and verdict(each) == "converted"):
            continue
        cells = [shown(each["rows"].get(rows)) for rows in ROWS]
        batches = each.get("batches", 0.0)
        mark = "**wrong** " if verdict(each) == "wrong" else ""
        lines.append([mark + name, *cells, f"{batches:.1g}"])
    lines.sort(key=lambda line: not line[0].startswith("**"))
    summary = f"Pipelines that are not listed differ by at most {FAINT:g}. Flipped labels, less ties, follow a number."
    return (
        summary
        + "\n\n"
        + table(" | ".join(["pipeline", *ROWS.values(), "batches of 1 to 10,000"]), lines)
    )


def shown(measured: Any) -> str:
    if measured is None or isinstance(measured, str):
        return "" if measured is None else "not taken"
    relative, flips, even = measured
    return f"{relative:.1g}" + (f", **{flips - even}**" if flips > even else "")


def rivals(only: str) -> str:
    """What skl2onnx does with the same pipelines"""
    lines = []
    ours = of("modelkit", only)
    for name, each in of("skl2onnx", only).items():
        if verdict(each) == "converted":
            continue
        said = cell(each.get("message", ""))[:120]
        if each["state"] == "converted":
            said = "; ".join(f"{ROWS[rows]}: {shown(m)}" for rows, m in each["rows"].items())
        lines.append([name, verdict(ours[name]) if name in ours else "", verdict(each), said])
    return table("pipeline | modelkit | skl2onnx | difference, flipped labels, or message", lines)


def speed(only: str) -> str:
    """How fast a package is beside its source and beside the graph of before"""
    found = {name: each for name, each in of("times", only).items() if each["state"] == "converted"}
    summary = []
    lines = []
    for size in map(str, SIZES):
        gains = [each[size]["source"] / each[size]["modelkit"] for each in found.values()]
        ratios = [
            each[size]["modelkit"] / each[size]["before"]
            for each in found.values()
            if "before" in each[size]
        ]
        summary.append(said_of(int(size), gains, ratios))
    for name, each in found.items():
        one, many = (each[str(size)] for size in SIZES)
        lines.append(
            [
                name,
                *cells_of(one, 1e6, slower_alone(one)),
                *cells_of(many, 1e3, slower_in_bulk(many)),
            ]
        )
    header = "pipeline | 1 row: source, us | before | package | 10,000 rows: source, ms | before | package"
    return "\n".join(summary) + "\n\n" + table(header, lines)


def said_of(size: int, gains: list[float], ratios: list[float]) -> str:
    parts = [f"{size:,} row{'s' * (size > 1)}:"]
    if gains:
        lost = sum(gain < 1 for gain in gains)
        parts.append(
            f"{statistics.median(gains):.1f} times as fast as the source in the median, "
            f"slower for {lost} of {len(gains)}."
        )
    if ratios:
        parts.append(
            f"Beside the graph of before, {statistics.median(ratios):.2f} of the time in the median of {len(ratios)}, "
            f"{max(ratios):.2f} at the most."
        )
    return " ".join(parts)


def slower_alone(measured: dict[str, float]) -> bool:
    return measured["modelkit"] - measured.get("before", inf) > 2e-6


def slower_in_bulk(measured: dict[str, float]) -> bool:
    return measured["modelkit"] > 1.1 * measured.get("before", inf)


def cells_of(measured: dict[str, float], unit: float, lost: bool) -> list[str]:
    """Source, before and package; bold where the package is slower than it may be."""
    names = ("source", "before", "modelkit")
    cells = [number(measured[name] * unit) if name in measured else "" for name in names]
    if lost or measured["modelkit"] > measured["source"]:
        cells[2] = f"**{cells[2]}**"
    return cells


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="the pipelines whose name holds this"
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="forget what was found before, but for the fitted models",
    )
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/breadth.md")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write takes the tables of one whole run, so not with --only")
    warnings.simplefilter("ignore")
    if args.again:
        for kind in (*KINDS, "times"):
            forget(kind)
    measure(args.only)
    text = report((counts, refusals, differences, rivals, speed), LIBRARIES, args.only)
    print(text)
    if args.write:
        write(text, "breadth")


if __name__ == "__main__":
    main()
