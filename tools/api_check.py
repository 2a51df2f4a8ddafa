"""Compares public names and their parameters with a tag, the last one if none is named: `make api-check`.

It fails where a name is gone, or where a call that was right before no longer is.
"""

import re
import subprocess
import sys
from collections.abc import Iterator

import griffe

# The modules whose names are promised, as docs/project/stability.md says; the first two have stubs.
PROMISED = ("modelkit", "modelkit.types", "modelkit.errors", "modelkit.events", "modelkit.testing")


def last_tag() -> str:
    command = ["git", "describe", "--tags", "--abbrev=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


def public(module: griffe.Object) -> dict[str, griffe.Object | griffe.Alias]:
    """What a module promises: what its stubs import; or else what it defines, and the classes that it imports."""
    found: dict[str, griffe.Object | griffe.Alias] = {}
    for name, member in module.members.items():
        ours = member.is_alias and member.target_path.startswith("modelkit.")
        if module.path not in PROMISED[:2]:
            ours = not member.is_alias or (ours and member.is_class)
            ours = ours and (module.exports is None or name in module.exports)
        if ours and not name.startswith("_"):
            found[name] = member
    return found


def breakages(old: griffe.Object, new: griffe.Object) -> Iterator[str]:
    """What breaks from one tree of modules to the next."""
    for path in PROMISED:
        below = path.partition(".")[2]
        before, now = (public(root[below] if below else root) for root in (old, new))
        for name, member in before.items():
            if name not in now:
                yield f"{path}.{name} is gone"
                continue
            for found in griffe.find_breaking_changes(target(member), target(now[name])):
                yield re.sub(r"\x1b\[\d+m", "", found.explain(griffe.ExplanationStyle.ONE_LINE))


def target(member: griffe.Object | griffe.Alias) -> griffe.Object:
    return member.final_target if member.is_alias else member


def main(tag: str = "") -> int:
    tag = tag or last_tag()
    if not tag:
        print("there is no tag yet: nothing to compare with")
        return 0
    options = {"search_paths": ["src"], "resolve_aliases": True}
    old, new = griffe.load_git("modelkit", ref=tag, **options), griffe.load("modelkit", **options)
    found = [*breakages(old, new)]
    print("\n".join([*found, f"{len(found)} changes since {tag} break what worked"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
