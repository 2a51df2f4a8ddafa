"""What `make quickstart` runs, and the screen it fills."""

import re
import shlex
import subprocess
import sys

import pytest
from helpers.places import ROOT

from modelkit.cli import main

SCRIPT = ROOT / "docs" / "quickstart.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("played")


@pytest.fixture(scope="module")
def screen(folder):
    done = subprocess.run(
        [sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_fits_a_screen(screen):
    lines = screen.splitlines()
    assert len(lines) <= 28
    assert max(map(len, lines)) <= 120


def test_it_says_what_happened_to_both_models(screen):
    for model in ("breast-cancer: a GradientBoostingClassifier", "penguins: a Pipeline"):
        assert model in screen
    for what in (
        "saved",
        "parity",
        "opened",
        "signature",
        "placement",
        "answers",
        "timings",
        "explained",
    ):
        assert len(re.findall(rf"^  {what} ", screen, re.MULTILINE)) == 2, what


def test_the_second_process_answers_as_the_first(screen):
    assert "569 of 569 labels equal" in screen
    assert "344 of 344 labels equal" in screen
    assert screen.count("0 labels flipped") == 2


@pytest.mark.parametrize("use", ["load(None)", "loads(b'')", "Unpickler(None)"])
def test_the_second_process_refuses_to_unpickle(use):
    code = f"import pickle, quickstart_serve; quickstart_serve.forbid_pickle(); pickle.{use}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=SCRIPT.parent
    )
    assert "RuntimeError: something was about to be unpickled" in done.stderr


def test_a_monitor_raises_no_alarm_on_the_same_rows_and_a_batch_of_others_does(screen):
    assert re.search(
        r"0 alarms on 344 rows, [1-8] on the 60 heaviest: body mass ks 0\.[5-9]", screen
    )


def test_modelkit_serve_answers_as_scikit_learn(screen):
    served = screen[screen.index("  served ") : screen.index("  judged ")]
    words = " ".join(served.split())
    assert re.search(r"at http://127\.0\.0\.1:\d+: row 0 is 'Adelie', as by scikit-learn, ", words)
    assert float(words.rpartition(" ")[2]) < 1e-9


def test_a_gate_judges_a_candidate(screen):
    judged = screen[screen.index("  judged ") :]
    assert re.search(r"a linear model for boosting: promote, accuracy 0\.0\d", judged), judged


def test_what_it_leaves_can_be_played_with(screen, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    commands = re.findall(r"^  \.venv/bin/modelkit (.*)$", screen, re.MULTILINE)
    assert len(commands) == 3
    for command in commands[:2]:  # the last one serves
        assert main(shlex.split(command)) == 0
    assert "bill_length_mm" in capsys.readouterr().out
    for page in ("drift.html", "gate.html"):
        assert "<title>" in (folder / "quickstart" / page).read_text(encoding="utf-8")
