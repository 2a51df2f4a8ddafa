r"""Whether a regular expression finds all its matches in time that grows as a text does.

An attempt to match begins at every place of a text. Those that look far and fail cost the square of its
length: `\w+@` looks from each letter of "aaaa" to the end of the word. That cannot be in three cases:

- No attempt fails once it has looked far: nothing is required after what may be long. `\w+(?:-\w+)*`
- Attempts begin at words only, and what may be long stays within a word; so each word is looked at a
  few times. `\b\w+@\w+`
- It begins with a long part, such as `[\w.]+@\w+`, and other such parts stay within runs of the same
  characters. Where an attempt fails, it fails from every later place of the same run, for whatever
  follows the run was tried. So the rest of that run is skipped.
"""

from __future__ import annotations

import re
from typing import Any, final

BOUNDED = 64  # characters that every attempt may look at
EACH_ONCE = "each place once"
BY_RUNS = "by runs"

_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
_SINGLE = ("LITERAL", "NOT_LITERAL", "ANY", "IN")
_GLOBAL_FLAGS = re.compile(r"\(\?[aiLmsux]+\)")
_FIRST_CLASS = re.compile(r"(?:\[\^?\]?(?:\\.|[^\]\\])*\]|\\.|[^\\])(?=[+{])", re.DOTALL)
_NO_LIMIT = 1 << 16  # a repetition of so many is one of any number

Item = tuple[Any, Any]  # of a parsed expression: an operation, and what it is about
Items = list[Item]


@final
class Skipping:
    """Finds what an expression that begins with a long part matches, and skips runs where it fails."""

    __slots__ = ("_find", "groups")

    def __init__(self, pattern: str, compiled: re.Pattern[str]) -> None:
        self.groups = compiled.groups
        bare = _bare(pattern)
        first = _FIRST_CLASS.match(bare)
        assert first is not None  # `speed_of` has seen it
        self._find = re.compile(f"(?:{bare})|({first[0]}+)", compiled.flags).finditer

    def findall(self, text: str) -> list[str]:
        """As that of an expression."""
        skipped = self.groups + 1
        group = self.groups and 1
        return [found[group] or "" for found in self._find(text) if found.lastindex != skipped]


def speed_of(items: Items, pattern: str) -> str | None:
    """How an expression finds its matches; None if it may cost the square of a text's length."""
    if _is_safe(items, rest=True):
        return EACH_ONCE
    if len(items) == 1 and _name(items[0]) == "BRANCH":
        choices = [list(choice) for choice in items[0][1][1]]
        each = all(_is_safe(choice, rest=True) or _by_words(choice) for choice in choices)
        return EACH_ONCE if each else None
    if _by_words(items):
        return EACH_ONCE
    run = _class_of(items[0])
    begins = run is not None and _FIRST_CLASS.match(_bare(pattern)) is not None
    if begins and int(items[0][1][0]) > 0 and int(items[0][1][1]) > _NO_LIMIT:
        return BY_RUNS if all(_stays_in(run or set(), item) for item in items) else None
    return None


def _bare(pattern: str) -> str:
    """An expression without the flags that it may begin with."""
    found = _GLOBAL_FLAGS.match(pattern)
    return pattern[found.end() :] if found else pattern


def _is_safe(items: Items, *, rest: bool) -> bool:
    """Whether no attempt fails after a long part; `rest` is whether nothing behind the items can."""
    for at, item in enumerate(items):
        behind = rest and not any(
            _can_fail(items[: at + 1 + further], later)
            for further, later in enumerate(items[at + 1 :])
        )
        if not _is_long(item):
            continue
        if not behind:
            return False
        again = _name(item) in _REPEATS and int(item[1][0]) > 1
        if not all(_is_safe(inner, rest=rest and not again) for inner in _inner(item)):
            return False
    return True


def _can_fail(before: Items, item: Item) -> bool:
    name = _name(item)
    if name == "AT":  # of a word that was taken whole, the end is there
        return str(item[1]) != "AT_BOUNDARY" or not _ends_in_word(before)
    if name == "SUBPATTERN":
        inner = list(item[1][3])
        return any(_can_fail(before + inner[:at], each) for at, each in enumerate(inner))
    return name not in _REPEATS or int(item[1][0]) > 0


def _ends_in_word(items: Items) -> bool:
    """Whether the items end in as many letters of a word as there are."""
    if not items:
        return False
    item = items[-1]
    if _is_long(item) and _class_of(item) == {"CATEGORY_WORD"}:
        return _name(item) == "MAX_REPEAT"
    inner = _inner(item)
    if len(inner) != 1 or not _ends_in_word(inner[0]):
        return False
    optional = _name(item) in _REPEATS and int(item[1][0]) == 0
    return not optional or _ends_in_word(items[:-1])


def _by_words(items: Items) -> bool:
    """Whether attempts begin at words only, and do not look at many of them."""
    if not items or _name(items[0]) != "AT" or str(items[0][1]) != "AT_BOUNDARY":
        return False
    if all(_stays_in({"CATEGORY_WORD"}, item) for item in items):
        return True
    # Of one long part between two ends of words, each end within it is a match.
    long = [_is_long(item) for item in items]
    last = str(items[-1][1]) == "AT_BOUNDARY" and long[-2:-1] == [True]
    return last and sum(long) == 1 and _name(_inner(items[-2])[0][0]) in _SINGLE


def _is_long(item: Item) -> bool:
    """Whether an item may match many characters."""
    name = _name(item)
    if name in _REPEATS:
        _, most, body = item[1]
        return int(most) * int(body.getwidth()[1]) > BOUNDED
    return any(_is_long(each) for inner in _inner(item) for each in inner)


def _stays_in(run: set[str], item: Item) -> bool:
    """Whether what is long in an item matches characters of a class alone, and is no long group."""
    if not _is_long(item):
        return True
    if _name(item) in _REPEATS:
        parts = _class_of(item)
        return parts is not None and all(_is_in(part, run) for part in parts)
    return all(_stays_in(run, each) for inner in _inner(item) for each in inner)


def _class_of(item: Item) -> set[str] | None:
    """What a repeated class is the union of: names of classes, and characters; None for others."""
    if _name(item) not in _REPEATS or len(item[1][2]) != 1:
        return None
    (only,) = item[1][2]
    if _name(only) not in ("IN", "LITERAL"):
        return None
    found: set[str] = set()
    for part in only[1] if _name(only) == "IN" else [only]:
        name, value = _name(part), part[1]
        if name == "CATEGORY":
            found.add(str(value))
        elif name == "LITERAL":
            found.add(chr(value))
        elif name == "RANGE" and value[1] - value[0] < 4096:
            found |= set(map(chr, range(value[0], value[1] + 1)))
        else:
            return None
    return found


def _is_in(part: str, run: set[str]) -> bool:
    if part in run:
        return True
    words = "CATEGORY_WORD" in run
    if len(part) > 1:
        return words and part == "CATEGORY_DIGIT"
    return (words and re.match(r"\w", part) is not None) or (
        "CATEGORY_DIGIT" in run and part.isdecimal()
    )


def _inner(item: Item) -> list[Items]:
    """The sequences within an item."""
    name, about = _name(item), item[1]
    if name == "SUBPATTERN":
        return [list(about[3])]
    if name in _REPEATS:
        return [list(about[2])]
    if name == "BRANCH":
        return [list(choice) for choice in about[1]]
    return []


def _name(item: Item) -> str:
    return str(item[0])
