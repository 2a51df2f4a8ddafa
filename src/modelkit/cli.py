"""`modelkit inspect | predict | explain | drift | doctor`."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import modelkit as mk
from modelkit import html
from modelkit.device import REPLACE, WHEELS
from modelkit.drift.monitor import packaged
from modelkit.drift.report import DriftReport
from modelkit.embedding.verbs import is_encoder
from modelkit.errors import IntegrityError, ModelkitError, SignatureError
from modelkit.html import printable
from modelkit.manifest import Manifest
from modelkit.package.review import Review, installed_here, review
from modelkit.package.trust import installed
from modelkit.signature import Signature
from modelkit.spec import Column, TensorSpec

RUNTIME_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)
Parse = Callable[[str], str | float | bool]
SHOWN_LIBRARIES = (
    "numpy", "scipy", "onnx", "joblib", "scikit-learn", "skl2onnx", "spox", "xgboost", "xgboost-cpu", "lightgbm",
    "catboost", "torch", "onnxscript", "pandas", "pyarrow", "tokenizers", "shap", "lime", "matplotlib",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 1 with the reason on standard error, or 2 for drift."""
    parser = Parser(prog="modelkit", description="Packages of trained models.")
    parser.add_argument("--version", action="version", version=f"modelkit {mk.__version__}")
    parser.set_defaults(unsound=1)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    inspect = commands.add_parser(
        "inspect", help="show what a package says about itself, without running it"
    )
    inspect.add_argument("file")
    inspect.add_argument("--json", action="store_true", help="print one JSON document")
    inspect.set_defaults(run=lambda args: describe(review(args.file), as_json=args.json))
    predict = commands.add_parser("predict", help="predict the rows of a CSV file and print CSV")
    predict.add_argument("file")
    predict.add_argument(
        "--input", required=True, help="CSV with a header; an empty cell is a missing value"
    )
    predict.set_defaults(run=lambda args: predict_csv(args.file, args.input))
    explain = commands.add_parser(
        "explain", help="say what each column of one row of a CSV file adds to the answer"
    )
    explain.add_argument("file")
    explain.add_argument(
        "--input", required=True, help="CSV with a header; an empty cell is a missing value"
    )
    explain.add_argument("--row", type=int, default=0, help="the row to explain, counted from 0")
    explain.add_argument(
        "--background", help="CSV of typical rows; by default those stored in the package"
    )
    explain.add_argument(
        "--output", default="auto", help="the output to explain, for a model of several"
    )
    explain.add_argument("--html", help="write the explanation to this file, as a page of its own")
    explain.set_defaults(
        run=lambda args: explain_csv(
            args.file,
            args.input,
            args.row,
            background=args.background,
            output=args.output,
            page=args.html,
        )
    )
    drift = commands.add_parser(
        "drift", help="say whether rows are no longer like a reference; then the status is 2"
    )
    drift.add_argument(
        "file", help="a package: it names the columns, and its profile is the reference by default"
    )
    drift.add_argument("--current", required=True, help="CSV with a header: the rows in question")
    drift.add_argument(
        "--reference", help="CSV of rows of the past; half of them make the cells, half are counted"
    )
    drift.add_argument("--alpha", type=float, default=0.01, help="the probability of a false alarm")
    drift.add_argument("--html", help="write the report to this file, as a page of its own")
    drift.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    drift.set_defaults(
        run=lambda args: show_drift(
            drift_csv(args.file, args.current, reference=args.reference, alpha=args.alpha),
            page=args.html,
            as_json=args.json,
        ),
        unsound=2,
    )
    doctor = commands.add_parser(
        "doctor", help="show versions and devices, and how to mend what is wrong"
    )
    doctor.add_argument(
        "file", nargs="?", help="a package, to see whether this machine computes what was proven"
    )
    doctor.set_defaults(
        run=lambda args: examine() if args.file is None else examine_package(args.file)
    )
    args = parser.parse_args(arguments)
    try:
        lines, sound = args.run(args)
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter complains at its end
        return 1
    except UnicodeEncodeError as error:
        print(
            f"modelkit: the output takes no {error.object[error.start]!a}; set "
            "PYTHONIOENCODING=utf-8",
            file=sys.stderr,
        )
        return 1
    except (ModelkitError, OSError) as error:
        print(f"modelkit: {printable(str(error))}", file=sys.stderr)
        return 1
    return 0 if sound else args.unsound


class Parser(argparse.ArgumentParser):
    """A parser whose errors have the status 1: argparse's own, 2, would read as drift."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and end."""
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def describe(found: Review, *, as_json: bool) -> tuple[list[str], bool]:
    """What a package says about itself, and what it would take to open it."""
    if as_json:
        return [found.to_json()], True
    manifest = found.manifest
    facts = [("to open", found.opens), *manifest.facts()]
    for domain, counts in found.operators.items():
        facts.append(
            (
                "operators",
                f"{domain}: {', '.join(f'{count} {name}' for name, count in counts.items())}",
            )
        )
    here = other_versions(manifest, found.installed)
    if here:
        facts.append(
            ("here", ", ".join(f"{library} {version}" for library, version in here.items()))
        )
    rows = [(kind, " ".join(row)) for kind, *row in manifest.signature.table()]
    lines = [
        f"{manifest.name} {manifest.version}",
        *(f"  {name:<10} {value}" for name, value in [*facts, *rows]),
    ]
    return [printable(line) for line in lines], True


def predict_csv(file: str, path: str) -> tuple[Iterable[str], bool]:
    """Predict every row of a CSV file; the answer has the primary output, and the probabilities by class."""
    with mk.load(file) as model:
        signature = model.signature
        outputs = model.run(read_csv(path, signature))
    names = [signature.primary] if signature.primary is not None else list(signature.output_names)
    columns = {str(name): outputs[str(name)] for name in names if outputs[str(name)].ndim == 1}
    if signature.has_probabilities and signature.classes is not None:
        columns |= {
            f"p({label})": outputs["probabilities"][:, i]
            for i, label in enumerate(signature.classes)
        }
    if not columns:
        raise SignatureError(f"the outputs {signature.output_names} are not columns; use Model.run")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    shown = _printable_cells if sys.stdout.isatty() else list  # a file gets what the model gave
    writer.writerow(shown(columns))
    writer.writerows(
        map(shown, zip(*(values.tolist() for values in columns.values()), strict=True))
    )
    return [], True


def _printable_cells(row: Iterable[Any]) -> list[Any]:
    return [printable(cell) if isinstance(cell, str) else cell for cell in row]


def read_csv(path: str, signature: Signature) -> list[dict[str, Any]]:
    """The rows of a CSV file as records; blank lines are none.

    Raises SignatureError for what does not parse.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as text:
            rows = csv.reader(text)
            header = next(rows, [])
            twice = next((name for name, times in Counter(header).items() if times > 1), None)
            if twice is not None:
                raise SignatureError(f"{path} has more than one column {twice!r}")
            cells = [row for row in rows if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SignatureError(f"{path} is not CSV in UTF-8: {error}") from error
    if not cells:
        raise SignatureError(f"{path} has no rows")
    known = {
        column.name: parser_of(column, spec) for spec in signature.inputs for column in spec.columns
    }
    parsers = [
        known.get(name, ("string", str)) for name in header
    ]  # columns that are not known stay text
    return [parse_record(header, row, parsers, number) for number, row in enumerate(cells)]


def explain_csv(
    file: str, path: str, row: int, *, background: str | None, output: str, page: str | None
) -> tuple[list[str], bool]:
    """What each column of one row adds to the answer, the largest first."""
    with mk.load(file) as model:
        records = read_csv(path, model.signature)
        if not 0 <= row < len(records):
            raise SignatureError(f"{path} has rows 0 to {len(records) - 1}, and no row {row}")
        typical = None if background is None else read_csv(background, model.signature)
        explainer = mk.Explainer(model, background=typical, output=output)
        explanation = explainer.explain(records[row : row + 1])
        answer = model.run(records[row : row + 1])
    label = str(answer["label"][0]) if "label" in answer else ""
    at = explanation.output_names.index(label) if label in explanation.output_names else -1
    if page is not None:
        Path(page).write_text(
            html.page(f"{file}, row {row} of {path}", explanation.card(output=at)), encoding="utf-8"
        )
    lines = [f"{explanation.output_names[at]} ({explanation.output_space}), {explanation.method}"]
    top = explanation.top(len(explanation.feature_names), output=at)
    wide = max(len(name) for name, _, _ in top)
    lines += [f"  {name:<{wide}}  {added:+.6g}  {html.short(held)}" for name, held, added in top]
    total = explanation.base_values[0, at] + explanation.values[0, :, at].sum()
    lines.append(f"  base {explanation.base_values[0, at]:.6g}, sum {total:.6g}")
    return [printable(line) for line in lines], True


def drift_csv(file: str, current: str, *, reference: str | None, alpha: float) -> DriftReport:
    """The rows of a CSV file beside those of another, or beside the profile of the package."""
    with mk.load(file) as model:
        rows = known_columns(read_csv(current, model.signature), model.signature)
        if reference is None:
            profile = packaged(model)
        else:
            past = known_columns(read_csv(reference, model.signature), model.signature)
            # Texts differ all the time; their vectors tell whether that matters.
            profile = mk.Profile.fit(past, model=model if is_encoder(model) else None)
        watched = any(feature.output for feature in profile.features)
        return mk.Detector(profile, alpha=alpha).test(
            rows, scores=model.run(rows) if watched else None
        )


def known_columns(records: list[dict[str, Any]], signature: Signature) -> list[dict[str, Any]]:
    """Records without the columns that the model does not take, such as keys of rows, which differ in any two files."""
    known = {column.name for spec in signature.inputs for column in spec.columns}
    return (
        [{name: record[name] for name in record if name in known} for record in records]
        if known
        else records
    )


def show_drift(report: DriftReport, *, page: str | None, as_json: bool) -> tuple[list[str], bool]:
    """A report for the terminal, written as a page too where asked for; sound is one without alarms."""
    if page is not None:
        Path(page).write_text(report.to_html(), encoding="utf-8")
    return [report.to_json() if as_json else printable(str(report))], not report.alarms


def parse_record(
    header: list[str], cells: list[str], parsers: list[tuple[str, Parse]], row: int
) -> dict[str, Any]:
    """One CSV record with its cells parsed; an empty cell is a missing value."""
    if len(cells) != len(header):
        raise SignatureError(f"row {row} has {len(cells)} cells, and the header {len(header)}")
    record: dict[str, Any] = {}
    for name, cell, (dtype, parse) in zip(header, cells, parsers, strict=True):
        try:
            if "_" in cell and dtype != "string":  # which Python takes for 10 where it says 1_0
                raise ValueError
            record[name] = None if cell == "" else parse(cell)
        except (ValueError, KeyError):
            raise SignatureError(f"row {row}, column {name!r}: {cell!r} is not {dtype}") from None
    return record


def parser_of(column: Column, spec: TensorSpec) -> tuple[str, Parse]:
    """The dtype of a column, and what turns a cell into a value of it."""
    kind = column.dtype.rstrip("0123456789")
    return column.dtype, PARSERS[
        "number" if "int" in kind and spec.dtype.startswith("float") else kind
    ]


def parse_number(cell: str) -> float:
    """For integers that a graph takes as floats: either will do, and pandas writes 100.0 where a column has gaps."""
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def parse_truth(cell: str) -> bool:
    """A boolean in the usual spellings. Raises KeyError for others."""
    return {"true": True, "false": False, "1": True, "0": False}[cell.strip().lower()]


PARSERS: dict[str, Parse] = {
    "float": float,
    "number": parse_number,
    "int": int,
    "uint": int,
    "bool": parse_truth,
    "string": str,
}


def examine() -> tuple[list[str], bool]:
    """Versions, the installed runtimes and their devices, and a line that mends each problem."""
    lines = [
        f"modelkit {mk.__version__}, Python {platform.python_version()}, {platform.platform()}"
    ]
    runtimes = installed(RUNTIME_WHEELS)
    lines += [
        f"  {library} {version}"
        for library, version in (installed(SHOWN_LIBRARIES) | runtimes).items()
    ]
    problems = []
    if len(runtimes) > 1:
        names = " ".join(runtimes)
        problems.append(
            f"{len(runtimes)} runtimes overwrite each other's files ({names}); keep one:\n"
            f"    pip uninstall -y {names} && pip install onnxruntime"
        )
    try:
        from modelkit.runtimes import onnx

        found, compiled = onnx.devices(), onnx.providers()
        lines += [f"  {device}" for device in found if device.provider in compiled]
        absent = [device.name for device in found if device.provider not in compiled]
        lines.append(f"not in this onnxruntime, and how to have it instead: {REPLACE} ...")
        lines += [f"  {name:<12} {WHEELS[name.partition(':')[0]]}" for name in absent]
    except ModelkitError as error:
        problems.append(str(error))
    lines += [f"PROBLEM: {problem}" for problem in problems] or ["no problems found"]
    return lines, not problems


def other_versions(manifest: Manifest, here: dict[str, str]) -> dict[str, str]:
    """The libraries of a manifest that are installed here in another version, with that version, or not at all."""
    made = manifest.versions | manifest.requires
    found = {
        library: here.get(library, "none" if library in manifest.requires else None)
        for library in made
    }
    return {
        library: v for library, v in sorted(found.items()) if v is not None and v != made[library]
    }


def examine_package(file: str) -> tuple[list[str], bool]:
    """Whether this machine computes what a package was proven to give, and which versions differ."""
    with mk.load(file) as model:
        assert model.manifest is not None  # noqa: S101 - for the type checker: what is loaded has one
        manifest = model.manifest
        lines = [f"{manifest.name} {manifest.version}", f"  placement  {model.placement}"]
        lines += [
            f"  {library} {version} here, {manifest.versions[library]} where the package was made"
            for library, version in other_versions(manifest, installed_here(manifest)).items()
        ]
        try:
            lines.append(f"  golden rows agree: largest relative difference {model.verify():.2g}")
        except IntegrityError as error:
            return [printable(line) for line in [*lines, f"PROBLEM: {error}"]], False
    return [printable(line) for line in [*lines, "no problems found"]], True


if __name__ == "__main__":
    sys.exit(main())
