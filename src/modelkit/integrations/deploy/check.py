"""Whether files that were edited since `modelkit export` still belong together.

What a platform thinks of them, its own tools say: see `Platform.checks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from modelkit.errors import UsageError
from modelkit.integrations.deploy import PLATFORMS
from modelkit.package.review import review

# What has one value in all files. The first of a file is the model's.
SHARED = {
    "digest": re.compile(r"MODELKIT_DIGEST\W+(?:value\W+)?([0-9a-f]{64}(?: [0-9a-f]{64})*)"),
    "image": re.compile(r'\bimage: *"?([^\s"]+)'),
    "port": re.compile(r"(?:\bcontainerPort: *|\bPORT=)(\d+)"),
}
PINNED = re.compile(r".+(?:@sha256:[0-9a-f]{64}|:(?!latest$)[\w.-]+)")
DRAIN = re.compile(r"--drain\W+(\d+)")
GRACE = re.compile(r"\b(?:terminationGracePeriodSeconds|stop_grace_period): *(\d+)")


def checked(folder: Path) -> tuple[list[str], list[str]]:
    """What does not fit in the files of a folder, a sentence each, and the commands that say more.

    Raises UsageError if `modelkit export` has written none of them.
    """
    texts: dict[str, str] = {}
    commands: list[str] = []
    for platform in PLATFORMS.values():
        there = [name for name in platform.templates if (folder / name).is_file()]
        texts |= {name: (folder / name).read_text(encoding="utf-8") for name in there}
        commands += platform.checks if there else ()
    if not texts:
        raise UsageError(f"{folder} has no file that `modelkit export` writes for a platform")
    shared = {
        what: {name: match[1] for name, text in texts.items() if (match := pattern.search(text))}
        for what, pattern in SHARED.items()
    }
    problems = [
        f"the {what} is not the same in all files: "
        + ", ".join(f"{value} in {name}" for name, value in found.items())
        for what, found in shared.items()
        if len({*found.values()}) > 1
    ]
    for package in folder.glob("*.mk"):
        digest = review(package).manifest.digest
        problems += [
            f"{name} refuses {package.name}, which has the digest {digest}"
            for name, pinned in shared["digest"].items()
            if digest not in pinned
        ]
    problems += [problem for name, text in texts.items() for problem in _problems(name, text)]
    return problems, commands


def _problems(name: str, text: str) -> Iterator[str]:
    """What does not fit in one file."""
    images = SHARED["image"].findall(text)
    if images and not SHARED["digest"].search(text):
        yield f"{name} has no digest in MODELKIT_DIGEST, which says what the image may serve"
    for image in images:
        if not PINNED.fullmatch(image):
            yield f"{name} has the image {image} without a version: what runs could change"
    drain, grace = DRAIN.search(text), GRACE.search(text)
    if drain and grace and int(grace[1]) <= int(drain[1]):
        yield f"{name} ends a server after {grace[1]} s, and it drains for {drain[1]} s"
