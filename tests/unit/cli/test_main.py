"""Wrong arguments, unknown commands, and what is safe to print."""

import re
from pathlib import Path

import pandas as pd
import pytest

from modelkit import cli

ROOT = Path(__file__).parents[3]

GATE = ("gate", "b.mk", "--champion", "a.mk", "x.csv", "--label", "y", "--margin")
EVALUATE = ("evaluate", "a.mk", "x.csv", "--label", "y")
START = ("rollout", "models", "start", "m@2", "--reason", "r", "--stage")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*GATE, "abc"), "--margin: 'abc' is not a number of at least 0"),
        ((*GATE, "-1"), "expected one argument|'-1' is not a number of at least 0"),
        ((*GATE, "accuracy=nan"), "--margin: 'nan' is not a number"),
        ((*GATE, ".1", "--budget", "p50=2"), "unknown budget 'p50'; there are p50_ratio"),
        ((*GATE, ".1", "--budget", "p50_ratio=0"), "p50_ratio is a number above 0"),
        ((*GATE, ".1", "--budget", "p50_ratio"), "write the number of a name as NAME=NUMBER"),
        ((*GATE, ".1", "--seed", "x"), "'x' is not a whole number of at least 0"),
        ((*GATE, ".1", "--alpha", "5"), "'5' is not a number between 0 and 0.5"),
        ((*EVALUATE, "--level", "95"), "'95' is not a number between 0 and 1"),
        (("drift", "a.mk", "x.csv", "--alpha", "5"), "'5' is not a number between"),
        (("serve", "a.mk", "--port", "99999"), "a port is a number from 0 to 65535"),
        (("serve", "a.mk", "--workers", "0"), "at least one worker"),
        (("serve", "a.mk", "--allow", "pickle"), "neither 'joblib' nor a domain"),
        (("registry", "models", "alias", "m@champion", "1", "--reason", "r"), "pass --expected"),
        ((*START, "2"), "from 0 to 1"),
        ((*START, "0.5", "--alpha", "5"), "alpha is between 0 and 1"),
        ((*START, "0.5", "--horizon", "soon"), "'soon' is not a time"),
        (("rollout", "models", "outcome", "m", "--key", "k", "--loss", "2"), "from 0"),
        (("rollout", "models", "outcome", "m", "--key", "k"), "has --key and --loss"),
        (("export", "grafana", "--output", "x", "--errors", "2"), "at most 0.05"),
    ],
)
def test_arguments_that_cannot_be_meant_have_the_status_2(capsys, words, told):
    """Whether or not the files that they name are there."""
    try:
        status = cli.main(words)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert re.search(told, capsys.readouterr().err)


def test_usage_is_shown_for_unknown_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["explode"])
    assert caught.value.code == 2


def test_what_a_file_says_cannot_drive_the_terminal():
    assert cli.printable("a\x1b[31mb\n") == "a\\x1b[31mb\n"


def test_a_file_that_is_not_there_is_named(capsys, tmp_path):
    path = tmp_path / "nothing.mk"
    assert cli.main(["inspect", str(path)]) == 1
    assert capsys.readouterr().err == f"modelkit: {str(path)!r}: No such file or directory\n"


def test_the_statuses_are_those_of_the_table(shell, capsys, monkeypatch):
    """The table in docs/reference/files.md, and what each of them is for."""
    table = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    known = {int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    gate = "gate new.mk test.csv --label churned --champion churn.mk --margin"
    start = "rollout models start churn@1.1.0 --stage 0.05 --reason tried"
    shown = {
        "predict churn.mk rows.csv": 0,
        "predict churn.mk none.csv": 1,
        "predict churn.mk texts.csv": 1,
        "predict texts.csv rows.csv": 1,
        "predict churn.mk rows.csv --row 3": 2,
        "predict churn.mk rows.csv --output rows.xls": 2,
        f"{gate} abc": 2,
        f"{gate} 0": 3,
        f"{gate} 0.1 --require accuracy>=0.99": 4,
        start: 0,
        "registry models alias churn@champion 1.1.0 --expected 0.9.0 --reason x": 3,
        "drift churn.mk today.csv --alpha 0.5": 4,
    }
    pd.read_csv("today.csv").add(9).to_csv("today.csv", index=False)
    for words, status in shown.items():
        try:
            found = cli.main(words.split())
        except SystemExit as ended:
            found = ended.code
        assert (words, found) == (words, status)
    monkeypatch.setattr("sys.stdin", Interrupting())
    assert cli.main(["predict", "churn.mk", "-"]) == 130
    assert capsys.readouterr().err.endswith("modelkit: interrupted\n")
    assert known == {*shown.values(), 130}


class Interrupting:
    """A standard input at which somebody presses Ctrl-C."""

    @property
    def buffer(self):
        raise KeyboardInterrupt
