"""Check what a caller must say before a package may do more than compute.

These are pure checks, which read no environment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from modelkit.errors import PackageError, UntrustedError, UsageError

JOBLIB = "joblib"
DOMAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+")
ALWAYS = ("joblib", "numpy", "scikit-learn")  # what every pickled estimator needs


def check_allow(allow: object) -> frozenset[str]:
    """What a caller allows, as a set.

    Raises TypeError and UsageError for anything but "joblib" and domains.
    """
    if isinstance(allow, str) or not isinstance(allow, Collection):
        raise TypeError(f"allow is a collection of strings, such as {{'joblib'}}; got {allow!r}")
    for entry in allow:
        if not isinstance(entry, str):
            raise TypeError(f"allow holds strings, not {entry!r}")
        if entry != JOBLIB and not DOMAIN.fullmatch(entry):
            raise UsageError(
                f"allow holds {entry!r}, which is neither 'joblib' nor a domain of ONNX operators "
                "such as 'com.example'"
            )
    return frozenset(allow)


def check_trusted(pinned: bool, allowed: Collection[str]) -> None:
    """Raise UntrustedError unless the caller has pinned a joblib package, and allowed it.

    It is `pinned` by a digest, or by a signature that was found right.
    """
    missing = []
    if JOBLIB not in allowed:
        missing.append("allow={'joblib'}")
    if not pinned:
        missing.append(
            "digest='sha256:...', which the author of the package gives you, or trust=mk.Trust([...]) "
            "with the author's public key"
        )
    if missing:
        raise UntrustedError(
            "this is a joblib package: opening it runs whatever code its author put into it, with "
            "all that this process may do. It opens only with allow= and with digest= or trust= from you; missing: "
            f"{' and '.join(missing)}",
            missing=tuple(missing),
        )


def check_requires(requires: Mapping[str, str]) -> None:
    """Raise PackageError unless each library is installed in exactly the version needed."""
    here = installed(requires)
    wrong = {
        library: (needed, here.get(library))
        for library, needed in requires.items()
        if needed != here.get(library)
    }
    if wrong:
        lines = "".join(
            f"\n  {lib} {needed}, {found or 'none'} is installed"
            for lib, (needed, found) in wrong.items()
        )
        raise PackageError(
            "a pickled estimator is read by the versions that wrote it, and this one "
            f"needs:{lines}\n"
            f"pip install {pins({library: requires[library] for library in wrong})}",
            requires=wrong,
        )


def pins(requires: Mapping[str, str]) -> str:
    """Libraries in exact versions, as pip takes them on a command line."""
    import shlex  # where something is missing alone

    return " ".join(shlex.quote(f"{library}=={version}") for library, version in requires.items())


def installed(libraries: Iterable[str]) -> dict[str, str]:
    """The versions of those libraries that are installed here, without importing one."""
    # It brings the reading of mail: 10 ms and 4 MiB that loading does not need.
    from importlib import metadata

    found = {}
    for library in libraries:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def required(modules: Iterable[str]) -> dict[str, str]:
    """The installed libraries that hold these modules, or that every pickled estimator needs."""
    from importlib import metadata

    owners = metadata.packages_distributions()
    libraries = {*ALWAYS}
    for module in modules:
        libraries.update(owners.get(module.partition(".")[0], ()))
    return dict(sorted(installed(libraries).items()))
