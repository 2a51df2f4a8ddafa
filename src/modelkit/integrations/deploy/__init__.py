"""Files by which other programs run a package: the templates of this folder, filled for one package.

A template is a file as its platform reads it, with holes such as `@name@`. A value that could end a
quoted string or a line is refused, so a template may put a hole wherever a text in quotes may stand.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from modelkit.errors import UsageError, without_credentials
from modelkit.integrations.grafana import Objectives, alert_rules, dashboard

if TYPE_CHECKING:
    from modelkit.model.manifest import Manifest
    from modelkit.package.review import Review

HOLE = re.compile(r"@([a-z]+)@")
PLAIN = re.compile(r"[\w.:/+@=,?&%~-]*", re.ASCII)
PART = "[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?:[\w.-]+(?::\d+)?/)?{PART}(?:/{PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?",
    re.ASCII,
)
RUNTIME = re.compile(r"^onnxruntime(?:-gpu)?==(.*)$", re.MULTILINE)
PORT = 8080  # what clouds ask by default


@final
@dataclass(frozen=True)
class Platform:
    """What one platform reads.

    Attributes:
        about: what is written, for the help of the command.
        templates: the files, in the folder that has the name of the platform; of those in its folder
            `registry`, each takes the place of another one where the package comes from a bucket.
        checks: commands that say in the folder whether its files are sound.
        builds: whether an image is built from them, so they need the package beside them.
    """

    about: str
    templates: tuple[str, ...]
    checks: tuple[str, ...]
    builds: bool = False


PLATFORMS = {
    "docker": Platform(
        "what builds an image, and runs it by compose and Swarm",
        ("Dockerfile", ".dockerignore", "compose.yaml", "stack.yaml", "prometheus.yml"),
        (
            "hadolint Dockerfile",
            "docker compose config --quiet",
            "docker stack config --compose-file stack.yaml",
            "promtool check config prometheus.yml",
        ),
        builds=True,
    ),
    "kubernetes": Platform(
        "a base of Kustomize, with KEDA, KServe and Seldon beside it",
        (
            *("deployment.yaml", "service.yaml", "hpa.yaml", "pdb.yaml", "networkpolicy.yaml"),
            *("kustomization.yaml", "tokens/kustomization.yaml", "keda/kustomization.yaml"),
            *("keda/scaledobject.yaml", "kserve.yaml", "seldon.yaml"),
        ),
        (
            "kubectl kustomize . | kubernetes-validate --strict /dev/stdin",
            "kubectl apply --dry-run=server --kustomize .",
        ),
    ),
}


def exported(kind: str, package: Path, image: str = "", registry: str = "") -> dict[str, bytes]:
    """The files of a platform for a package, by their paths.

    Args:
        kind: a name of PLATFORMS.
        package: the path of the package.
        image: the name of the image; where it is empty, it is made of the name and the version of the package.
        registry: where the model is fetched from at the start; where it is empty, the image has the package.

    Raises:
        UsageError: if a value cannot stand in these files, the registry is a URL with credentials, or
            the image needs what is not installed here.
        PackageError: if the package cannot be read.
    """
    from importlib import resources

    from modelkit.package.review import review

    bare = without_credentials(registry)
    if bare != registry:
        raise UsageError(
            f"the registry {bare} has a user, a password or a query, which these files would show: leave "
            "them out, and give credentials in the environment where the image runs"
        )
    found = review(package)
    holes = holes_of(found.manifest, image, registry)
    folder = resources.files(__name__).joinpath(kind)
    files = {}
    for name in PLATFORMS[kind].templates:
        remote = folder.joinpath("registry", name)
        template = remote if _is_bucket(registry) and remote.is_file() else folder.joinpath(name)
        files[name] = rendered(template.read_text(encoding="utf-8"), holes).encode()
    return files | _context(found, package, registry) if PLATFORMS[kind].builds else files


def _is_bucket(registry: str) -> bool:
    return "://" in registry


def holes_of(manifest: Manifest, image: str, registry: str) -> dict[str, str]:
    """What fills the holes of templates."""
    label = _label(manifest.name)
    tag = re.sub(r"[^\w.-]", "-", manifest.version)[:63].strip("._-")
    image = image or f"{label}:{tag}"
    if IMAGE.fullmatch(image) is None:
        raise UsageError(
            f"an image has a name such as registry.example/team/{label}:{tag}; got {image!r}"
        )
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "label": label,  # a name as DNS has it
        "image": image,
        "registry": registry,
        "package": manifest.name if registry else "/srv/model",
        "python": ".".join(platform.python_version_tuple()[:2]),
        "port": str(PORT),
    }


def rendered(text: str, holes: Mapping[str, str]) -> str:
    """A template whose holes are filled.

    Raises UsageError for a value that could break the file.
    """

    def fill(hole: re.Match[str]) -> str:
        name, value = hole[1], holes[hole[1]]
        if PLAIN.fullmatch(value) is None:
            raise UsageError(
                f"the {name} {value!r} cannot stand in a file of settings: use letters, digits and "
                "'.:/+@=,?&%~-'"
            )
        return value

    return HOLE.sub(fill, text)


def _label(name: str) -> str:
    """A name as Services have it: a package's may have dots, and begin with a digit."""
    letter = name if name[0].isalpha() else f"m-{name}"
    return re.sub(r"[^a-z0-9-]", "-", letter)[:63].strip("-")


def _context(found: Review, package: Path, registry: str) -> dict[str, bytes]:
    """What an image is built from, beside templates."""
    from modelkit.package.signing import signatures_of, write_signatures

    files = {
        **requirements(pinned(libraries(found, registry))),
        "dashboard.json": dashboard().encode(),
        "alerts.yml": alert_rules(Objectives()).encode(),
    }
    if not registry:
        name = f"{found.manifest.name}.mk"
        files[name] = package.read_bytes()
        signatures = signatures_of(package, found.manifest.digest)
        if signatures:
            files[f"{name}.sig"] = write_signatures(signatures)
    return files


def libraries(found: Review, registry: str) -> list[str]:
    """The libraries that serve a package.

    Raises PackageError where a pickled estimator needs other versions than the ones installed here.
    """
    from modelkit.package.trust import check_requires, installed

    manifest = found.manifest
    check_requires(manifest.requires)
    attached = {attachment.name for attachment in manifest.attachments}
    more = {
        "tokenizers": manifest.runtime == "encoder",
        "scipy": bool(attached & {"profile", "background"}),
        "onnx": "background" in attached,
        "cryptography": "unseal" in found.needs,
        "obstore": _is_bucket(registry),
    }
    runtime = next(iter(installed(["onnxruntime-gpu"])), "onnxruntime")
    always = ["modelkit-sdk", "numpy", "orjson", "prometheus-client", "uvicorn"]
    return [
        *always,
        runtime,
        *manifest.requires,
        *(name for name, wanted in more.items() if wanted),
    ]


def requirements(pins: str) -> dict[str, bytes]:
    """The files of requirements, for a CPU and for a GPU.

    Releases of onnxruntime-gpu come later, and not all of them do; its extras name its CUDA.
    """
    gpu = r"onnxruntime-gpu[cuda,cudnn]<=\1,!=1.26.0"
    runtimes = {"requirements.txt": r"onnxruntime==\1", "requirements-gpu.txt": gpu}
    return {name: RUNTIME.sub(line, pins).encode() for name, line in runtimes.items()}


def pinned(names: list[str]) -> str:
    """Libraries and all that they need, a line each, in the versions that are installed here.

    Raises UsageError for what is not installed.
    """
    from importlib import metadata

    from modelkit.package.trust import installed

    missing = sorted({*names} - {*installed(names)})
    if missing:
        raise UsageError(
            "an image gets the versions that are installed here, and these are not: "
            f"pip install {' '.join(missing)}"
        )
    found: dict[str, str] = {}
    while new := installed({_normal(name) for name in names} - {*found}):
        found |= new
        needs = [line for name in new for line in metadata.requires(name) or ()]
        names = [line for line in needs if "extra ==" not in line]
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found))


def _normal(requirement: str) -> str:
    """The name in a requirement, in the one form that all spellings share."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None  # for the type checker: each begins with one
    return re.sub("[-_.]+", "-", name[0]).lower()
