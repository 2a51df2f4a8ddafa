"""A Registry as the registered models of MLflow: its versions, and what its aliases name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelkit.errors import RegistryError, importing
from modelkit.integrations.mlflow.logged import log_model
from modelkit.lifecycle.registry.log import Alias
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.registry.releases import ModelVersion
from modelkit.package.load import inspect

TAG = "modelkit."
RESERVED = re.compile(r"latest|v\d+")


def mirror(registry: Registry, name: str) -> dict[str, str]:
    """Let MLflow's registry show a model of a Registry: each version once, and every alias.

    The Registry stays what decides: an alias is set in MLflow after the entry of the Registry's own
    log, and again where that log grew meanwhile. What is there already is left as it is, so that
    this may be called after each change, or now and then, by several at once.

    A version of MLflow has the tags "modelkit.version", "modelkit.digest" and
    "modelkit.model_digest", and for each alias that named it "modelkit.generation.ALIAS", the
    number of the entry that last did so.

    Args:
        registry: the Registry.
        name: of the model in it, and of the registered model in MLflow.

    Returns:
        The number of each version in MLflow, by its version in the Registry.

    Raises:
        NotFound: if the registry has no such model.
        RegistryError: if MLflow cannot have an alias of this name, or holds another package under
            the digest that an alias is to name.
        PackageError: if a package is damaged, or is one of joblib: see `log_model`.
        TypeError: for anything but a Registry.
        MissingExtraError: if MLflow is not installed.
    """
    with importing("mlflow", "modelkit.integrations.mlflow"):
        from mlflow import MlflowClient
    _check_registry(registry)
    client = MlflowClient()
    while True:
        state = registry.state(name)
        _check_aliases(state.aliases)
        numbers = _mirror_versions(registry, name)
        for alias, now in state.aliases.items():
            release = registry.version(name, now.version)
            _mirror_alias(client, release, numbers[now.version], alias, now)
        if registry.generation(name) == state.generation:
            return numbers


def _check_registry(registry: object) -> None:
    """Raise TypeError for anything but a Registry, such as its path."""
    if not isinstance(registry, Registry):
        raise TypeError(
            f"mirror takes a Registry, not {registry!r:.80}: pass mk.Registry(...), with the folder "
            "or bucket that it is in"
        )


def _check_aliases(aliases: Mapping[str, Alias]) -> None:
    """Raise RegistryError for an alias that MLflow keeps for itself."""
    reserved = [alias for alias in aliases if RESERVED.fullmatch(alias)]
    if reserved:
        raise RegistryError(
            f"MLflow keeps the alias {reserved[0]!r} for itself: give it another name"
        )


def _mirror_versions(registry: Registry, name: str) -> dict[str, str]:
    """The number in MLflow of every version; those that are not there are logged."""
    releases = registry.versions(name)
    known = _known_versions(name)
    numbers = {}
    for release in releases:
        number = known.get(release.digest)
        numbers[release.version] = number or _registered(registry, release)
    return numbers


def _known_versions(name: str) -> dict[str, str]:
    """The numbers of MLflow's versions by the digest of their package; of equal ones the first."""
    import mlflow

    found: dict[str, str] = {}
    versions = mlflow.search_model_versions(filter_string=f"name='{name}'")
    for version in sorted(versions, key=lambda each: int(each.version), reverse=True):
        digest = version.tags.get(f"{TAG}digest")
        if digest is not None:
            found[digest] = str(version.version)
    return found


def _registered(registry: Registry, release: ModelVersion) -> str:
    """The number of a version that is registered now; that of another where several did so at once."""
    from mlflow import MlflowClient

    number = _register(registry, release)
    first = _known_versions(release.name)[release.digest]
    if first != number:
        MlflowClient().delete_model_version(release.name, number)
    return first


def _register(registry: Registry, release: ModelVersion) -> str:
    """Log the package of a version, and register it with its tags in one step."""
    import mlflow

    logged = log_model(registry.fetch(release.name, release.version))
    tags = {
        f"{TAG}version": release.version,
        f"{TAG}digest": release.digest,
        f"{TAG}model_digest": release.model_digest,
    }
    return str(mlflow.register_model(logged.model_uri, release.name, tags=tags).version)


def _mirror_alias(client: Any, release: ModelVersion, number: str, alias: str, now: Alias) -> None:
    """Let an alias of MLflow name a version, unless it does so already."""
    from mlflow.exceptions import MlflowException

    name = release.name
    shown = client.get_registered_model(name).aliases.get(alias)
    tag = f"{TAG}generation.{alias}"
    version = client.get_model_version(name, number)
    if shown is not None and str(shown) == number and version.tags.get(tag) == str(now.generation):
        return
    _check_package(release, number)
    try:
        client.set_registered_model_alias(name, alias, number)
    except MlflowException:  # of two that add an alias at once, MLflow refuses one
        client.set_registered_model_alias(name, alias, number)
    client.set_model_version_tag(name, number, tag, str(now.generation))


def _check_package(release: ModelVersion, number: str) -> None:
    """Raise RegistryError where a version of MLflow is another package than its tag says."""
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    with TemporaryDirectory() as folder:
        uri = f"models:/{release.name}/{number}"
        root = Path(download_artifacts(artifact_uri=uri, dst_path=folder))
        told = Model.load(str(root)).flavors["python_function"].get("data")
        digest = inspect(root / str(told)).digest
    if digest != release.digest:
        raise RegistryError(
            f"version {number} of {release.name} in MLflow has the digest {release.digest} as its "
            f"tag, and is the package {digest}: somebody else wrote it; delete that version, and "
            "mirror again"
        )
