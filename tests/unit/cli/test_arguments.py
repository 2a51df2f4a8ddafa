"""What all commands share: their help with its examples, guesses at misspelt words, packages of a registry."""

import argparse
import os
import re
import shlex
import subprocess
import sys

import pytest
from helpers.commands import run
from helpers.servers import modelkit_serve

from modelkit import cli

START = "rollout models start churn@1.1.0 --stage 0.05 --guard loss:margin=0.1 --reason tried"
STATUSES = {"drift": (0, 4), "gate": (0, 3, 4)}


def parsers(parser):
    """A parser, and those of all of its commands and their actions."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


ALL = {parser.prog.replace(" WHERE", ""): parser for parser in parsers(cli.build_parser())}
EXAMPLES = [
    (prog, example)
    for prog, parser in ALL.items()
    for example in re.findall("^  modelkit (.*)$", parser.epilog or "", re.MULTILINE)
]


@pytest.mark.parametrize("prog", ALL)
def test_every_help_ends_with_an_example_of_its_command(prog):
    actions = any(isinstance(a, argparse._SubParsersAction) for a in ALL[prog]._actions)
    shown = [example for name, example in EXAMPLES if name == prog]
    assert shown or actions
    assert all(f"modelkit {each}".startswith(prog.split(" ")[0]) for each in shown)
    text = ALL[prog].format_help()
    assert text.rstrip().endswith(shown[-1]) if shown else text


@pytest.mark.parametrize(
    ("prog", "example"), [each for each in EXAMPLES if " serve" not in each[0]]
)
def test_examples_run(shell, capsys, fast_clock, prog, example):
    words = shlex.split(example)
    if prog.startswith("modelkit rollout") and "start" not in words:
        assert cli.main(shlex.split(START)) == 0
    if words == ["--version"]:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert not ended.value.code
        return
    if "--check" in words:
        assert cli.main(["export", "docker", "churn.mk", "--output", "image"]) == 0
    status = cli.main(words)
    assert status in STATUSES.get(words[0], (0,)), capsys.readouterr().err
    if "--output" in words:
        assert os.path.exists(words[words.index("--output") + 1])


@pytest.mark.parametrize("example", [each for prog, each in EXAMPLES if " serve" in prog])
def test_examples_of_servers_answer(shell, example):
    words = shlex.split(example)[1:]
    if "--port" in words:
        words = words[: words.index("--port")]
    with modelkit_serve(*words) as served:
        assert served.port


def test_help_needs_no_library():
    """So that it comes at once; numpy alone takes longer than all the rest."""
    code = (
        "import sys\n"
        "from modelkit.cli import main\n"
        "for line in sys.stdin:\n"
        "    try: main([*line.split(), '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'pandas', 'asyncio', 'email'} & {*sys.modules}\n"
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    lines = "\n".join(
        re.sub("^(registry|rollout|retrain) ", r"\1 . ", prog.removeprefix("modelkit").strip())
        for prog in ALL
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=lines, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: modelkit") == len(ALL)


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (["predikt", "m.mk", "x.csv"], "'predict'"),
        (["registry", "models", "histroy", "churn"], "'history'"),
        (["predict", "m.mk", "x.csv", "--ouput", "y.csv"], "'--output'"),
        (["evaluate", "m.mk", "x.csv", "--lable", "y"], "'--label'"),
        (["predict", "m.mk", "x.csv", "--format", "parket"], "'parquet'"),
        (["gate", "new.mk", "test.csv", "--champion", "churn.mk", "--label", "churned", "--margin", "0.1",
          "--metric", "auc"], "'roc_auc'"),
        (["evaluate", "churn.mk", "test.csv", "--label", "churn"], "'churned'"),
        (["predict", "churn.mk", "customers.csv", "--id", "costumer"], "'customer'"),
        (["gate", "new.mk", "test.csv", "--champion", "churn.mk", "--label", "churned", "--margin", "0.1",
          "--budget", "p50_rato=2"], "'p50_ratio'"),
        (["registry", "models", "version", "churn"], ""),  # the help has this word, and no such action
    ],
)  # fmt: skip
def test_a_misspelt_word_is_answered_with_the_likely_one(shell, capsys, words, guess):
    try:
        status = cli.main(words)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    err = capsys.readouterr().err
    assert f"(is it {guess}?)" in err if guess else "is it" not in err


@pytest.mark.parametrize("words", [["--out", "y.csv"], ["--outpu", "y.csv"], ["more", "words"]])
def test_words_that_nothing_takes_are_refused(shell, capsys, words):
    """An abbreviation would mean something else, once there is another option."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", "churn.mk", "rows.csv", *words])
    assert ended.value.code == 2
    assert f"unrecognized arguments: {' '.join(words)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "inspect {}", "schema {}", "diff {} {}", "predict {} rows.csv", "explain {} rows.csv --row 0",
        "drift {} today.csv", "evaluate {} test.csv --label churned", "bench {}", "doctor {}",
        "gate {} test.csv --champion {} --label churned --margin 0.1", "verify {}",
        "seal {} --to scoring=scoring.pub --output sealed.mk", "export docker {} --output image",
    ],
)  # fmt: skip
def test_a_package_may_be_one_of_a_registry(shell, capsys, monkeypatch, fast_clock, words):
    answers = []
    for name in ("churn.mk", "registry:churn@champion", "registry:churn@1.0.0"):
        if name != "churn.mk" and not words.startswith("export"):
            monkeypatch.setenv("MODELKIT_REGISTRY", "models")
        asked = shlex.split(words.replace("{}", name))
        if words.startswith("export") and name != "churn.mk":
            asked += ["--registry", "models", "--force"]
        status, out, err = run(capsys, *asked)
        assert status in (0, 3, 4), err
        answers.append(re.sub(r"registry:churn@\S+", "churn.mk", out))
    if words.split()[0] in ("inspect", "schema", "predict", "explain", "drift", "evaluate"):
        assert answers[0] == answers[1] == answers[2]


def test_a_registry_is_named_by_an_option_or_by_the_environment(shell, capsys, monkeypatch):
    package = "registry:churn@champion"
    assert run(capsys, "predict", package, "rows.csv", "--registry", "models")[0] == 0
    status, _, err = run(capsys, "predict", package, "rows.csv")
    assert (status, "needs --registry WHERE, or MODELKIT_REGISTRY" in err) == (2, True)
    with pytest.raises(SystemExit) as ended:
        cli.main(["registry", "list"])
    assert ended.value.code == 2
    assert "'list' needs a registry before it" in capsys.readouterr().err
    monkeypatch.setenv("MODELKIT_REGISTRY", "models")
    assert run(capsys, "predict", package, "rows.csv")[0] == 0
    assert run(capsys, "registry", "list", "churn") == run(
        capsys, "registry", "models", "list", "churn"
    )
    assert run(capsys, "predict", "registry:churn", "rows.csv")[0] == 2
    assert run(capsys, "predict", "registry:churn@2.0.0", "rows.csv")[0] == 1
    assert run(capsys, "evaluate", package, "test.csv", "--label", "churned", "--attach")[0] == 2
