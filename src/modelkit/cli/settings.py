"""What `modelkit serve` is asked for: by its arguments, and by the environment where they are silent."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import final

from modelkit.cli.arguments import REGISTRY, WHERE
from modelkit.errors import UsageError

PORT = 8000
DRAIN = 5.0  # seconds
MOST_DIGITS = 9  # of a number in a variable
LOCAL = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - Vertex AI and SageMaker ask for it, in a container
# The variables of these two that name a port; they know better than the image, which sets PORT.
PORTS = ("SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT")
PLACES = ("MODELKIT_PACKAGE", "AIP_STORAGE_URI", "AZUREML_MODEL_DIR")  # variables with a path
SAGEMAKER = "/opt/ml/model"  # where SageMaker unpacks model.tar.gz


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """What to serve, and how.

    Attributes:
        package: the path of the package; with a registry, the name of the model in it.
        registry: the folder or URL of a registry that is followed, or None.
        poll: seconds after which a request looks for news in it; None for as long as a Rollout waits.
        name: what the model is called in paths; None for the name in the package.
        digest: the digests of which the package must have one, or None for any.
        allow: what the caller accepts beyond the default, as `load` takes it.
        keys: public keys, of which one must have signed each package; none for any package.
        unseal: what opens sealed packages: the path of a private key, or "env:NAME", or None.
        host: the address to listen on.
        port: the port; 0 for any that is free.
        workers: the number of processes.
        drain: seconds from SIGTERM to the end of the listening.
        tokens: the path of the file of digests of tokens, or None.
        certfile: the path of the server's certificate, or None for plain HTTP.
        keyfile: the path of its key; None where the file of the certificate holds it.
        ca_certs: the path of the certificates of those who sign clients' certificates, or None.
        health_route: a further path that answers whether models are ready, or None.
        predict_route: a further path that takes `{"instances": [...]}`, or None.
    """

    package: str
    registry: str | None = None
    poll: float | None = None
    name: str | None = None
    digest: tuple[str, ...] | None = None
    allow: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()
    unseal: str | None = None
    host: str = LOCAL
    port: int = PORT
    workers: int = 1
    drain: float = DRAIN
    tokens: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    ca_certs: str | None = None
    health_route: str | None = None
    predict_route: str | None = None


def settings_of(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The settings of arguments, completed by the environment.

    Raises UsageError for a setting that is missing or cannot be used.
    """
    from modelkit.package.trust import check_allow

    variables = {name: value for name, value in environ.items() if value}  # an empty one is none
    if any(name in variables for name in PORTS):
        variables.setdefault("HOST", EVERYWHERE)
    registry = args.registry or variables.get(WHERE)
    found = Settings(
        package=_package(args.file, variables)
        if registry is None
        else _followed(args.file, variables),
        registry=registry,
        poll=args.poll,
        name=args.name,
        digest=_digests(args.digest, variables),
        allow=check_allow(args.allow or variables.get("MODELKIT_ALLOW", "").split()),
        keys=tuple(args.key),
        unseal=args.unseal or variables.get("MODELKIT_UNSEAL"),
        host=args.host or variables.get("HOST", LOCAL),
        port=_number(args.port, variables, PORT, *PORTS, "PORT"),
        workers=_number(args.workers, variables, 1, "WEB_CONCURRENCY"),
        drain=args.drain,
        tokens=args.tokens or variables.get("MODELKIT_TOKENS"),
        certfile=args.ssl_certfile,
        keyfile=args.ssl_keyfile,
        ca_certs=args.ssl_ca_certs,
        health_route=variables.get("AIP_HEALTH_ROUTE"),
        predict_route=variables.get("AIP_PREDICT_ROUTE"),
    )
    _check(found)
    return found


def _digests(given: list[str], variables: Mapping[str, str]) -> tuple[str, ...] | None:
    """The digests of arguments, or of the variable; where that is set, it is never for any."""
    if given or "MODELKIT_DIGEST" not in variables:
        return tuple(given) or None
    return tuple(variables["MODELKIT_DIGEST"].split())


def _package(file: str | None, variables: Mapping[str, str]) -> str:
    """The path of the package: an argument, MODELKIT_PACKAGE, or where a cloud has put it."""
    places = [file, *map(variables.get, PLACES), SAGEMAKER if Path(SAGEMAKER).is_dir() else None]
    path = next(filter(None, places), None)
    if path is None:
        raise UsageError(
            "there is nothing to serve: give a package, or set MODELKIT_PACKAGE to its path"
        )
    if path.startswith(REGISTRY):
        raise UsageError(f"{path!r} needs --registry WHERE, or {WHERE}")
    if "://" in path:
        raise UsageError(
            f"the package is at {path!r}, and modelkit serve opens local paths only: copy it into "
            "the image, or download it first, and give its path in MODELKIT_PACKAGE"
        )
    return package_in(path)


def _followed(file: str | None, variables: Mapping[str, str]) -> str:
    """The name of a model in a registry: an argument, or MODELKIT_PACKAGE."""
    from modelkit.lifecycle.registry.log import CHAMPION

    named = file or variables.get("MODELKIT_PACKAGE") or ""
    name, at, alias = named.removeprefix(REGISTRY).partition("@")
    if not name:
        raise UsageError(
            "a registry has many models: give the name of one, or set MODELKIT_PACKAGE to it"
        )
    if at and alias != CHAMPION:
        raise UsageError(
            f"modelkit serve follows the alias {CHAMPION!r}, not {alias!r}; to serve one version for "
            "ever, give the path that `modelkit registry ... fetch` prints"
        )
    return name


def package_in(path: str) -> str:
    """A path; of a folder, as clouds and volumes are mounted, the one package in it.

    Hidden ones do not count: macOS packs a `._NAME` beside each file, and Kubernetes mounts each twice.
    """
    folder = Path(path)
    if not folder.is_dir():
        return path
    inside = sorted(path.relative_to(folder) for path in folder.rglob("*.mk"))
    found = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
    if len(found) != 1:
        names = ", ".join(map(str, found[:5])) or "none"
        raise UsageError(
            f"the folder {path!r} has {len(found)} packages ({names}), but only one can be "
            "served: give the path of the package"
        )
    return str(folder / found[0])


def _number(given: int | None, variables: Mapping[str, str], default: int, *names: str) -> int:
    """The argument, or the first of the variables that is set, or the default."""
    if given is not None:
        return given
    name = next((each for each in names if each in variables), None)
    if name is None:
        return default
    text = variables[name]
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise UsageError(f"the variable {name} is a whole number, 0 or more; got {text!r:.80}")
    return int(text)


def _check(settings: Settings) -> None:
    """Raise UsageError for settings that cannot be used, or not together."""
    if not 0 <= settings.port <= 65535:
        raise UsageError(f"a port is a number from 0 to 65535; got {settings.port}")
    if settings.name is not None and ("/" in settings.name or not settings.name.strip()):
        raise UsageError(f"--name is a part of a path, without '/'; got {settings.name!r}")
    if settings.poll is not None and not settings.poll > 0:
        raise UsageError(f"--poll is in seconds, above 0; got {settings.poll}")
    if settings.workers < 1:
        raise UsageError(f"at least one worker is needed; got {settings.workers}")
    if not 0 <= settings.drain < inf:
        raise UsageError(f"--drain is in seconds, 0 or more; got {settings.drain}")
    if settings.certfile is None and (settings.keyfile or settings.ca_certs):
        raise UsageError(
            "--ssl-keyfile and --ssl-ca-certs need --ssl-certfile, the certificate of the server"
        )
    for route in (settings.health_route, settings.predict_route):
        if route is not None and not route.startswith("/"):
            raise UsageError(
                f"AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE begin with '/'; got {route!r}"
            )
