"""The manifest, modelkit.json: what a package says about itself, as frozen values and strict JSON.

The sha256 of its exact bytes is the digest of the package, because it lists the hash of every other
member. There is no field for code, import paths, session options or trust, and none is accepted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import wrap
from typing import Any

from modelkit._internal import fields
from modelkit._internal.json import parse_json
from modelkit.errors import ManifestError, UsageError
from modelkit.model.privacy import PrivacyClaim
from modelkit.model.structure import Structure
from modelkit.report import html
from modelkit.signature.signature import Signature

# Readers refuse fields that they do not know, so every new field raises it; see docs/reference/packaging.md.
FORMAT = 1
MAX_MANIFEST_BYTES = 1 << 20
MOST_LINES, MOST_COLUMNS = 12, 100  # of a manifest in print
MOST_LETTERS = 64  # of a name or a version
MOST_STATED = 200  # of a licence, and of an owner
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VERSION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
# Libraries and their releases end up in a command line to copy.
LIBRARY_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RELEASE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63}")
WEIGHTS_REF = "model.onnx.data"  # the name by which a graph refers to its external weights
RUNTIMES = ("onnx", "joblib", "encoder", "texts")
MEASURED = "measured"  # the entry of the options that decides no answer
MAX_SIZES, MAX_BATCH_ROWS = 16, 4096  # of the batches that a model is proven with, and warmed up


@dataclass(frozen=True)
class Parity:
    """How the packaged graph was compared with its source when it was saved.

    Differences are the largest over all outputs that were compared.

    Attributes:
        against: the source; None for a graph that was saved without one.
        rows: the number of rows of the example that were compared.
        missing_rows: the number of rows compared with missing values in them.
        batch_sizes: the numbers of rows in which the same rows were run.
        rtol, atol: the tolerance: `rtol + atol`, relative to `max(1, |source|)`.
        max_abs: the largest absolute difference.
        max_rel: the largest difference relative to `max(1, |source|)`.
        label_flips: the number of labels that differ where the source's own scores are not tied.
        ties: the number of labels that differ where they are: equal but for a few units in the last
            place, or within the tolerance where both compute in float32.
        batch_max_abs: the largest difference of a row between two batch sizes.
        batch_invariant: whether that difference stayed within tolerance.
        threshold_rows: the number of rows compared with a value at or beside a threshold of the
            graph's trees.
        large_rows: the number of rows compared with numbers 10,000 times the example's.
        large_max_rel, large_flips: their differences, which are recorded and not refused.
        text_rows: the number of rows with unusual characters among the model's own terms.
        labels: whether any output is one of labels.

    Raises ManifestError for batch sizes and tolerances out of bounds.
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
    labels: bool = dataclasses.field(default=True, compare=False)

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if len(sizes) > MAX_SIZES or not all(0 < size <= MAX_BATCH_ROWS for size in sizes):
            raise ManifestError(
                f"batch_sizes are at most {MAX_SIZES} numbers of rows from 1 to {MAX_BATCH_ROWS}, "
                f"not {sizes[:MAX_SIZES]}"
            )
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        if not all(0 <= value <= 1 for value in tolerances.values()):
            raise ManifestError(f"tolerances are from 0 to 1, not {tolerances}")

    @property
    def batch_measured(self) -> bool:
        """Whether rows were run in several batch sizes; not one row, nor where the graph fixes their number."""
        return len(self.batch_sizes) > 1

    def __str__(self) -> str:
        if self.against is None:
            return f"no source to compare with; {self._invariance()}"
        flips = f", {self.label_flips} labels flipped" if self.labels else ""
        ties = f", {self.ties} at ties" if self.ties else ""
        return (
            f"max rel diff {self.max_rel:.2g} (allowed {self.rtol:g}){flips}{ties}, in "
            f"{self._compared()} against {self.against}; {self._invariance()}{self._far_away()}"
        )

    def _compared(self) -> str:
        kinds = {
            "with gaps": self.missing_rows,
            "at thresholds": self.threshold_rows,
            "of strange texts": self.text_rows,
        }
        more = ", ".join(f"{rows} {kind}" for kind, rows in kinds.items() if rows)
        return f"{self.rows} rows" + (f" and {more}" if more else "")

    def _far_away(self) -> str:
        agrees = not self.large_flips and self.large_max_rel <= self.rtol + self.atol
        if not self.large_rows or agrees:
            return ""
        flips = f", {self.large_flips} of {self.large_rows} labels flipped" if self.labels else ""
        return f"; 10,000 times beyond the example they DIFFER: max rel diff {self.large_max_rel:.2g}{flips}"

    def _invariance(self) -> str:
        tried = len(self.batch_sizes)
        if not self.batch_measured:
            return (
                "whether rows depend on their batch was not measured, which takes an example of "
                "two rows or more and a graph for any number of rows"
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
    """A member that is not part of the model, under a name of its own."""

    name: str
    path: str
    media_type: str


@dataclass(frozen=True)
class Manifest:
    """What a package says about itself.

    Attributes:
        format: the version of the layout of the manifest.
        name, version: as given to `save`.
        signature: inputs, outputs, columns and classes of the model.
        opsets: the versions of the ONNX operator sets by domain.
        row_bytes: the bytes of tensors that one row occupies at once in the graph; 0 if unknown.
        parity: what `save` measured.
        versions: the libraries that trained the model and made the package.
        files: every other member.
        attachments: the members that are not part of the model.
        metadata: JSON values of the author; nothing here reads them.
        privacy: what was claimed of the training; None where nothing was.
        runtime: "onnx" for a graph, "joblib" for a pickled estimator, "encoder" for a text encoder
            or a reranker around its graph, "texts" for a graph that takes counts of the terms of texts.
        requires: for "joblib", the exact version of each library that the estimator needs.
        options: JSON values that the runtime reads, such as the pooling of an encoder; what was
            measured is under "measured".
        structures: by output, the sum behind it, where explanations start from.
        licence: on what terms the model may be used, as the author states: an expression of SPDX, or a
            text; empty where none is stated.
        owners: who is responsible for the model: persons or teams.
        about: what the runtime makes of its options, in words for people.
        digest: the sha256 of the manifest in hex, which identifies the whole package.
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
    privacy: PrivacyClaim | None = None
    runtime: str = "onnx"
    requires: dict[str, str] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    structures: dict[str, Structure] = dataclasses.field(default_factory=dict)
    licence: str = ""
    owners: tuple[str, ...] = ()
    about: str = dataclasses.field(default="", compare=False)
    digest: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        outputs = self.signature.outputs
        labels = any(spec.name == "label" or "float" not in spec.dtype for spec in outputs)
        object.__setattr__(self, "parity", replace(self.parity, labels=labels))

    @cached_property
    def model_digest(self) -> str:
        """The sha256, in hex, of all that decides what the model answers.

        That is the signature, the files of the model (graph, weights, tokenizer, terms or pickle),
        the runtime and its options without what was measured, and the required versions of a joblib
        package. Name, version, licence, owners, a claim of privacy, metadata and attachments do not
        count, so `attach` never changes it, and an Evaluation stays one of a model that changes hands.
        Fields at their defaults are left out: one that a later format adds changes no digest.
        """
        attached = {attachment.path for attachment in self.attachments}
        options = {name: value for name, value in self.options.items() if name != MEASURED}
        parts = {
            "signature": self.signature,
            "files": tuple(member for member in self.files if member.path not in attached),
            "runtime": self.runtime,
            "options": options,
            "requires": self.requires,
        }
        plain = {name: fields.write_object(part, defaults=False) for name, part in parts.items()}
        return hashlib.sha256(_dumps(plain)).hexdigest()

    def to_json(self) -> bytes:
        """The manifest as UTF-8 JSON with sorted keys. Equal manifests give equal bytes."""
        return _dumps(fields.write_object(self)) + b"\n"

    @staticmethod
    def from_json(raw: bytes) -> Manifest:
        """Parse and check a manifest. Raises ManifestError, which names the field at fault."""
        plain = _parse_manifest(raw)
        try:
            for name, value in plain.items():
                fields.read_json(value, f"modelkit.json: {name}")
            manifest = fields.read_object(Manifest, plain, "modelkit.json")
            check_name(manifest.name, manifest.version)
            check_stated(manifest.licence, manifest.owners)
        except ValueError as error:
            raise ManifestError(str(error)) from None
        _check_runtime(manifest.runtime, manifest.requires)
        return replace(manifest, digest=hashlib.sha256(raw).hexdigest())

    def facts(self) -> list[tuple[str, str]]:
        """Name and value of each fact about the package as a whole, for people."""
        facts = {
            "digest": f"sha256:{self.digest}",
            "model": f"sha256:{self.model_digest}",
            "runtime": self.runtime,
            "licence": self.licence,
            "owners": html.some(self.owners),
            "requires": _with_versions(dict(sorted(self.requires.items()))),
            "parity": str(self.parity),
            "refuses rows": "; ".join(self.signature.refusals),
            "privacy": str(self.privacy or ""),
            self.runtime: self.about,
            "opsets": _with_versions({k or "ai.onnx": v for k, v in sorted(self.opsets.items())}),
            "made with": _with_versions(self.versions),
            "classes": html.some(self.signature.classes or ()),
            "ignored": html.some(self.signature.ignored),
        }
        if self.metadata:
            facts["metadata"] = json.dumps(self.metadata, ensure_ascii=False, sort_keys=True)
        files = [("file", line) for line in self._file_lines()]
        return [fact for fact in facts.items() if fact[1]] + files

    def __str__(self) -> str:
        facts = [(f"{self.name} {self.version}", self.signature), *self.facts()]
        lines: list[str] = []
        for name, value in facts[:MOST_LINES]:
            text = html.printable(f"{name}: {value}")
            most = None if name == "refuses rows" else 1  # callers have to know the whole reason
            lines += wrap(text, MOST_COLUMNS, max_lines=most, placeholder="...")
        return "\n  ".join(lines)

    __repr__ = fields.brief

    def _file_lines(self) -> list[str]:
        named = {a.path: f", attachment {a.name!r} ({a.media_type})" for a in self.attachments}
        return [
            f"{each.path}, {each.size:,} bytes{named.get(each.path, '')}, sha256:{each.sha256}"
            for each in self.files
        ]

    def _repr_html_(self) -> str:
        header = ("", "tensor", "dtype", "shape", "columns")
        return html.card(
            f"{self.name} {self.version}", self.facts(), header, self.signature.table()
        )


def _with_versions(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _dumps(plain: Any) -> bytes:
    return json.dumps(plain, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False).encode()


def _parse_manifest(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"modelkit.json has {len(raw)} bytes; at most {MAX_MANIFEST_BYTES} are read"
        )
    try:
        plain = parse_json(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"modelkit.json is not strict JSON: {error}") from None
    if not isinstance(plain, dict):
        raise ManifestError(f"modelkit.json must be an object, got {plain!r:.80}")
    version = plain.get("format")
    if isinstance(version, int) and version != FORMAT:
        raise ManifestError(
            f"the package has format {version}, and this modelkit reads format {FORMAT}: use the one "
            "that wrote it, or a newer one"
        )
    return plain


def check_name(name: str, version: str) -> None:
    """Raise UsageError for a name or a version that a package may not have, TypeError for no str."""
    for what, value, pattern, letters in (
        ("name", name, NAME_PATTERN, "lower-case letters, digits and '._-'"),
        ("version", version, VERSION_PATTERN, "letters, digits and '.+_-'"),
    ):
        if not isinstance(value, str):
            raise TypeError(f"{what} must be a string: write {what}={str(value)!r}, not {value!r}")
        if not pattern.fullmatch(value):
            plain = re.sub(r"[^a-z0-9._-]+", "-", value.lower()).strip("._-")
            raise UsageError(
                f"{what} {value!r} cannot be a part of a path and of a URL: use {letters}, "
                f"at most {MOST_LETTERS} in all, such as {what}={plain[:MOST_LETTERS] or 'model-1'!r}"
            )


def check_stated(licence: str, owners: Sequence[str]) -> None:
    """Raise UsageError unless a licence, which may be empty, and owners are lines of text, each of them."""
    if isinstance(owners, str) or not isinstance(owners, Sequence):
        raise UsageError(f"owners is a list of texts, such as ['imaging'], not {owners!r:.80}")
    for text in owners if licence == "" else (licence, *owners):
        line = isinstance(text, str) and text.isprintable() and text.strip() == text
        if not (line and 0 < len(text) <= MOST_STATED):
            raise UsageError(
                f"licence and owners are lines of 1 to {MOST_STATED} characters that can be printed, "
                f"without spaces around them, not {text!r:.80}"
            )


def _check_runtime(runtime: str, requires: dict[str, str]) -> None:
    if runtime not in RUNTIMES:
        raise ManifestError(f"runtime {runtime!r} is not one of {list(RUNTIMES)}")
    if requires and runtime != "joblib":
        raise ManifestError(
            f"requires is for joblib packages, and this one has the runtime {runtime!r}"
        )
    for library, version in requires.items():
        if not LIBRARY_PATTERN.fullmatch(library) or not RELEASE_PATTERN.fullmatch(version):
            raise ManifestError(
                f"requires names {library!r} {version!r}, which is not a library and a version"
            )


def check_metadata(value: object) -> dict[str, Any]:
    """A dict of metadata. Raises UsageError for values that JSON would change or cannot hold.

    Raises TypeError for anything but a dict.
    """
    if not isinstance(value, dict):
        raise TypeError(f"metadata is a dict of JSON values, not {value!r:.80}")
    try:
        checked: Any = fields.read_json(value, "metadata")
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        size = len(_dumps(checked))
    except ValueError:
        raise UsageError("metadata holds NaN or an infinity, which JSON cannot hold") from None
    if size > MAX_MANIFEST_BYTES:
        raise UsageError(
            f"metadata takes {size:,} bytes, of at most {MAX_MANIFEST_BYTES:,}: keep it in a file of yours"
        )
    return checked  # type: ignore[no-any-return]  # a dict, as the value is
