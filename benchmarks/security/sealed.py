"""What sealing a package costs, and whether 10,000 flipped bits are found."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common.cases import dense
from benchmarks.common.measure import judge, table

import modelkit as mk

sys.path.append(str(Path(__file__).parents[2] / "tests"))  # for `helpers`
FLIPS = 10_000
MIB = 1 << 20
# Prints what a load takes at most, in KiB, in a process that has loaded another package before.
PEAK = """
import sys, modelkit as mk
from pathlib import Path
small, large, unseal = [*sys.argv[1:], None][:3]
def kib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
mk.load(small, unseal=unseal, device="cpu", threads=1).close()
Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
before = kib("VmRSS")
model = mk.load(large, unseal=unseal, device="cpu", threads=1)
print(kib("VmHWM") - before)
"""


def in_turns(calls, rounds=11):
    """Median milliseconds of each call, in turns, after one that is not counted."""
    taken = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(times) for name, times in taken.items()}


def peak(small, large, *key):
    """MiB that loading a package takes at most."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, small, large, *key], check=True, capture_output=True, text=True
    )
    return int(done.stdout) / 1024


def sealing() -> str:
    """What sealing costs; 48 MiB of weights, files in the page cache"""
    import pyrage
    from helpers.sealed import key_files, opened_flips
    from sklearn.linear_model import LogisticRegression

    folder = Path(tempfile.mkdtemp(prefix="modelkit-security-"))
    private, public = map(str, key_files(folder, "scoring"))
    _, package = dense("raw_data")
    sealed = str(folder / "sealed.mk")
    small, small_sealed = str(folder / "small.mk"), str(folder / "small.sealed.mk")
    fitted = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    mk.save(fitted, small, example=[[0.0], [1.0]], name="small", version="1")
    mk.seal(small, {"scoring": public}, out=small_sealed)
    mk.seal(package, {"scoring": public}, out=sealed)
    data = Path(package).read_bytes()
    identity = pyrage.x25519.Identity.generate()
    aged = pyrage.encrypt(data, [identity.to_public()])
    times = in_turns(
        {
            "`mk.load`": lambda: mk.load(package).close(),
            "`mk.load(unseal=)`": lambda: mk.load(sealed, unseal=private).close(),
            "`mk.seal`": lambda: mk.seal(package, {"scoring": public}, out=sealed),
            "age: `pyrage.decrypt` alone": lambda: pyrage.decrypt(aged, [identity]),
            "age: `pyrage.encrypt` alone": lambda: pyrage.encrypt(data, [identity.to_public()]),
        }
    )
    rows = [[what, f"{took:.0f} ms", "", ""] for what, took in times.items()]
    ratio = times["`mk.load(unseal=)`"] / times["`mk.load`"]
    rows.insert(2, ["sealed over clear", f"{ratio:.2f}", *judge(ratio, "at most", 1.5)])
    clear = peak(small, str(package))
    high = peak(small_sealed, sealed, private)
    weights = len(data) / MIB
    rows.append(["peak memory of a load: clear", f"{clear:.0f} MiB", "", ""])
    rows.append(
        ["peak memory of a load: sealed", f"{high:.0f} MiB", *judge(high, "at most", weights + 64)]
    )
    opened = opened_flips(Path(small_sealed).read_bytes(), private, FLIPS)
    rows.append([f"{FLIPS:,} flipped bits: opened", f"{opened:,}", *judge(opened, "at most", 0)])
    return table("| figure | target | reached", rows)
