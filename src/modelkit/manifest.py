"""modelkit.json: what a package says about itself, as frozen values and as strict JSON.

The sha256 of its exact bytes is the identity of the package, since it lists the hash of every other
member. There is no field for code, import paths, session options or trust, and none is accepted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelkit import html, record
from modelkit.errors import ManifestError, SignatureError
from modelkit.recipe import Recipe
from modelkit.signature import Signature
from modelkit.spec import Column, TensorSpec
from modelkit.texts.vectorizer import Texts, Vectorizer

FORMAT = 5  # raise it with every new field, for readers refuse fields they do not know; see docs/packaging.md
MAX_BYTES = 1 << 20
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
LIBRARY = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
)  # it and RELEASE end up in a command line to copy
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63}")
RUNTIMES = ("onnx", "joblib")
MAX_SIZES, MAX_ROWS = 16, 4096  # of the batches that a model is proven with, and that `warmup` runs


@dataclass(frozen=True)
class Parity:
    """How the packaged graph was compared with its source when it was saved.

    `against` is the source, None for a graph that came without one. Differences are the largest
    over every compared output, `max_rel` relative to max(1, |source|). `label_flips` counts labels
    that differ although the source's own scores are no tie; `ties` those that differ where they
    are: equal but for a few units in the last place, or within the tolerance where both compute in
    float32. `batch_max_abs` is the largest difference of a row between batch sizes, and
    `batch_invariant` whether it stayed within tolerance. `threshold_rows` were compared with values
    equal to a threshold of the graph's trees, or next to one. `large_rows` were compared with
    numbers 10,000 times those of the example; their differences, `large_max_rel` and `large_flips`,
    are recorded and not refused. `text_rows` held texts of the model's own terms with unusual
    characters in them.
    """

    against: str | None
    rows: int
    missing_rows: int
    batch_sizes: tuple[int, ...]
    rtol: float
    atol: float
    max_abs: float
    max_rel: float
    label_flips: int
    ties: int
    batch_max_abs: float
    batch_invariant: bool
    threshold_rows: int = 0
    large_rows: int = 0
    large_max_rel: float = 0.0
    large_flips: int = 0
    text_rows: int = 0

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if len(sizes) > MAX_SIZES or not all(0 < size <= MAX_ROWS for size in sizes):
            raise ManifestError(
                f"batch_sizes are at most {MAX_SIZES} numbers of rows from 1 to {MAX_ROWS}, not "
                f"{sizes[:MAX_SIZES]}"
            )
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        if not all(0 <= value <= 1 for value in tolerances.values()):
            raise ManifestError(f"tolerances are from 0 to 1, not {tolerances}")

    @property
    def batch_measured(self) -> bool:
        """Whether rows were run in several batch sizes: not so where there was one row, or where batches are fixed."""
        return len(self.batch_sizes) > 1

    def __str__(self) -> str:
        if self.against is None:
            return f"no source to compare with; {self._invariance()}"
        asked = {
            "with gaps": self.missing_rows,
            "at thresholds": self.threshold_rows,
            "of strange texts": self.text_rows,
        }
        more = ", ".join(f"{rows} {what}" for what, rows in asked.items() if rows)
        text = (
            f"{self.rows} rows{' and ' + more if more else ''} against {self.against}: max rel "
            "diff "
            f"{self.max_rel:.2g} (allowed {self.rtol:g}), {self.label_flips} labels flipped"
            f"{f', {self.ties} others at ties' if self.ties else ''}; {self._invariance()}"
        )
        if self.large_rows and (self.large_flips or self.large_max_rel > self.rtol + self.atol):
            text += (
                "; 10,000 times beyond the example they DIFFER: max rel diff "
                f"{self.large_max_rel:.2g}, "
                f"{self.large_flips} of {self.large_rows} labels flipped"
            )
        return text

    def _invariance(self) -> str:
        tried = len(self.batch_sizes)
        if not self.batch_measured:
            return (
                "whether rows depend on their batch was not measured, which takes an example of "
                "two rows or more and a "
                "graph for any number of rows"
            )
        if self.batch_invariant:
            return f"rows agree in {tried} batch sizes (diff {self.batch_max_abs:.2g})"
        within = self.batch_max_abs <= self.rtol + self.atol
        how = "labels" if within else f"diff {self.batch_max_abs:.2g}"
        return f"rows DIFFER in {tried} batch sizes ({how})"


@dataclass(frozen=True)
class Member:
    """One file of a package: its path, size in bytes and sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Attachment:
    """A member that rides along under a name of its own."""

    name: str
    path: str
    media_type: str


@dataclass(frozen=True)
class Manifest:
    """What a package says about itself.

    `opsets` are the ONNX operator sets by domain, `row_bytes` the bytes of tensors that one row
    occupies at once inside the graph (0 if unknown), `versions` the libraries that trained the
    model and made the package. `metadata` is whatever JSON the author added; nothing here reads it.
    `runtime` is "onnx" for a graph, "joblib" for a pickled estimator, and `requires` the exact
    version of each library that the latter needs. `encoder` is what a text encoder does around its
    graph, `texts` what is done to texts before a graph that takes counts of their terms.
    """

    format: int
    name: str
    version: str
    signature: Signature
    opsets: dict[str, int]
    row_bytes: int
    parity: Parity
    versions: dict[str, str]
    files: tuple[Member, ...]
    attachments: tuple[Attachment, ...] = ()
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    runtime: str = "onnx"
    requires: dict[str, str] = dataclasses.field(default_factory=dict)
    encoder: Recipe | None = None
    texts: Texts | None = None
    digest: str = dataclasses.field(default="", compare=False)

    def to_json(self) -> bytes:
        """The manifest as UTF-8 JSON: sorted keys, floats that round-trip; equal manifests give equal bytes."""
        return (
            json.dumps(
                _plain(self), sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False
            ).encode()
            + b"\n"
        )

    @staticmethod
    def from_json(raw: bytes) -> Manifest:
        """Parse and check a manifest. Raises ManifestError, naming the field."""
        if len(raw) > MAX_BYTES:
            raise ManifestError(f"modelkit.json has {len(raw)} bytes; at most {MAX_BYTES} are read")
        try:
            plain = record.parse(raw.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"modelkit.json is not strict JSON: {error}") from None
        if (
            isinstance(plain, dict)
            and isinstance(plain.get("format"), int)
            and plain["format"] > FORMAT
        ):
            raise ManifestError(
                f"the package has format {plain['format']}, this modelkit reads up to {FORMAT}: "
                "use a newer one"
            )
        manifest: Manifest = _build(Manifest, plain, "modelkit.json")
        if manifest.format < 1:
            raise ManifestError(f"the package has format {manifest.format}; the first is 1")
        check_name(manifest.name, manifest.version)
        _check_runtime(manifest.runtime, manifest.requires)
        _check_encoder(manifest.encoder, manifest)
        _check_texts(manifest.texts, manifest)
        return dataclasses.replace(manifest, digest=hashlib.sha256(raw).hexdigest())

    def facts(self) -> list[tuple[str, str]]:
        """What there is to say about a package as a whole, as name and value, for people."""
        facts = {
            "digest": f"sha256:{self.digest}",
            "runtime": self.runtime,
            "requires": ", ".join(
                f"{library} {version}" for library, version in sorted(self.requires.items())
            ),
            "parity": str(self.parity),
            "encoder": str(self.encoder or ""),
            "texts": str(self.texts or ""),
            "opsets": ", ".join(
                f"{domain or 'ai.onnx'} {v}" for domain, v in sorted(self.opsets.items())
            ),
            "made with": ", ".join(
                f"{library} {version}" for library, version in self.versions.items()
            ),
            "classes": html.some(self.signature.classes or ()),
            "metadata": json.dumps(self.metadata, ensure_ascii=False, sort_keys=True)
            if self.metadata
            else "",
        }
        named = {a.path: f", attachment {a.name!r} ({a.media_type})" for a in self.attachments}
        files = [(m, named.get(m.path, "")) for m in self.files]
        lines = [
            ("file", f"{m.path}, {m.size:,} bytes, sha256:{m.sha256}{about}") for m, about in files
        ]
        return [(name, value) for name, value in facts.items() if value] + lines

    def _repr_html_(self) -> str:
        header = ("", "tensor", "dtype", "shape", "columns")
        return html.card(
            f"{self.name} {self.version}", self.facts(), header, self.signature.table()
        )


def _fields(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    return {
        field.name: field
        for field in dataclasses.fields(cls)
        if field.init and field.name != "digest"
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {name: _plain(getattr(value, name)) for name in _fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def check_name(name: str, version: str) -> None:
    """Raise ManifestError unless a package may be called so."""
    for what, value, pattern in (("name", name, NAME), ("version", version, VERSION)):
        if not isinstance(value, str):
            raise ManifestError(f"{what} must be a string, such as {str(value)!r}; got {value!r}")
        if not pattern.fullmatch(value):
            raise ManifestError(f"{what} {value!r} must match {pattern.pattern}")


def _check_runtime(runtime: str, requires: dict[str, str]) -> None:
    if runtime not in RUNTIMES:
        raise ManifestError(f"runtime {runtime!r} is not one of {list(RUNTIMES)}")
    if requires and runtime != "joblib":
        raise ManifestError(
            f"requires is for joblib packages, and this one has the runtime {runtime!r}"
        )
    for library, version in requires.items():
        if not LIBRARY.fullmatch(library) or not RELEASE.fullmatch(version):
            raise ManifestError(
                f"requires names {library!r} {version!r}, which is no library and version"
            )


def _check_encoder(recipe: Recipe | None, manifest: Manifest) -> None:
    if recipe is not None and (
        manifest.runtime != "onnx" or manifest.signature != recipe.signature
    ):
        raise ManifestError(f"a text encoder runs a graph and has the signature {recipe.signature}")


def _check_texts(texts: Texts | None, manifest: Manifest) -> None:
    if texts is None:
        return
    if manifest.runtime != "onnx" or manifest.encoder is not None:
        raise ManifestError(
            "terms of texts are counted for a graph, and for none that encodes texts itself"
        )
    try:
        texts.graph(manifest.signature)
    except SignatureError as error:
        raise ManifestError(f"modelkit.json: texts: {error}") from None


def _build(cls: Any, plain: object, where: str) -> Any:
    if not isinstance(plain, dict):
        raise ManifestError(f"{where} must be an object, got {type(plain).__name__}")
    fields = _fields(cls)
    unknown = sorted(set(plain) - set(fields))
    missing = dataclasses.MISSING
    required = [
        name
        for name, field in fields.items()
        if field.default is missing and field.default_factory is missing
    ]
    absent = [name for name in required if name not in plain]
    if unknown or absent:
        raise ManifestError(f"{where}: unknown fields {unknown}, missing fields {absent}")
    values = {
        name: _READ[str(fields[name].type)](value, f"{where}: {name}")
        for name, value in plain.items()
    }
    try:
        return cls(**values)
    except SignatureError as error:
        raise ManifestError(f"{where}: {error}") from None


_Reader = Callable[[object, str], Any]


def _of(*kinds: type) -> _Reader:
    def read(value: object, where: str) -> object:
        if type(value) not in kinds:
            raise ManifestError(
                f"{where} must be {' or '.join(k.__name__ for k in kinds)}, got {value!r:.80}"
            )
        if isinstance(value, int) and abs(value) >= 1 << 63:
            raise ManifestError(f"{where} is beyond 64 bits")
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            raise ManifestError(f"{where} holds a lone surrogate")
        return value

    return read


def _tuple(item: _Reader) -> _Reader:
    def read(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ManifestError(f"{where} must be a list, got {value!r:.80}")
        return tuple(item(entry, f"{where}[{i}]") for i, entry in enumerate(value))

    return read


def _map(item: _Reader) -> _Reader:
    def read(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ManifestError(f"{where} must be an object, got {value!r:.80}")
        return {key: item(entry, f"{where}.{key}") for key, entry in value.items()}

    return read


def _optional(item: _Reader) -> _Reader:
    return lambda value, where: None if value is None else item(value, where)


def _json(value: object, where: str, depth: int = 0) -> object:
    """Any JSON value, nested at most 16 deep, whose strings are valid text and whose integers fit 64 bits."""
    if depth > 16:
        raise ManifestError(f"{where} nests deeper than 16 levels")
    if isinstance(value, dict):
        return {
            _of(str)(key, where): _json(item, f"{where}.{key}", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_json(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    return value if value is None else _of(str, int, float, bool)(value, where)


def check_metadata(value: object) -> dict[str, Any]:
    """Metadata as a manifest can hold it.

    Raises ManifestError for what JSON would not give back as it is.
    """
    if not isinstance(value, dict):
        raise ManifestError(f"metadata must be a dict, got {type(value).__name__}")
    checked = _json(value, "metadata")
    try:
        json.dumps(checked, allow_nan=False)
    except ValueError:
        raise ManifestError(
            "metadata holds NaN or an infinity, which JSON has no form for"
        ) from None
    return dict(value)


def _object(cls: type) -> _Reader:
    return lambda value, where: _build(cls, value, where)


# How each field annotation above, and those of the signature classes, is read back.
_READ: dict[str, _Reader] = {
    "str": _of(str),
    "int": _of(int),
    "bool": _of(bool),
    "float": _of(float, int),
    "str | None": _optional(_of(str)),
    "tuple[int, ...]": _tuple(_of(int)),
    "tuple[int | str, ...]": _tuple(_of(int, str)),
    "tuple[str | float, ...] | None": _optional(_tuple(_of(str, int, float))),
    "tuple[Any, ...] | None": _optional(_tuple(_of(str, int, float, bool))),
    "dict[str, int]": _map(_of(int)),
    "dict[str, str]": _map(_of(str)),
    "dict[str, Any]": _map(_json),
    "tuple[Column, ...]": _tuple(_object(Column)),
    "tuple[TensorSpec, ...]": _tuple(_object(TensorSpec)),
    "tuple[Member, ...]": _tuple(_object(Member)),
    "tuple[Attachment, ...]": _tuple(_object(Attachment)),
    "Signature": _object(Signature),
    "Recipe | None": _optional(_object(Recipe)),
    "Texts | None": _optional(_object(Texts)),
    "tuple[Vectorizer, ...]": _tuple(_object(Vectorizer)),
    "tuple[str, ...]": _tuple(_of(str)),
    "float | None": _optional(_of(float, int)),
    "Parity": _object(Parity),
}
