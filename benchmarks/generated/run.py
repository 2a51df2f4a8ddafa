"""Pipelines drawn at random against their sources: `python -m benchmarks.generated.run --cases 2000 --seed 0`.

Each case has a number: `--case N` runs it alone, and shows a row of each kind that differs.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from benchmarks.conversion.answers import Answers, asked, truth
from benchmarks.conversion.drawn_models import draw_model, draw_target
from benchmarks.conversion.drawn_rows import FORMS, Form, draw_form, draw_table, hostile
from sklearn.base import clone

import modelkit as mk
from modelkit.convert.ties import choosing
from modelkit.errors import ModelkitError

LIMIT = 60  # seconds for one case
NEAR = 1e-6  # of a number, or of the median size of an output where that is larger
TINY = 1e-300  # subnormal numbers have few digits, or none
NARROW = 2e-5  # of the largest number, where source or package computes in float32
ALLOWED = (
    1e-4  # the same, as docs/reference/what_converts.md allows: what lies between the two is stated
)
ONE_BY_ONE = 15  # rows that are asked singly, where one side refuses some
LAST_DIGITS = (
    16  # units in the last place, by which numbers are moved to see whether an answer jumps
)
OUTCOMES = ("equal", "stated", "refused", "unfit", "wrong", "lax", "crashed")


@dataclass
class Outcome:
    """What became of a case, by the worst of it.

    `strict` are rows that the package refuses and the source answers, `lax` those the other way. `stated` are answers
    of which the page says that they may differ: see `Compared.is_stated`.
    """

    about: str = ""
    kind: str = "equal"
    why: str = ""
    strict: int = 0
    lax: int = 0
    wrong: list[str] = field(default_factory=list)
    stated: list[str] = field(default_factory=list)

    def failed(self, kind: str, error: Exception | str) -> Outcome:
        self.kind = kind
        name = "" if isinstance(error, str) else f"{type(error).__name__}: "
        self.why = f"{name}{error}"
        return self


class Late(BaseException):
    pass


@dataclass
class Compared:
    """A source and its package, which are asked rows in one form; what differs is added to `found`."""

    model: Any
    package: Any
    form: Form
    narrow: bool
    found: Outcome

    def compare(self, kind: str, rows: Any) -> None:
        """Compare all rows at once; row by row, where one side refuses some."""
        right, got = self.answers(rows)
        if isinstance(right, dict) and isinstance(got, dict):
            self.note(kind, rows, right, got)
            return
        for at in range(min(len(rows), ONE_BY_ONE)):
            row = rows[at : at + 1].reset_index(drop=True)
            right, got = self.answers(row)
            if isinstance(right, dict) and isinstance(got, dict):
                self.note(kind, row, right, got)
            elif isinstance(right, dict):
                self.found.strict += 1
            elif isinstance(right, OverflowError) and isinstance(got, dict):
                self.found.stated.append(f"{kind}: {right}")  # of dates: a missing number
            elif isinstance(got, dict):
                self.found.lax += 1
                why = f"{kind}: {type(right).__name__}: {str(right)[:150]}"
                self.found.why = self.found.why or why

    def answers(self, rows: Any) -> tuple[Answers | Exception, Answers | Exception]:
        """What source and package answer, or the error of each. Raises what is no error of modelkit's."""
        given = self.form.source(rows)
        right: Answers | Exception
        got: Answers | Exception
        try:
            right = truth(self.model, given, self.package.signature.output_names)
        except Exception as error:  # whatever a library says to such rows
            right = error
        try:
            got = self.package.run(self.form.package(given))
        except ModelkitError as error:
            got = error
        return right, got

    def note(self, kind: str, rows: Any, right: Answers, got: Answers) -> None:
        """Add what differs, with the first row of it."""
        for name, expected in right.items():
            answer = np.asarray(got[name]).reshape(expected.shape)
            bad = self.apart(expected, answer)
            if expected.dtype.kind != "f" and bad.any():
                bad &= ~self.ties(rows)
            places = np.flatnonzero(bad)
            if not len(places):
                continue
            at = int(places[0])
            words = (
                f"{kind}: {len(places)} of {len(bad)} {name}: {expected[at]} is {answer[at]} "
                f"at {rows.iloc[at].to_dict()}"
            )
            far = kind == "far" and self.narrow
            near = self.narrow and not self.apart(expected, answer, ALLOWED).any()
            stated = far or near or all(self.is_stated(rows, each, name, answer) for each in places)
            (self.found.stated if stated else self.found.wrong).append(words)

    def apart(self, expected: np.ndarray, got: np.ndarray, narrow: float = NARROW) -> np.ndarray:
        """Whether the answer to each row is another one."""
        if expected.dtype.kind != "f":
            texts = expected.dtype.kind in "OU"
            other = expected.astype(str) != got.astype(str) if texts else expected != got
            return other.reshape(len(other), -1).any(axis=1)
        sizes = np.abs(expected[np.isfinite(expected)])
        usual = np.median(sizes) if sizes.size else 0.0
        allowed = TINY + NEAR * np.maximum(np.abs(expected), usual)
        if self.narrow:
            allowed = narrow * sizes.max(initial=0.0)
        near = np.abs(expected - got) <= allowed
        near |= (expected == got) | (np.isnan(expected) & np.isnan(got))
        return ~near.reshape(len(near), -1).all(axis=1)

    def ties(self, rows: Any) -> np.ndarray:
        """Whether the two best scores of each row are as near as they may be to the package's."""
        verbs = ("decision_function", "predict_proba")
        verb = next((verb for verb in verbs if hasattr(self.model, verb)), None)
        if verb is None:
            return np.zeros(len(rows), bool)
        scores = np.asarray(asked(self.model, verb, self.form.source(rows)))
        if scores.ndim != 2:
            return np.abs(scores.reshape(len(rows), -1)[:, 0]) <= NEAR
        best = np.sort(scores, axis=1)[:, -2:]
        allowed = NARROW if self.narrow else NEAR
        return best[:, 1] - best[:, 0] <= allowed * np.abs(scores).max(axis=1)

    def is_stated(self, rows: Any, at: int, name: str, got: np.ndarray) -> bool:
        """Whether docs/reference/what_converts.md says that the answer to a row may be another one.

        So it may if the source gives it too, where it takes other neighbours at the same distance, or where numbers
        before boosting by histograms differ by their last digits.
        """
        answer = got[at : at + 1]
        chooser = choosing(self.model)
        if chooser is not None:
            expected = truth(chooser, self.form.source(rows), (name,))[name][at : at + 1]
            if not self.apart(expected, answer).any():
                return True
        if "HistGradientBoosting" not in repr(self.model):
            return False
        copies = pd.concat([rows[at : at + 1]] * 40, ignore_index=True)
        rng = np.random.default_rng(0)
        for column in copies.select_dtypes("float64"):
            moves = rng.integers(-LAST_DIGITS, LAST_DIGITS + 1, len(copies))
            copies[column] += moves * np.spacing(copies[column].to_numpy())
        expected = truth(self.model, self.form.source(copies), (name,))[name]
        return not self.apart(expected, np.resize(answer, expected.shape)).all()


def run_case(seed: int, case: int, folder: Path) -> Outcome:
    """Draw a case, fit it, save it, and compare the package with its source."""
    rng = np.random.default_rng([seed, case])
    size = int(rng.integers(200, 601))
    table = draw_table(rng, size)
    name = draw_form(rng, table)
    form = FORMS[name]
    task, y = draw_target(rng, table.score)
    few = form.source(table.rows[:2])
    model = draw_model(
        rng,
        table,
        task,
        named=hasattr(few, "columns"),
        framed=name == "frame",
        pandas=isinstance(few, pd.DataFrame),
    )
    shown = " ".join(repr(clone(model)).split())
    if y is not None and y.ndim == 1 and ("XGBClassifier" in shown or "SelectFromModel" in shown):
        _, y = np.unique(y, return_inverse=True)  # which take no texts
    found = Outcome(f"{task}, {name} {size} x {list(table.rows)}: {shown}")
    cut = 2 * size // 3
    seen = table.rows[:cut]
    try:
        model.fit(form.source(seen), None if y is None else y[:cut])
    except Exception as error:  # whatever a library says to such rows
        return found.failed("unfit", error)
    example = seen[: int(rng.choice([cut, cut, 100, 12]))]
    path = folder / "case.mk"
    try:
        given = form.package(form.source(example))
        manifest = mk.save(model, path, example=given, name="case", version="1")
    except ModelkitError as error:
        return found.failed("refused", error)
    narrow = manifest.parity.rtol > NEAR or "float32" in name
    with mk.load(path, device="cpu") as package:
        compared = Compared(model, package, form, narrow, found)
        compared.compare("held out", table.rows[cut:].reset_index(drop=True))
        compared.compare("example", example)
        for kind, rows in hostile(rng, seen):
            compared.compare(kind, rows)
    found.kind = next(
        (kind for kind in ("wrong", "lax", "stated") if getattr(found, kind)), "equal"
    )
    return found


def limited(seed: int, case: int, folder: Path) -> Outcome:
    """The same within a time; what is raised by anything but a library in `fit` is a crash."""
    signal.alarm(LIMIT)
    try:
        return run_case(seed, case, folder)
    except Late:
        return Outcome().failed("unfit", "too slow")
    except Exception as error:  # the next case is to be run
        return Outcome().failed("crashed", error)
    finally:
        signal.alarm(0)


def late(*_: object) -> None:
    raise Late


def reason(outcome: Outcome) -> str:
    """The class and the words of an error, without the places of steps."""
    words = [part for part in outcome.why.split(": ") if not part.startswith("step ")]
    return " ".join(": ".join(words).split())[:110]


def report(outcomes: dict[int, Outcome], seconds: float) -> None:
    counts = Counter(outcome.kind for outcome in outcomes.values())
    print(f"\n{len(outcomes)} cases in {seconds:.0f} s")
    for kind in OUTCOMES:
        print(f"  {kind:8} {counts[kind]:6}")
    strict = sum(outcome.strict > 0 for outcome in outcomes.values())
    print(f"  cases in which the package refuses rows that the source answers: {strict}")
    for kind in ("refused", "lax", "unfit"):
        reasons = Counter(reason(each) for each in outcomes.values() if each.kind == kind)
        print(f"\n{kind}:")
        for words, count in reasons.most_common(25):
            print(f"  {count:4} {words}")
    print("\nwrong, crashed, refused, lax and stated:")
    for case, each in outcomes.items():
        if each.kind in ("wrong", "crashed", "refused", "lax", "stated"):
            words = (each.wrong or each.stated)[:2]
            print(f"  --case {case}: {each.kind} {each.why} {words}\n      {each.about[:700]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--seconds", type=float, default=7200, help="stop after so long")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    signal.signal(signal.SIGALRM, late)
    outcomes: dict[int, Outcome] = {}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.case is not None:
            print(limited(chosen.seed, chosen.case, Path(folder)))
            return
        for case in range(chosen.first, chosen.first + chosen.cases):
            if time.monotonic() - begun > chosen.seconds:
                break
            outcomes[case] = limited(chosen.seed, case, Path(folder))
    report(outcomes, time.monotonic() - begun)


if __name__ == "__main__":
    main()
