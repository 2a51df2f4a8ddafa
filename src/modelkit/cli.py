"""`modelkit inspect | predict | explain | drift | doctor`.

Each verb is one function, `run_...`, that takes the parsed arguments and gives the lines to print,
and whether all is well; `_add_...` above it says which arguments there are.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import modelkit as mk
from modelkit import html
from modelkit.csv_rows import known_columns, read_csv
from modelkit.device import REPLACE, WHEELS
from modelkit.drift.monitor import packaged
from modelkit.embedding.verbs import is_encoder
from modelkit.errors import IntegrityError, ModelkitError, SignatureError
from modelkit.html import printable
from modelkit.manifest import Manifest
from modelkit.package.review import installed_here, review
from modelkit.package.trust import installed

RUNTIME_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)
SHOWN_LIBRARIES = (
    "numpy", "scipy", "onnx", "joblib", "scikit-learn", "skl2onnx", "spox", "xgboost",
    "xgboost-cpu", "lightgbm", "catboost", "torch", "onnxscript", "pandas", "pyarrow", "tokenizers",
    "shap", "lime", "matplotlib",
)  # fmt: skip
ROWS_HELP = "CSV with a header; an empty cell is a missing value"
Printed = tuple[Iterable[str], bool]  # the lines to print, and whether all is well


class Parser(argparse.ArgumentParser):
    """A parser whose errors have the status 1: argparse's own, 2, would read as drift."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and end."""
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    It is 0; or 1 with the reason on standard error; or 2 where `drift` raised an alarm.
    """
    parser = Parser(prog="modelkit", description="Packages of trained models.")
    parser.add_argument("--version", action="version", version=f"modelkit {mk.__version__}")
    parser.set_defaults(unsound=1)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_inspect, _add_predict, _add_explain, _add_drift, _add_doctor):
        add(verbs)
    args = parser.parse_args(arguments)
    try:
        lines, sound = args.run(args)
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        # Otherwise the interpreter complains when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        return _fail(f"the output takes no {character!a}; set PYTHONIOENCODING=utf-8")
    except (ModelkitError, OSError) as error:
        return _fail(printable(str(error)))
    return 0 if sound else args.unsound


def _fail(reason: str) -> int:
    print(f"modelkit: {reason}", file=sys.stderr)
    return 1


def _add_inspect(verbs: Any) -> None:
    parser = verbs.add_parser(
        "inspect", help="show what a package says about itself, without running it"
    )
    parser.add_argument("file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run_inspect)


def run_inspect(args: argparse.Namespace) -> Printed:
    """What a package says about itself, and what it takes to open it."""
    found = review(args.file)
    if args.json:
        return [found.to_json()], True
    manifest = found.manifest
    facts = [("to open", found.opens), *manifest.facts()]
    for domain, counts in found.operators.items():
        counted = ", ".join(f"{count} {name}" for name, count in counts.items())
        facts.append(("operators", f"{domain}: {counted}"))
    here = other_versions(manifest, found.installed)
    if here:
        versions = ", ".join(f"{library} {version}" for library, version in here.items())
        facts.append(("here", versions))
    facts += [(kind, " ".join(row)) for kind, *row in manifest.signature.table()]
    lines = [f"{manifest.name} {manifest.version}"]
    lines += [f"  {name:<10} {value}" for name, value in facts]
    return [printable(line) for line in lines], True


def _add_predict(verbs: Any) -> None:
    parser = verbs.add_parser("predict", help="predict the rows of a CSV file and print CSV")
    parser.add_argument("file")
    parser.add_argument("--input", required=True, help=ROWS_HELP)
    parser.add_argument(
        "--extra",
        choices=("refuse", "ignore"),
        default="refuse",
        help="what becomes of columns that the model does not know",
    )
    parser.add_argument(
        "--json", action="store_true", help="print every output, by name, as one line of JSON"
    )
    parser.set_defaults(run=run_predict)


def run_predict(args: argparse.Namespace) -> Printed:
    """Predict every row of a CSV file, and print the primary output and the probabilities."""
    with mk.load(args.file, extra=args.extra) as model:
        signature = model.signature
        outputs = model.run(read_csv(args.input, signature))
    if args.json:
        return [mk.to_json(outputs)], True
    names = signature.output_names
    if signature.primary is not None:
        names = (signature.primary,)
    columns = {name: outputs[name] for name in names if outputs[name].ndim == 1}
    if signature.has_probabilities and signature.classes is not None:
        for i, label in enumerate(signature.classes):
            columns[f"p({label})"] = outputs["probabilities"][:, i]
    if not columns:
        raise SignatureError(f"the outputs {signature.output_names} are not columns; use Model.run")
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    shown = _printable_cells if sys.stdout.isatty() else list  # a file gets what the model gave
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(shown(columns))
    writer.writerows(map(shown, rows))
    return [], True


def _printable_cells(row: Iterable[Any]) -> list[Any]:
    return [printable(cell) if isinstance(cell, str) else cell for cell in row]


def _add_explain(verbs: Any) -> None:
    parser = verbs.add_parser(
        "explain", help="say what each column of one row of a CSV file adds to the answer"
    )
    parser.add_argument("file")
    parser.add_argument("--input", required=True, help=ROWS_HELP)
    parser.add_argument("--row", type=int, default=0, help="the row to explain, counted from 0")
    parser.add_argument(
        "--background", help="CSV of typical rows; by default those stored in the package"
    )
    parser.add_argument(
        "--output", default="auto", help="the output to explain, for a model of several"
    )
    parser.add_argument("--html", help="write the explanation to this file, as a page of its own")
    parser.add_argument(
        "--json", action="store_true", help="print the explanation as one line of JSON"
    )
    parser.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> Printed:
    """What each column of one row adds to the answer, the largest first."""
    with mk.load(args.file) as model:
        records = read_csv(args.input, model.signature)
        if not 0 <= args.row < len(records):
            last = len(records) - 1
            raise SignatureError(f"{args.input} has rows 0 to {last}, and no row {args.row}")
        background = None
        if args.background is not None:
            background = read_csv(args.background, model.signature)
        row = records[args.row : args.row + 1]
        explanation = mk.Explainer(model, background=background, output=args.output).explain(row)
        answer = model.run(row)
    label = str(answer["label"][0]) if "label" in answer else ""
    at = -1
    if label in explanation.output_names:
        at = explanation.output_names.index(label)
    if args.html is not None:
        page = html.page(
            f"{args.file}, row {args.row} of {args.input}", explanation.card(output=at)
        )
        Path(args.html).write_text(page, encoding="utf-8")
    if args.json:
        return [mk.to_json(explanation)], True
    return [printable(line) for line in _explained(explanation, at)], True


def _explained(explanation: mk.Explanation, at: int) -> Iterable[str]:
    """The lines that show how one row came to its output number `at`."""
    yield f"{explanation.output_names[at]} ({explanation.output_space}), {explanation.method}"
    top = explanation.top(len(explanation.feature_names), output=at)
    wide = max(len(name) for name, _, _ in top)
    for name, held, added in top:
        yield f"  {name:<{wide}}  {added:+.6g}  {html.short(held)}"
    base = explanation.base_values[0, at]
    yield f"  base {base:.6g}, sum {base + explanation.values[0, :, at].sum():.6g}"


def _add_drift(verbs: Any) -> None:
    parser = verbs.add_parser(
        "drift", help="say whether rows are no longer like a reference; then the status is 2"
    )
    parser.add_argument(
        "file", help="a package: it names the columns, and its profile is the reference by default"
    )
    parser.add_argument("--current", required=True, help="CSV with a header: the rows in question")
    parser.add_argument(
        "--reference", help="CSV of rows of the past; half of them make the cells, half are counted"
    )
    parser.add_argument(
        "--alpha", type=float, default=0.01, help="the probability of a false alarm"
    )
    parser.add_argument("--html", help="write the report to this file, as a page of its own")
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    parser.set_defaults(run=run_drift, unsound=2)


def run_drift(args: argparse.Namespace) -> Printed:
    """Compare the rows of a CSV file with others, or with the profile in the package.

    All is well where there is no alarm.
    """
    with mk.load(args.file) as model:
        signature = model.signature
        rows = known_columns(read_csv(args.current, signature), signature)
        if args.reference is None:
            profile = packaged(model)
        else:
            past = known_columns(read_csv(args.reference, signature), signature)
            # Texts differ all the time; their vectors tell whether that matters.
            profile = mk.Profile.fit(past, model=model if is_encoder(model) else None)
        watched = any(feature.output for feature in profile.features)
        scores = model.run(rows) if watched else None
        report = mk.Detector(profile, alpha=args.alpha).test(rows, scores=scores)
    if args.html is not None:
        Path(args.html).write_text(report.to_html(), encoding="utf-8")
    return [report.to_json() if args.json else printable(str(report))], not report.alarms


def _add_doctor(verbs: Any) -> None:
    parser = verbs.add_parser(
        "doctor", help="show versions and devices, and how to mend what is wrong"
    )
    parser.add_argument(
        "file", nargs="?", help="a package, to see whether this machine computes what was proven"
    )
    parser.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> Printed:
    """What is installed, or whether this machine computes what a package was proven to give."""
    return _examine_machine() if args.file is None else _examine_package(args.file)


def _examine_machine() -> Printed:
    """Versions, the installed runtimes and their devices, and a line that mends each problem."""
    runtimes = installed(RUNTIME_WHEELS)
    versions = installed(SHOWN_LIBRARIES) | runtimes
    lines = [
        f"modelkit {mk.__version__}, Python {platform.python_version()}, {platform.platform()}"
    ]
    lines += [f"  {library} {version}" for library, version in versions.items()]
    problems = []
    if len(runtimes) > 1:
        names = " ".join(runtimes)
        problems.append(
            f"{len(runtimes)} runtimes overwrite each other's files ({names}); keep one:\n"
            f"    pip uninstall -y {names} && pip install onnxruntime"
        )
    try:
        lines += _examine_devices()
    except ModelkitError as error:
        problems.append(str(error))
    lines += [f"PROBLEM: {problem}" for problem in problems] or ["no problems found"]
    return lines, not problems


def _examine_devices() -> list[str]:
    from modelkit.runtimes import sessions

    compiled = sessions.providers()
    devices = sessions.devices()
    lines = [f"  {device}" for device in devices if device.provider in compiled]
    lines.append(f"not in this onnxruntime, and how to have it instead: {REPLACE} ...")
    for device in devices:
        if device.provider not in compiled:
            short = device.name.partition(":")[0]
            lines.append(f"  {device.name:<12} {WHEELS[short]}")
    return lines


def _examine_package(file: str) -> Printed:
    """Whether this machine computes what was proven, and which versions differ."""
    with mk.load(file) as model:
        manifest = model.manifest
        assert manifest is not None  # noqa: S101 - for the type checker: a loaded model has one
        lines = [f"{manifest.name} {manifest.version}", f"  placement  {model.placement}"]
        for library, version in other_versions(manifest, installed_here(manifest)).items():
            made_with = manifest.versions[library]
            lines.append(f"  {library} {version} here, {made_with} where the package was made")
        try:
            lines.append(f"  golden rows agree: largest relative difference {model.verify():.2g}")
        except IntegrityError as error:
            lines.append(f"PROBLEM: {error}")
            return [printable(line) for line in lines], False
    lines.append("no problems found")
    return [printable(line) for line in lines], True


def other_versions(manifest: Manifest, here: dict[str, str]) -> dict[str, str]:
    """The libraries of a manifest that are installed here in another version, or not at all."""
    made_with = manifest.versions | manifest.requires
    found = {}
    for library in sorted(made_with):
        absent = "none" if library in manifest.requires else None
        version = here.get(library, absent)
        if version is not None and version != made_with[library]:
            found[library] = version
    return found


if __name__ == "__main__":
    sys.exit(main())
