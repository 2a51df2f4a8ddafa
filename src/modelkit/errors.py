"""The errors that modelkit defines, in one tree.

ModelkitError
├── SignatureError (ValueError)     the caller's rows do not fit the model's signature
├── UsageError (ValueError)         an argument, or a combination, that makes no sense
├── PackageError                    a package, or a record of modelkit's, that cannot be read
│   ├── ContainerError              the zip container breaks the layout of a .mk file
│   ├── ManifestError               modelkit.json is malformed, or of another format
│   ├── IntegrityError              a member's size or hash, or the pinned digest, differs
│   ├── UntrustedError              it could run code that you did not allow, or lacks a signature
│   └── GraphError                  the ONNX graph uses something a package may not
├── ConversionError                 the source cannot become an ONNX graph
│   └── ParityError                 it became one, but the two disagree
├── DeviceError                     a device that is not available
├── ForkedModelError                a model on a device was loaded before this process forked
├── BatchError                      a run could not be answered, or a model cannot be batched
│   ├── Overloaded                  the queue is full
│   ├── DeadlineExceeded (TimeoutError) the deadline passed before the answer came
│   ├── ClosedError                 the model was closed
│   └── OutputCountError            the model answered another number of rows
├── ExplainError                    the model cannot be explained in this way
│   └── AdditivityError             an exact explanation does not add up to what was served
├── RegistryError                   a registry cannot do what was asked
│   ├── NotFound                    an unknown model, version or alias
│   ├── Conflict                    somebody else was faster, or a version already exists
│   └── NotAFile                    something else is in the place of a file
├── RetrainError                    a training failed, or cannot be used
├── AuditError                      an audit log cannot be written, or read
├── AccessDenied (PermissionError)  a policy does not let the caller do this
└── MissingExtraError (ImportError) an optional library is not installed

Each error carries the objects it is about as attributes; its message says what happened, with which
value, and what to do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

# The modules of distributions that have another name.
MODULES = {
    "protobuf": "google",
    "opentelemetry-api": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "scikit-learn": "sklearn",
}

_WORD = re.compile(r"\S+")
_SCHEME = re.compile(r"[A-Za-z0-9+.-]:/{1,3}")


class ModelkitError(Exception):
    """Base of every modelkit error; keyword arguments become attributes of the error.

    `public` is what pages and logs show of it, where the text itself quotes rows or another error.
    """

    public: str | None = None

    def __init__(self, message: str, **about: object) -> None:
        super().__init__(message)
        self.__dict__.update(about)


class SignatureError(ModelkitError, ValueError):
    """Rows that do not fit a signature; `problems` lists every one of them.

    `rows` are the numbers of the rows at fault, where these are known, and `reasons` says for which
    reason the model refuses each, where it does so itself.
    """

    problems: tuple[str, ...]
    rows: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), **about: object) -> None:
        super().__init__(message, problems=problems or (message,), **about)


class UsageError(ModelkitError, ValueError):
    """An argument out of range, of an unknown name, or that contradicts another one, the rows or a model.

    Where they help, `feature`, `metric`, `device`, `folder` or `problems` say what it is about.
    """


def without_credentials(text: str) -> str:
    """A text whose URLs have neither users with passwords nor queries, which may be signed."""
    return _WORD.sub(_bare, text)


def _bare(word: re.Match[str]) -> str:
    """A word from whose URL the user and the query are taken; in time that grows as its length."""
    text = word[0]
    scheme = _SCHEME.search(text)
    if scheme is None:
        return text
    _, at, host = text[scheme.end() :].rpartition("@")
    address, query, _ = host.partition("?")
    return f"{text[: scheme.end()]}{'...@' if at else ''}{address}{'?...' if query else ''}"


def public_text(error: BaseException) -> str:
    """An error as pages, events and logs show it: its type, and its text where that is ours.

    Any other text may hold a row, or an address with a password; and what a signature refuses quotes
    rows as well. Of an error of the system, its number has a text.
    """
    kind = type(error).__name__
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return f"{kind}: {os.strerror(error.errno)}"
    if not isinstance(error, ModelkitError):
        return kind
    text = "rows were refused" if isinstance(error, SignatureError) else error.public
    return without_credentials(f"{kind}: {error if text is None else text}")


class PackageError(ModelkitError):
    """A package that cannot be opened or written, or a record that cannot be read.

    Records are what modelkit writes for itself: a Profile, the state of a Detector, an Evaluation, the
    counts of a Meter. `member` names the part of a package at fault, `folder` where counts lie.
    """


class ContainerError(PackageError):
    """A zip container that breaks the layout of a `.mk` file."""


class ManifestError(PackageError):
    """A manifest that is malformed, inconsistent, or of another format."""


class IntegrityError(PackageError):
    """A member or a digest that differs from what the manifest or the caller states."""


class UntrustedError(PackageError):
    """A package that could run code when opened, or lacks signatures by the keys of a Trust.

    `missing` lists what the caller must pass, and `reasons` why each signature does not count.
    """

    missing: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class GraphError(PackageError):
    """An ONNX graph that a package may not contain, or that disagrees with its manifest."""


class ConversionError(ModelkitError):
    """A source that cannot be converted.

    `step` is the class of the estimator at fault, and `place` where it stands in the model, such as
    "step 'clf' (pipeline step 2 of 2)"; both are empty where it is not about one part.
    """

    step: str = ""
    place: str = ""


class ParityError(ConversionError):
    """A converted graph that disagrees with its source; `parity` holds the figures."""


class DeviceError(ModelkitError):
    """A device that is not available; `device` names it, and `obstacles` has the reasons by device."""


class ForkedModelError(ModelkitError):
    """A model on another device than the CPU, loaded before a fork; `device` names the device."""


class BatchError(ModelkitError):
    """A run that could not be answered, or a model that cannot be batched."""


class Overloaded(BatchError):  # the name the design fixes
    """A request that found the queue full; `queued` and `max_queue` say how full."""

    queued: int = 0
    max_queue: int = 0


class DeadlineExceeded(BatchError, TimeoutError):  # the name the design fixes
    """A request whose deadline passed before it was answered; if not begun, it was dropped."""


class ClosedError(BatchError):
    """A model that was used after `close()`."""


class OutputCountError(BatchError):
    """A run that answered another number of rows than it got."""


class ExplainError(ModelkitError):
    """A model that cannot be explained in this way: the method does not fit, or the background is missing."""


class AdditivityError(ExplainError):
    """An exact explanation that does not add up to the served output; `gap` says by how much."""


class RegistryError(ModelkitError):
    """A registry that cannot do what was asked, or holds a file that it cannot read."""


class NotFound(RegistryError):  # the name the design fixes
    """A model, version or alias that a registry does not have; `name` and `which` say which."""


class Conflict(RegistryError):  # the name the design fixes
    """A change that somebody else made first, a rollout that has ended, or a version that is fixed.

    `name` and `alias` say of what, and `now` is what the alias names now: an `Alias`, or None.
    """


class NotAFile(RegistryError):  # it says what is there
    """A folder, a pipe or a device, or something too large, in the place of a file of a registry."""


class RetrainError(ModelkitError):
    """A training that failed: `train` or `judge` returned something that cannot be used."""


class AuditError(ModelkitError):
    """A record could not be written to an audit log, or a line of one cannot be read."""


class AccessDenied(ModelkitError, PermissionError):  # the name the design fixes
    """What a policy does not let the caller do.

    `principal` says who asked, or is None; `action` what for, and `about` of which model.
    """


class MissingExtraError(ModelkitError, ImportError):
    """An optional library that cannot be imported.

    `feature` says what needs the `library`, and `extra` names the extra of modelkit that brings it,
    or is None. `alternatives` has the libraries that would do instead, by extra.
    """

    def __init__(
        self,
        feature: str,
        library: str,
        extra: str | None = None,
        alternatives: Mapping[str, str] = MappingProxyType({}),
        problem: str = "is not installed",
    ) -> None:
        installs = [f"pip install {name}" for name in (library, *alternatives.values())]
        message = f"{feature} needs {library}, which {problem}: {' or '.join(installs)}"
        if extra is not None:
            extras = [f'pip install -e ".[{name}]"' for name in (extra, *alternatives)]
            message += f"; or in a checkout of modelkit: {' or '.join(extras)}"
        super().__init__(
            message,
            feature=feature,
            library=library,
            extra=extra,
            alternatives=dict(alternatives),
            problem=problem,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        about = self.__dict__
        made_of = ("feature", "library", "extra", "alternatives", "problem")
        return type(self), tuple(about[name] for name in made_of), about


@contextmanager
def importing(
    library: str,
    feature: str,
    extra: str | None = None,
    alternatives: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[None]:
    """A block that imports an optional library; where that fails, it raises MissingExtraError."""
    try:
        yield
    except ImportError as error:
        module = MODULES.get(library, library)
        absent = (
            isinstance(error, ModuleNotFoundError)
            and (error.name or "").partition(".")[0] == module
        )
        if absent:
            raise MissingExtraError(feature, library, extra, alternatives) from None
        problem = f"cannot be imported ({error})"
        raise MissingExtraError(feature, library, extra, alternatives, problem) from error
