"""Which regular expressions a package may bring: those that cannot run away on any text.

Python's engine goes back and tries every way in which parts that repeat can share the characters.
An expression is taken where there is just one way: where what follows such a part never begins with
a character that the part matches. What a text costs then grows at most with the square of its
length, and with the usual expressions as its length does.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import Any

from modelkit.errors import SignatureError

MOST = 1000  # characters of an expression
SMALL = 4096  # characters of a range that are looked at one by one
# Those that people use and whose parts overlap. After `\b` they are tried at the start of a word
# alone, and what follows a letter never fails.
KNOWN = frozenset(
    {
        r"(?u)\b\w*[a-zA-Z]\w*\b",
        r"(?ui)\b\w*[a-z]+\w*\b",
        r"\b\w*[a-zA-Z]\w*\b",
        r"(?u)\b\w+[-']?\w+\b",
    }
)

SINGLE = ("LITERAL", "NOT_LITERAL", "ANY", "IN")  # operations that match one character
REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
CLASSES = {"CATEGORY_WORD": r"\w", "CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s"}

Items = list[tuple[Any, Any]]  # of a parsed expression: each is an operation and what it is about


@lru_cache(64)
def compiled(pattern: str) -> re.Pattern[str]:
    """An expression that finds the words of a text.

    Raises SignatureError for one that is invalid, has more than one group, or may run away.
    """
    if len(pattern) > MOST:
        raise SignatureError(
            f"a token_pattern has at most {MOST:,} characters, and this one has {len(pattern):,}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = re.compile(pattern)
            if pattern not in KNOWN:
                _check(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SignatureError(
            f"token_pattern {pattern!r} is no regular expression: {error}"
        ) from error
    if found.groups > 1:
        raise SignatureError(
            f"token_pattern {pattern!r} has {found.groups} groups; at most one is taken"
        )
    return found


def _check(pattern: str) -> None:
    from re import _parser  # type: ignore[attr-defined]  # no public way to see what an expression is made of

    tree = _parser.parse(pattern)
    caseless = bool(tree.state.flags & re.IGNORECASE)
    _Walk(pattern, caseless=caseless).sequence(list(tree), [])


class _Walk:
    """One pass over an expression, which refuses parts that can give characters back to what follows them."""

    def __init__(self, pattern: str, *, caseless: bool) -> None:
        self._pattern = pattern
        self._caseless = caseless

    def sequence(self, items: Items, after: list[Items]) -> None:
        """Look at every item of a sequence; `after` are the items that may follow it.

        Raises SignatureError.
        """
        for at, item in enumerate(items):
            self._item(item, [items[at + 1 :], *after])

    def _item(self, item: tuple[Any, Any], rest: list[Items]) -> None:
        operation, about = item
        name = str(operation)
        if name in SINGLE or name == "AT":
            return
        if name == "SUBPATTERN" and not (
            about[1] or about[2]
        ):  # flags for a part alone are not followed
            self.sequence(list(about[3]), rest)
        elif name == "BRANCH":
            self._branch([list(choice) for choice in about[1]], rest)
        elif name in REPEATS:
            self._repeat(about, rest)
        elif name not in ("ASSERT", "ASSERT_NOT") or any(
            str(inner) not in SINGLE for inner, _ in about[1]
        ):
            raise SignatureError(
                f"token_pattern {self._pattern!r} has a part ({name.lower()}) of which it cannot "
                "be told how long it "
                f"takes; use classes, repetitions, alternatives and word boundaries"
            )

    def _branch(self, choices: list[Items], rest: list[Items]) -> None:
        """Alternatives with something after them must begin with different characters, so that one is tried."""
        for choice in choices:
            self.sequence(choice, rest)
        if not self._firsts(rest):
            return
        firsts = [self._firsts([choice, *rest]) for choice in choices]
        for at, first in enumerate(firsts):
            self._tell_apart(first, [item for other in firsts[at + 1 :] for item in other])

    def _repeat(self, about: Any, rest: list[Items]) -> None:
        least, most, body = int(about[0]), int(about[1]), list(about[2])
        self.sequence(body, [body, *rest] if most > 1 else rest)
        if least < most:
            self._tell_apart(self._firsts([body]), self._firsts(rest))

    def _tell_apart(self, left: Items, right: Items) -> None:
        """Refuse the expression where a character may be matched by one of both."""
        ours = [_parts(item, caseless=self._caseless) for item in left]
        theirs = [_parts(item, caseless=self._caseless) for item in right]
        if not any(_meet(one, other) for one in ours for other in theirs):
            return
        raise SignatureError(
            f"token_pattern {self._pattern!r} could take for ever on some text: parts of it that "
            "repeat can share "
            "characters in many ways. Let each be followed by what it does not match itself, as "
            "in "
            r"\w+(?:-\w+)*"
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

    def _firsts_of(self, item: tuple[Any, Any]) -> Items:
        operation, about = item
        name = str(operation)
        if name in SINGLE:
            return [item]
        if name == "SUBPATTERN":
            return self._firsts([list(about[3])])
        if name == "BRANCH":
            return [first for choice in about[1] for first in self._firsts([list(choice)])]
        return self._firsts([list(about[2])]) if name in REPEATS else []


def _may_be_empty(item: tuple[Any, Any]) -> bool:
    operation, about = item
    name = str(operation)
    if name in SINGLE:
        return False
    if name == "SUBPATTERN":
        return all(map(_may_be_empty, about[3]))
    if name == "BRANCH":
        return any(all(map(_may_be_empty, choice)) for choice in about[1])
    if name in REPEATS:
        return int(about[0]) == 0 or all(map(_may_be_empty, about[2]))
    return True


def _meet(left: list[range | str] | None, right: list[range | str] | None) -> bool:
    if left is None or right is None:
        return True
    return any(_parts_meet(one, other) for one in left for other in right)


def _parts(item: tuple[Any, Any], *, caseless: bool) -> list[range | str] | None:
    """The ranges and classes that an item is the union of; None for one that is told by what it is not."""
    operation, about = item
    if str(operation) not in ("LITERAL", "IN"):
        return None
    found: list[range | str] = []
    for kind, value in [item] if str(operation) == "LITERAL" else about:
        name = str(kind)
        if name == "LITERAL":
            found.append(range(value, value + 1))
        elif name == "RANGE":
            found.append(range(value[0], value[1] + 1))
        elif name == "CATEGORY" and str(value) in CLASSES:
            found.append(CLASSES[str(value)])
        else:
            return None
    if caseless:  # letters stand for others, which are word characters as well
        found = [
            r"\w" if isinstance(part, range) and _parts_meet(part, r"\w") else part
            for part in found
        ]
    return found


def _parts_meet(left: range | str, right: range | str) -> bool:
    if isinstance(left, range) and isinstance(right, range):
        return left.start < right.stop and right.start < left.stop
    if isinstance(left, str) and isinstance(right, str):
        return (
            r"\s" not in (left, right) or left == right
        )  # digits are word characters, and no space is one
    class_, span = (left, right) if isinstance(right, range) else (right, left)
    if len(span) > SMALL:
        return True
    return re.search(str(class_), "".join(chr(int(code)) for code in span)) is not None
