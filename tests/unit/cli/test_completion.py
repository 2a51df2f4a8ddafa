"""`modelkit completion`: what may follow words, and the scripts in the shells themselves."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers.commands import run

from modelkit.cli import main
from modelkit.cli.completion import SCRIPTS


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["pre"], ["predict"]),
        (["predict", "m.mk", "x.csv", "--form"], ["--format"]),
        (["predict", "--format", "j"], ["json", "jsonl"]),
        (["predict", "--output", ""], []),
        (["predict", "m.mk", ""], []),
        (["registry", "models", "re"], ["register", "retire"]),
        (["registry", "models", "retire", "--r"], ["--reason"]),
        (["export", "d"], ["docker"]),
        (["predict", "--json", "--form"], ["--format"]),
        (["nothing", "zz"], []),
    ],
)
def test_what_may_follow_words(capsys, words, found):
    assert run(capsys, "completion", "words", *words)[1].split() == found


def test_every_command_may_begin(capsys):
    assert set(run(capsys, "completion", "words", "")[1].split()) > {"predict", "serve", "gate"}


def test_no_shell_is_refused_for_the_shell_alone(capsys):
    with pytest.raises(SystemExit):
        main(["completion"])
    assert capsys.readouterr().err.endswith("arguments are required: {bash,zsh,fish}\n")


def test_help_shows_the_shells_and_not_what_their_scripts_call(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "--help"])
    out = capsys.readouterr().out
    assert "{bash,zsh,fish}" in out
    assert "words" not in out


ASKED = {
    "bash": """\
eval "$(modelkit completion bash)"
COMP_WORDS=(modelkit predict m.mk x.csv --form); COMP_CWORD=4; _modelkit; echo "${COMPREPLY[@]}"
COMP_WORDS=(modelkit registry models re); COMP_CWORD=3; _modelkit; echo "${COMPREPLY[@]}"
COMP_WORDS=(modelkit predict ''); COMP_CWORD=2; _modelkit; echo "${#COMPREPLY[@]}"
complete -p modelkit""",
    "zsh": """\
autoload -Uz compinit && compinit -u -D; eval "$(modelkit completion zsh)"
compadd() { shift; echo "${(P)1}" }; _files() { echo files }
words=(modelkit predict m.mk x.csv --form); CURRENT=5; _modelkit
words=(modelkit registry models re); CURRENT=4; _modelkit
words=(modelkit predict ''); CURRENT=3; _modelkit
echo $_comps[modelkit]""",
    "fish": """\
modelkit completion fish | source
complete -C 'modelkit predict m.mk x.csv --form'
complete -C 'modelkit registry models re'
complete -C 'modelkit pred'
complete -C 'modelkit predict modelk'""",
}
ANSWERS = {
    "bash": ["--format", "register retire", "0", "complete -o default -F _modelkit modelkit"],
    "zsh": ["--format", "register retire", "files", "_modelkit"],
    "fish": ["--format", "register", "retire", "predict", "modelkit"],
}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_shell_itself_completes(tmp_path, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = tmp_path / "modelkit"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m modelkit "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        [shell, "-c", ASKED[shell]],
        cwd=tmp_path,  # its one file is what fish may name
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split("\n")[:-1], done.stderr) == (ANSWERS[shell], "")
