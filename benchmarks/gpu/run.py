"""Measure every usable device against the CPU by size of batch, and print a Markdown table.

make bench NAME=gpu                              where no device but the CPU is usable it says so, and why
.venv/bin/python -m benchmarks.gpu.run --write  the same, and write benchmarks/results/gpu.md
"""

import argparse
import os
from functools import partial

os.environ |= {"ORT_DISABLE_TELEMETRY": "1"}

import numpy as np
from benchmarks.common.cases import classifiers, dense
from benchmarks.common.measure import interleave, report, table, write

import modelkit as mk

LIBRARIES = ("numpy", "onnx", "scikit-learn")
SIZES = (1, 32, 256, 1024, 8192)


def throughput(names: list[str]) -> str:
    """Thousands of rows a second, by size of batch"""
    mlp = classifiers()["MLP 128-512-256-10"]
    rng = np.random.default_rng(0)
    packages = {
        "MLP 128-512-256-10": (mlp.package, mlp.rows),
        "dense, 192 layers, 48 MiB": (
            dense("raw_data")[1],
            rng.normal(size=(max(SIZES), 256)).astype(np.float32),
        ),
    }
    rows = []
    for case, (package, x) in packages.items():
        models = {name: mk.load(package, device=name) for name in ("cpu", *names)}
        for size in SIZES:
            times = interleave(
                {name: partial(model.predict, x[:size]) for name, model in models.items()}, 11
            )
            for name, took in times.items():
                cells = [f"{size / took / 1000:.1f}", f"{times['cpu'] / took:.2f}"]
                rows.append([f"{case}, {size} rows: {name}", *cells])
    return table("| thousand rows/s | of the CPU", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/gpu.md")
    args = parser.parse_args()
    devices = mk.devices()
    usable = [device.name for device in devices if device.usable and device.name != "cpu"]
    if usable:
        text = report([throughput], LIBRARIES, usable)
    else:
        reasons = "\n".join(f"- {device}" for device in devices[1:])
        text = f"not run: no device but the CPU is usable here\n\n{reasons}"
    print(text)
    if args.write:
        write(text if usable else "not run: no GPU", "gpu")


if __name__ == "__main__":
    main()
