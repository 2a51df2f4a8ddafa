"""What a run of the breadth benchmark keeps, so that it goes on where it was stopped: models, packages and findings."""

import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import joblib
from benchmarks.conversion.everyday import Everyday

FOLDER = Path(__file__).parents[1] / "results" / "breadth"
MODELS = FOLDER / "models"
VERSIONS = FOLDER / "rivals.txt"  # those of the rivals' libraries


def file_of(pipeline: Everyday) -> str:
    return re.sub(r"\W+", "-", pipeline.name.lower()).strip("-")


def fitted(pipeline: Everyday) -> tuple[Any, Any, Any]:
    """The fitted model, its rows and fresh ones; fitted once, so that all contenders have the same."""
    path = MODELS / f"{file_of(pipeline)}.joblib"
    if not path.exists():
        MODELS.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".part")
        joblib.dump(pipeline.fit(), made)
        made.rename(path)
    return joblib.load(path)


def findings(kind: str) -> dict[str, dict[str, Any]]:
    """What was found of each pipeline, by its name."""
    path = FOLDER / f"{kind}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {found["name"]: found for found in map(json.loads, lines)}


def collect(
    kind: str, pipelines: Iterable[Everyday], find: Callable[[Everyday], dict[str, Any]]
) -> None:
    """Find something of each pipeline that nothing was found of yet, one line of JSON each."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    known = findings(kind)
    with (FOLDER / f"{kind}.jsonl").open("a", encoding="utf-8") as lines:
        for pipeline in pipelines:
            if pipeline.name in known:
                continue
            try:
                found = find(pipeline)
            except Exception:  # a benchmark that fails shows it in its table
                found = {"state": "broken", "message": traceback.format_exc(limit=-2)}
            lines.write(json.dumps({"name": pipeline.name} | found) + "\n")
            lines.flush()
            print(
                f"  {kind}: {pipeline.name}: {found.get('state', '')}", file=sys.stderr, flush=True
            )


def forget(kind: str) -> None:
    (FOLDER / f"{kind}.jsonl").unlink(missing_ok=True)
