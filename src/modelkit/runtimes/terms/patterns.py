"""Refuse regular expressions of a package that could run away on some text.

Python's engine goes back and tries every way in which parts that repeat can share the characters.
An expression is taken where there is just one way: where what follows such a part never begins with
a character that the part matches. An attempt at one place of a text then costs at most as much as
its length; for all places together see `modelkit.runtimes.terms.linear`.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from itertools import product
from typing import Any

from modelkit.errors import SignatureError
from modelkit.runtimes.terms.linear import BY_RUNS, Skipping, speed_of

MAX_CHARACTERS = 1000  # characters of an expression
MAX_RANGE = 4096  # characters of a range that are looked at one by one
# Those that people use and whose parts overlap. After `\b` they are tried at the start of a word
# alone, and what follows a letter never fails.
KNOWN_PATTERNS = frozenset(
    {
        r"(?u)\b\w*[a-zA-Z]\w*\b",
        r"(?ui)\b\w*[a-z]+\w*\b",
        r"\b\w*[a-zA-Z]\w*\b",
        r"(?u)\b\w+[-']?\w+\b",
    }
)

SINGLE_ITEMS = ("LITERAL", "NOT_LITERAL", "ANY", "IN")  # operations that match one character
REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
CLASSES = {"CATEGORY_WORD": r"\w", "CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s"}

Item = tuple[Any, Any]  # of a parsed expression: an operation, and what it is about
Items = list[Item]
Classes = list[range | str]  # ranges of code points, and classes such as \w


@lru_cache(64)
def compiled(pattern: str) -> re.Pattern[str] | Skipping:
    """An expression that finds the words of a text, in time that grows as the text does.

    Raises SignatureError for one that is invalid, has more than one group, or may take longer.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise SignatureError(
            f"a token_pattern has at most {MAX_CHARACTERS:,} characters, and this one has "
            f"{len(pattern):,}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = re.compile(pattern)
            if found.groups > 1:
                raise SignatureError(
                    f"token_pattern {pattern!r} has {found.groups} groups; at most one is taken"
                )
            if pattern not in KNOWN_PATTERNS and _check_pattern(pattern) == BY_RUNS:
                return Skipping(pattern, found)
    except (re.error, OverflowError, RecursionError) as error:
        raise SignatureError(
            f"token_pattern {pattern!r} is not a regular expression: {error}"
        ) from error
    return found


def _check_pattern(pattern: str) -> str:
    """How fast an expression is. Raises SignatureError for one that is too slow."""
    # There is no public way to see what an expression is made of.
    from re import _parser  # type: ignore[attr-defined]

    tree = _parser.parse(pattern)
    caseless = bool(tree.state.flags & re.IGNORECASE)
    _Walk(pattern, caseless=caseless).sequence(list(tree), [])
    speed = speed_of(list(tree), pattern)
    if speed is None:
        raise SignatureError(
            f"token_pattern {pattern!r} could take for ever on a long text: from each of its places "
            "it may look through the rest of it, and find nothing. Let it begin with \\b and let what "
            r"repeats match letters of words alone, as in \b\w+@\w+, or let nothing be required "
            r"after it, as in \w+(?:-\w+)*"
        )
    return speed


class _Walk:
    """One pass over an expression, which refuses parts that share characters with what follows."""

    def __init__(self, pattern: str, *, caseless: bool) -> None:
        self._pattern = pattern
        self._caseless = caseless

    def sequence(self, items: Items, after: list[Items]) -> None:
        """Look at every item of a sequence; `after` are the items that may follow it.

        Raises SignatureError.
        """
        for at, item in enumerate(items):
            self._item(item, [items[at + 1 :], *after])

    def _item(self, item: Item, rest: list[Items]) -> None:
        operation, about = item
        name = str(operation)
        if name in SINGLE_ITEMS or name == "AT":
            return
        if name == "SUBPATTERN" and not (about[1] or about[2]):
            self.sequence(list(about[3]), rest)
        elif name == "BRANCH":
            choices = [list(choice) for choice in about[1]]
            self._branch(choices, rest)
        elif name in REPEATS:
            self._repeat(about, rest)
        elif name not in ("ASSERT", "ASSERT_NOT") or not _is_short(about[1]):
            # Flags for a part alone, which are about[1] and about[2], are not followed.
            raise SignatureError(
                f"token_pattern {self._pattern!r} has a part ({name.lower()}) whose running time is "
                "unknown; use classes, repetitions, alternatives and word "
                "boundaries"
            )

    def _branch(self, choices: list[Items], rest: list[Items]) -> None:
        """Refuse alternatives that begin alike with something after them: both could be tried."""
        for choice in choices:
            self.sequence(choice, rest)
        if not self._firsts(rest):
            return
        firsts = [self._firsts([choice, *rest]) for choice in choices]
        for at, first in enumerate(firsts):
            others = [item for other in firsts[at + 1 :] for item in other]
            self._tell_apart(first, others)

    def _repeat(self, about: Any, rest: list[Items]) -> None:
        least = int(about[0])
        most = int(about[1])
        body = list(about[2])
        after = [body, *rest] if most > 1 else rest
        self.sequence(body, after)
        if least < most:
            inside = self._firsts([body])
            behind = self._firsts(rest)
            self._tell_apart(inside, behind)

    def _tell_apart(self, left: Items, right: Items) -> None:
        """Raise SignatureError where a character may be matched by items of both sides."""
        ours = [_classes(item, caseless=self._caseless) for item in left]
        theirs = [_classes(item, caseless=self._caseless) for item in right]
        pairs = product(ours, theirs)
        if not any(_meet(one, other) for one, other in pairs):
            return
        raise SignatureError(
            f"token_pattern {self._pattern!r} could take for ever on some text: parts of it that "
            "repeat can share characters in many ways. Let each be followed by what it does not "
            r"match itself, as in \w+(?:-\w+)*"
        )

    def _firsts(self, parts: list[Items]) -> Items:
        """The single characters with which parts that follow each other may begin."""
        found: Items = []
        for items in parts:
            for item in items:
                found += self._firsts_of(item)
                if not _may_be_empty(item):
                    return found
        return found

    def _firsts_of(self, item: Item) -> Items:
        operation, about = item
        name = str(operation)
        if name in SINGLE_ITEMS:
            return [item]
        if name == "SUBPATTERN":
            return self._firsts([list(about[3])])
        if name in REPEATS:
            return self._firsts([list(about[2])])
        found: Items = []
        if name == "BRANCH":
            for choice in about[1]:
                found += self._firsts([list(choice)])
        return found


def _is_short(items: Any) -> bool:
    """Whether every item matches one character."""
    return all(str(operation) in SINGLE_ITEMS for operation, _ in items)


def _may_be_empty(item: Item) -> bool:
    operation, about = item
    name = str(operation)
    if name in SINGLE_ITEMS:
        return False
    if name == "SUBPATTERN":
        return all(map(_may_be_empty, about[3]))
    if name == "BRANCH":
        return any(all(map(_may_be_empty, choice)) for choice in about[1])
    if name in REPEATS:
        return int(about[0]) == 0 or all(map(_may_be_empty, about[2]))
    return True


def _meet(left: Classes | None, right: Classes | None) -> bool:
    """Whether some character may belong to both; None stands for characters that are not known."""
    if left is None or right is None:
        return True
    pairs = product(left, right)
    return any(_overlap(one, other) for one, other in pairs)


def _classes(item: Item, *, caseless: bool) -> Classes | None:
    """The ranges and classes that an item is the union of; None for an item that excludes some."""
    operation, about = item
    name = str(operation)
    if name not in ("LITERAL", "IN"):
        return None
    found: Classes = []
    for part in [item] if name == "LITERAL" else about:
        class_ = _class_of(part)
        if class_ is None:
            return None
        found.append(class_)
    if not caseless:
        return found
    return list(map(_caseless, found))


def _caseless(part: range | str) -> range | str:
    """A range with letters as the class of words: they stand for others, which belong to it too."""
    letters = isinstance(part, range) and _overlap(part, r"\w")
    return r"\w" if letters else part


def _class_of(part: Item) -> range | str | None:
    kind, value = part
    name = str(kind)
    if name == "LITERAL":
        return range(value, value + 1)
    if name == "RANGE":
        return range(value[0], value[1] + 1)
    return CLASSES.get(str(value)) if name == "CATEGORY" else None


def _overlap(left: range | str, right: range | str) -> bool:
    if isinstance(left, range) and isinstance(right, range):
        return left.start < right.stop and right.start < left.stop
    if isinstance(left, str) and isinstance(right, str):
        # Digits are word characters, and no space is one.
        return r"\s" not in (left, right) or left == right
    if isinstance(left, range):
        return _overlap(right, left)
    class_ = left
    span = right
    if len(span) > MAX_RANGE:
        return True
    characters = "".join(chr(int(code)) for code in span)
    return re.search(str(class_), characters) is not None
