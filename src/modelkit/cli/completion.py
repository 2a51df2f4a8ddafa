"""`modelkit completion`: what lets a shell complete commands, options and their values."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from modelkit.cli.arguments import Printed, add_command

# Each asks `modelkit completion words` for what may follow the words so far; where nothing may, names of files do.
SCRIPTS = {
    "bash": """\
_modelkit() {
    local IFS=$'\\n'
    COMPREPLY=($(modelkit completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _modelkit modelkit""",
    "zsh": """\
#compdef modelkit
_modelkit() {
    local -a found
    found=(${(f)"$(modelkit completion words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -a found; else _files; fi
}
compdef _modelkit modelkit""",
    "fish": """\
function __modelkit
    set -l before (commandline -opc)
    set -l found (modelkit completion words $before[2..] (commandline -ct) 2>/dev/null)
    if set -q found[1]; printf '%s\\n' $found; else; __fish_complete_path (commandline -ct); end
end
complete -c modelkit -f -a '(__modelkit)'""",
}


def add_completion(verbs: Any) -> None:
    """The arguments of `modelkit completion`."""
    parser = add_command(
        verbs,
        *("completion", partial(run_completion, verbs)),
        "print a script that lets a shell complete modelkit's commands",
    )
    parser.add_argument(
        "shell",
        choices=(*SCRIPTS, "words"),
        metavar="{bash,zsh,fish}",  # without the word that their scripts ask
        help="for `eval` in its start file",
    )
    # Python 3.11 would say that words are required
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS).required = False


def run_completion(verbs: Any, args: argparse.Namespace) -> Printed:
    """The script for a shell, or what may follow words."""
    if args.shell == "words":
        return following(verbs, args.words or [""]), 0
    return [SCRIPTS[args.shell]], 0


def following(verbs: Any, words: list[str]) -> list[str]:
    """What the last of some words may become: commands, options or their choices."""
    *before, last = words
    value = None  # the option whose value comes next
    commands = verbs.choices
    options: dict[str, Any] = {}
    for word in before:
        value = options.get(word)
        if word in commands:
            actions = commands[word]._actions  # as every tool that reads parsers does
            options = {name: action for action in actions for name in action.option_strings}
            commands = next((a.choices for a in actions if isinstance(a.choices, dict)), {})
    if value is not None and value.nargs != 0:
        found = value.choices or ()
    else:
        found = options if last.startswith("-") else commands
    return [word for word in found if word.startswith(last)]
