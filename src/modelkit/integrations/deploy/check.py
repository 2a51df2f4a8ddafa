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

COMMENT = re.compile(r"(?:^|\s)#.*", re.MULTILINE)
# What has one value in all files.
SHARED = {
    "digest": re.compile(
        r"(?:MODELKIT_DIGEST|--digest)\W+(?:value\W+)?((?:(?:sha256:)?[0-9a-fA-F]{64} ?)+)"
    ),
    "image": re.compile(r"\bimage: *[\"']?([^\s\"',}]+)"),
    "port": re.compile(
        r"(?:\bcontainerPort: *|\bEXPOSE |(?:\bPORT|--port)\W+(?:value\W+)?|\.io/port: *\"|"
        r"\bhttpGet: .*port: *|\btype: A, port: *|\bports: \[\"(?:[\d.]+:)?\d+:)(\d+)"
    ),
}
PINNED = re.compile(r".+(?:@sha256:[0-9a-f]{64}|:(?!latest$)[\w.-]+)")
DRAIN = re.compile(r"--drain\W+(\d+)")
GRACE = re.compile(r"\b(?:terminationGracePeriodSeconds|stop_grace_period): *(\d+)(m?)")


def checked(folder: Path) -> tuple[list[str], list[str]]:
    """What does not fit in the files of a folder, a sentence each, and the commands that say more.

    Raises UsageError where there is nothing to compare.
    """
    texts: dict[str, str] = {}
    commands: list[str] = []
    for platform in PLATFORMS.values():
        there = [name for name in platform.templates if (folder / name).is_file()]
        texts |= {name: _text(folder / name) for name in there}
        commands += platform.checks if there else ()
    shared = {
        what: {name: values for name, text in texts.items() if (values := _values(what, text))}
        for what in SHARED
    }
    if not any(shared.values()):
        raise UsageError(
            f"{folder} lacks the files that `modelkit export` writes for a platform with an image, a digest "
            "or a port: give the folder that was exported, not an overlay of it"
        )
    problems = [
        f"the {what} is not the same in all files: "
        + ", ".join(f"{value} in {name}" for name, values in found.items() for value in values)
        for what, found in shared.items()
        if len({value for values in found.values() for value in values}) > 1
    ]
    for package in folder.glob("*.mk"):
        if package.name not in texts.get("Dockerfile", ""):
            continue  # it does not come into the image
        digest = review(package).manifest.digest
        problems += [
            f"{name} refuses {package.name}, which has the digest {digest}"
            for name, values in shared["digest"].items()
            if not all(digest in value for value in values)
        ]
    problems += [problem for name, text in texts.items() for problem in _problems(name, text)]
    return problems, commands


def _text(path: Path) -> str:
    """A file without its comments."""
    return COMMENT.sub("", path.read_text(encoding="utf-8", errors="replace"))


def _values(what: str, text: str) -> list[str]:
    """The values of one file: all its digests, and the image and the ports of its first service, the model's."""
    if what == "digest":
        found = [value.lower().replace("sha256:", "") for value in SHARED[what].findall(text)]
    else:
        found = SHARED[what].findall("image:".join(text.split("image:")[:2]))
    return [*dict.fromkeys(map(str.strip, found))]


def _problems(name: str, text: str) -> Iterator[str]:
    """What does not fit in one file."""
    images = SHARED["image"].findall(text)
    if images and not SHARED["digest"].search(text):
        yield f"{name} lacks the digest in MODELKIT_DIGEST, which says what the image may serve"
    for image in images:
        if not PINNED.fullmatch(image):
            yield f"{name} has the image {image} without a version: what runs could change"
    drain, grace = DRAIN.search(text), GRACE.search(text)
    seconds = int(drain[1]) if drain else 5  # as `modelkit serve` does
    if grace and (ends := int(grace[1]) * (60 if grace[2] else 1)) <= seconds:
        yield f"{name} ends a server after {ends} s, and it drains for {seconds} s"
