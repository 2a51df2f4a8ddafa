"""`modelkit doctor`: what is installed here, and whether a package computes what was proven."""

from __future__ import annotations

import argparse
import platform
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, add_consent, escaped, package
from modelkit.cli.inspect import other_versions
from modelkit.errors import ModelkitError, UntrustedError

RUNTIME_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)
SHOWN_LIBRARIES = (
    "numpy", "scipy", "onnx", "joblib", "scikit-learn", "spox", "xgboost",
    "xgboost-cpu", "lightgbm", "catboost", "torch", "onnxscript", "pandas", "pyarrow", "tokenizers",
    "shap", "lime", "matplotlib",
)  # fmt: skip


def add_doctor(verbs: Any) -> None:
    """The arguments of `modelkit doctor`."""
    about = "show versions and devices, and how to repair what is wrong"
    parser = add_command(verbs, "doctor", run_doctor, about, "--registry")
    parser.add_argument(
        "file", nargs="?", help="a package, to see whether this machine computes what was proven"
    )
    add_consent(parser)


def run_doctor(args: argparse.Namespace) -> Printed:
    """What is installed, or whether this machine computes what a package was proven to give."""
    return _examine_machine() if args.file is None else _examine_package(args)


def _examine_machine() -> Printed:
    """Versions, the installed runtimes and their devices, and a line that mends each problem."""
    from modelkit.package.trust import installed

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
    return lines, int(bool(problems))


def _examine_devices() -> list[str]:
    from modelkit.runtimes import sessions
    from modelkit.runtimes.devices import REPLACE, WHEELS

    compiled = sessions.providers()
    devices = sessions.devices()
    lines = [f"  {device}" for device in devices if device.provider in compiled]
    lines.append(f"not in this onnxruntime, and how to have it instead: {REPLACE} ...")
    for device in devices:
        if device.provider not in compiled:
            short = device.name.partition(":")[0]
            lines.append(f"  {device.name:<12} {WHEELS[short]}")
    return lines


def _examine_package(args: argparse.Namespace) -> Printed:
    """Whether this machine computes what was proven, and which versions differ."""
    from modelkit.package.review import installed_here

    path = package(args, args.file)
    manifest = mk.inspect(path)
    lines = [f"{manifest.name} {manifest.version}"]
    made_with = manifest.versions | manifest.requires
    for library, version in other_versions(manifest, installed_here(manifest)).items():
        lines.append(f"  {library} {version} here, {made_with[library]} where the package was made")
    try:
        with mk.load(
            path, digest=args.digest or None, allow=args.allow, unseal=args.unseal
        ) as model:
            lines.append(f"  placement  {model.placement}")
            lines.append(f"  golden rows agree: largest relative difference {model.verify():.2g}")
    except UntrustedError:  # nothing is wrong here: consent is missing
        raise
    except ModelkitError as error:
        return escaped([*lines, f"PROBLEM: {error}"]), 1
    lines.append("no problems found")
    return escaped(lines), 0
