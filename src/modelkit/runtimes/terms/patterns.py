r"""Which regular expressions may cut a text into words: those whose time grows as the text does.

Python's engine tries every way in which parts that repeat can share the characters, and it tries from
every place of a text. So an expression is taken only in a shape for which the time is known:

- Characters, then a class that repeats: `[a-z]\w{2,}`. An attempt that fails has read the characters
  that are required, and no more.
- With a `\b` at both ends: `\b[a-z+.]{2,}\b`. Where an attempt fails, there is no boundary behind its
  required characters, so few attempts begin within the characters that it has read.
- Words that marks join: `\w+(?:[-']\w+)*`. No mark is in a word, so there is one way to divide them.
- Several of these, separated by `|`.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

from modelkit.errors import SignatureError

MAX_CHARACTERS = 1000  # characters of an expression
# Those that people use and that have another shape. After `\b` they are tried at the start of a word
# alone, and what follows a letter never fails.
KNOWN_PATTERNS = frozenset(
    {
        r"(?u)\b\w*[a-zA-Z]\w*\b",
        r"(?ui)\b\w*[a-z]+\w*\b",
        r"\b\w*[a-zA-Z]\w*\b",
        r"(?u)\b\w+[-']?\w+\b",
    }
)

_CLASS = r"(?>\[\^?\]?(?:\\.|[^\]\\])*\])"
_ALTERNATIVE = re.compile(rf"(?:{_CLASS}|\\.|[^|])+", re.DOTALL)
_CHARACTER = rf"(?:{_CLASS}|\\[dDsSwW]|\\[^A-Za-z0-9]|[^\\^$*+?{{}}\[\]()|])"
# A class of words has digits, and ranges that begin and end at letters. Marks come before all letters.
_WORD = r"\\[wd]|\[(?:[^\W\d]-[^\W\d]|0-9|\\[wd]|\w)+\]"
_MARK = r"\\?[-'/:&@\#,\ ]|\\[.+]|\[-?(?:['/:&@\#.,+\ ]|\\[-.+])+-?\]"
_SHAPE = re.compile(
    rf"""
    (?P<boundary>\\b)?
    (?P<group>\()?
    {_CHARACTER}*
    (?:
        (?P<word>{_WORD})\+ (?: \(\?: (?:{_MARK}) (?P=word)\+ \)[*?] )?
    |   {_CHARACTER} (?: (?: [*+?] | \{{\d\d?(?:,\d*)?\}} ) \?? )?
    )
    (?(group)\))
    (?(boundary)(?:\\b)?)
    """,
    re.DOTALL | re.VERBOSE,
)


@lru_cache(64)
def compiled(pattern: str) -> re.Pattern[str]:
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
    except (re.error, OverflowError, RecursionError) as error:
        raise SignatureError(
            f"token_pattern {pattern!r} is not a regular expression: {error}"
        ) from error
    if found.groups > 1:
        raise SignatureError(
            f"token_pattern {pattern!r} has {found.groups} groups; at most one is taken"
        )
    alternatives = _ALTERNATIVE.findall(re.sub(r"^\(\?[aimsu]+\)", "", pattern))
    if pattern not in KNOWN_PATTERNS and not all(map(_SHAPE.fullmatch, alternatives)):
        raise SignatureError(
            f"token_pattern {pattern!r} has a shape that could take for ever on some text. Write characters "
            r"and then a class that repeats, as in [a-z]\w+ or, with \b at both ends, \b[a-z]{3,}\b; or "
            r"words that a mark joins, as in \w+(?:-\w+)*; or several of these, separated by |"
        )
    return found
