"""Plain values as YAML: mappings, lists, texts and numbers, as configuration files hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

STEP = "  "
# A text with quotes or of several lines reads better as a block; not all texts can be one.
BLOCK = re.compile(r"(?! )[ -~]*[!-~](\n[ -~]*[!-~])*")

# Words that YAML reads as no text.
RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def to_yaml(value: Any) -> str:
    """A mapping or a list as a YAML document.

    The keys of mappings are names: letters, digits and underscores. A text that JSON would have to
    escape is a block, and any other is quoted as in JSON, which YAML contains.
    """
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, member in value.items():
            written = json.dumps(key) if key in RESERVED else key
            yield from _under(f"{written}:", member)
    elif isinstance(value, list) and value:
        for member in value:
            yield from _item(member)
    else:
        yield json.dumps(value, ensure_ascii=False)


def _under(head: str, member: Any) -> Iterator[str]:
    """The lines of a member of a mapping, below its key where it has several."""
    if isinstance(member, str) and {*member} & {'"', "\n"} and BLOCK.fullmatch(member):
        yield f"{head} |-"
        yield from (STEP + line for line in member.split("\n"))
    elif isinstance(member, dict | list) and member:
        yield head
        yield from (STEP + line for line in _lines(member))
    else:
        yield f"{head} {json.dumps(member, ensure_ascii=False)}"


def _item(member: Any) -> Iterator[str]:
    """The lines of a member of a list, the first of which begins with a dash."""
    first, *others = _lines(member)
    yield f"- {first}"
    yield from (STEP + line for line in others)
