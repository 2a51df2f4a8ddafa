"""What adversarial training, as docs/howto/decide/harden.md has it, takes from the share flipped and from accuracy.

.venv-bench-robustness/bin/python -m benchmarks.robustness.hardening
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common.measure import command, table
from benchmarks.robustness.data import halves
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

import modelkit as mk

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "decide" / "harden.md"
LIBRARIES = ("numpy", "scikit-learn")
ROWS = 500  # that are attacked


def recipe():
    """What the first block of the page defines."""
    found = {}
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1], found)  # noqa: S102 - our own page
    return found["hardened"], found["LIMITS"]


MAKE = {
    "boosting": lambda: HistGradientBoostingClassifier(random_state=0),
    "random forest": lambda: RandomForestClassifier(100, random_state=0),
}


def hardening() -> str:
    """The share of rows that the greedy attack flips, and the accuracy of held-out rows, with 95 % intervals"""
    hardened, limits = recipe()
    rows = []
    for name, (X, y), (X_test, y_test) in halves():
        for model_name, make in MAKE.items():
            for kind in ("plain", "hard"):
                began = time.perf_counter()
                model = make().fit(X, y) if kind == "plain" else hardened(make, X, y)
                took = time.perf_counter() - began
                with TemporaryDirectory() as folder:
                    path = Path(folder) / "model.mk"
                    mk.save(model, path, example=X[:200])
                    report = mk.robustness(path, X_test[:ROWS], y_test[:ROWS], constraints=limits)
                    accuracy = mk.evaluate(path, X_test, y_test)["accuracy"]
                flips = [report[change].text for change in ("greedy", "noise 0.1")]
                about = (name, f"{len(X):,}", f"{model_name}, {kind}")
                rows.append([*about, *flips, str(accuracy), f"{took:.1f}"])
                print(*rows[-1], sep=" | ", flush=True)
    header = (
        "data set | training rows | model | greedy flips | noise 0.1 flips | accuracy | training, s"
    )
    return table(header, rows)


if __name__ == "__main__":
    command(__doc__, {"hardening": hardening}, LIBRARIES, "hardening")
