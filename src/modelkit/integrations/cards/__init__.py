"""Cards of a model for people and for inventories, from what its package holds.

    from modelkit.integrations import cards

    Path("README.md").write_text(cards.model_card("churn.mk"), encoding="utf-8")
    Path("churn.cdx.json").write_text(cards.bill_of_materials("churn.mk"))

The two files of this folder have the layout, with holes such as `@name@`. A model card is laid out as
Hugging Face's, a bill of materials is JSON of CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple

from modelkit.lifecycle.evaluation.evaluation import EVALUATION_NAME, Evaluation
from modelkit.lifecycle.evaluation.figures import MetricFigure, figure_text
from modelkit.model.manifest import Manifest
from modelkit.package import container
from modelkit.package.contents import is_sealed
from modelkit.package.load import attachments
from modelkit.package.sealing import unsealed
from modelkit.package.signing import signatures_of
from modelkit.package.source import Openable, check_hashes, open_bytes, read_verified
from modelkit.report.html import printable
from modelkit.runtimes.packaged import Packaged

FOLDER = resources.files(__name__)
HOLE = re.compile("@([a-z0-9_ ]+)@")
QUOTED_HOLE = re.compile(f'"{HOLE.pattern}"')
NOT_STATED = "not stated"
NOT_MEASURED = "not measured: the package lacks an Evaluation"
NOTHING_FOUND = "none found by an Evaluation, which proves nothing"
# Licences of SPDX; the Hub of Hugging Face knows the first ones too, in lower case.
ON_HUB = (
    "Apache-2.0 MIT ISC Zlib Unlicense NCSA PostgreSQL WTFPL MS-PL AFL-3.0 Artistic-2.0 BSL-1.0 "
    "BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear MPL-2.0 OSL-3.0 OFL-1.1 ECL-2.0 EPL-1.0 EPL-2.0 "
    "EUPL-1.1 EUPL-1.2 LPPL-1.3c etalab-2.0 CC0-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 "
    "CC-BY-SA-3.0 CC-BY-SA-4.0 CC-BY-NC-2.0 CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-ND-4.0 CC-BY-NC-ND-3.0 "
    "CC-BY-NC-ND-4.0 CC-BY-NC-SA-2.0 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CDLA-Sharing-1.0 "
    "CDLA-Permissive-1.0 CDLA-Permissive-2.0"
)
OTHERS = (
    "0BSD AGPL-3.0-only AGPL-3.0-or-later BUSL-1.1 C-UDA-1.0 GPL-2.0-only GPL-2.0-or-later "
    "GPL-3.0-only GPL-3.0-or-later LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later "
    "MIT-0 O-UDA-1.0 ODC-By-1.0 ODbL-1.0 PDDL-1.0"
)
LICENCES = {name.lower(): name for name in f"{ON_HUB} {OTHERS}".split()}
EXPRESSION = re.compile(r"LicenseRef-[\w.-]+|[\w.+-]+( (AND|OR|WITH) [\w.+-]+)+", re.ASCII)
# What Markdown and its tables read as anything but text.
MARKS = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_[]~|$@"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}
)
BLOCK = re.compile(r"^(\d*)(#|[-+=:.)](?=[-=\s]|$))")  # what begins a heading, a list or a line
MODEL_INDEX = """model-index:
  - name: {}
    results:
      - task:
          type: {}
        dataset:
          name: {} labelled rows
          type: {}
        metrics:"""
# With its point: 1e-06 is a text in YAML 1.1.
METRIC = """          - type: {}
            name: {}
            value: {:#.6g}"""


def model_card(source: Openable, unseal: Any = None) -> str:
    """A model card in Markdown, with the metadata and the sections of Hugging Face's template.

        from modelkit.integrations.cards import model_card
        Path("README.md").write_text(model_card("churn.mk"), encoding="utf-8")

    Everything in it is of the package, and nothing of the package is read as Markdown, HTML or YAML.
    An entry of the metadata that is named as a variable of the template, such as `direct_use` or
    `training_data`, fills its section; what is unknown is "not stated".

    Args:
        source: the package, as `load` takes it. No code of it runs.
        unseal: for a sealed package, as `load` takes it.

    Returns:
        The card, as Markdown with a front matter of YAML.

    Raises:
        PackageError: for anything but a sound package, and an Evaluation of another model; its
            subclass UntrustedError for a sealed package without its key.
    """
    facts = _read(source, unseal)
    manifest, found, stated = facts.manifest, facts.evaluation, facts.manifest.metadata
    texts = dict(facts.texts) | {
        "name": manifest.name,
        "version": manifest.version,
        "source": manifest.parity.against or "",
    }
    if found is not None:
        texts |= {
            "testing_data": f"{found.rows:,} labelled rows, sha256:{found.data_digest}",
            "testing_factors": ", ".join({own.column: "" for own in found.slices}),
            "testing_metrics": f"those of the task {found.kind}, with intervals of {found.level:.0%}",
            "results_summary": found.fit,
        }
    more = ', allow={"joblib"}' if manifest.runtime == "joblib" else ""
    rows = [(part, n, own.title, figure_text(own), own.why) for part, n, own in facts.figures]
    known = {name: _plain(text) for name, text in texts.items()} | {
        "front_matter": _front_matter(facts),
        "load": f'mk.load("{manifest.name}.mk", digest="{manifest.digest}"{more})',
        "facts": _table("fact", "value", rows=facts.texts),
        "signature": _table(
            "", "tensor", "dtype", "shape", "columns", rows=manifest.signature.table()
        ),
        "results": _table("rows", "number", "metric", "figure", "remark", rows=rows)
        or NOT_MEASURED,
        "limitations": _table("found by the evaluation", rows=zip(found.remarks if found else []))
        or NOTHING_FOUND,
    }

    def fill(hole: re.Match[str]) -> str:
        name = hole[1]
        if name not in known and stated.get(name):
            return f"As stated: {_plain(stated[name])}"
        return known.get(name) or NOT_STATED

    return HOLE.sub(fill, FOLDER.joinpath("model_card.md").read_text("utf-8"))


def bill_of_materials(source: Openable, unseal: Any = None) -> str:
    """An ML-BOM: the model as a component of CycloneDX 1.6 with its model card, in JSON of ASCII.

        from modelkit.integrations.cards import bill_of_materials
        Path("churn.cdx.json").write_text(bill_of_materials("churn.mk"))

    What is unknown is left out. Equal packages with equal signatures give equal bytes: no time is
    written. Takes and raises what `model_card` does.

    Returns:
        The JSON of the bill, as a text.
    """
    facts = _read(source, unseal)
    manifest, found = facts.manifest, facts.evaluation
    versions = manifest.versions | manifest.requires
    values: dict[str, Any] = {
        "name": manifest.name,
        "version": manifest.version,
        "owners": "; ".join(manifest.owners),
        "licences": manifest.licence and [_licence(manifest.licence)],
        "files": [
            {
                "type": "file",
                "name": own.path,
                "hashes": [{"alg": "SHA-256", "content": own.sha256}],
            }
            for own in manifest.files
        ],
        "source": manifest.parity.against,
        "inputs": [{"format": str(spec)} for spec in manifest.signature.inputs],
        "outputs": [{"format": str(spec)} for spec in manifest.signature.outputs],
        "task": found and found.kind,
        "datasets": found and [{"type": "dataset", "name": f"sha256:{found.data_digest}"}],
        "metrics": [_metric(part, own) for part, _, own in facts.figures if own.value is not None],
        "limitations": found and found.remarks,
        "facts": [{"name": f"modelkit:{name}", "value": text} for name, text in facts.texts],
        "libraries": [
            {
                "type": "library",
                "name": name,
                "version": version,
                "scope": "required" if name in manifest.requires else "excluded",
                "purl": f"pkg:{'generic' if name == 'python' else 'pypi'}/{name.lower()}@{version}",
            }
            for name, version in versions.items()
        ],
    }
    values["serial"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(values)).urn
    template = FOLDER.joinpath("cyclonedx.json").read_text("utf-8")
    text = QUOTED_HOLE.sub(lambda hole: json.dumps(values[hole[1]]), template)
    known = json.loads(text, object_hook=lambda own: {key: own[key] for key in own if own[key]})
    return json.dumps(known, indent=1)


class PackageFacts(NamedTuple):
    """What a package holds about its model, after its hashes were checked.

    Attributes:
        manifest: what the package states about itself.
        evaluation: the Evaluation in the package, if it has one.
        texts: names and values of facts, with the signatures beside the package.
        figures: the rows that a metric is about, how many they are, and the metric.
    """

    manifest: Manifest
    evaluation: Evaluation | None
    texts: list[tuple[str, str]]
    figures: list[tuple[str, int, MetricFigure]]


def _read(source: Openable, unseal: Any) -> PackageFacts:
    manifest, members = read_verified(open_bytes(source))
    opened: container.Members = {**members}
    if unseal is not None or is_sealed(members):
        opened = unsealed(members, manifest, unseal)
        check_hashes(opened, manifest.files)
    packaged = Packaged(manifest, attachments(opened, manifest))
    found = Evaluation.packaged(packaged) if EVALUATION_NAME in packaged.attachments else None
    signed = [
        ("signature, not checked", f"by key {own.key}, {own.at} to {own.expires or 'for ever'}")
        for own in signatures_of(source, manifest.digest)
    ]
    figures = [
        (f"{part} {value}".strip(), rows, figure)
        for part, value, rows, known in (found.parts if found else [])
        for figure in known
    ]
    for own in found.robustness.figures if found and found.robustness else ():
        name, _, part = own.name.partition(" where ")
        share = MetricFigure(
            f"flipped by {name}", own.share, own.low, own.high, higher_is_better=False
        )
        figures.append((part.replace(" is ", " ", 1) or "all", own.rows, share))
    return PackageFacts(manifest, found, manifest.facts() + signed, figures)


def _plain(value: object) -> str:
    """A text on one line that Markdown and HTML show as it is; other values as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = BLOCK.sub(r"\1\\\2", printable(text).translate(MARKS).strip())
    return shown.replace("://", "&#58;//").replace("www.", "www&#46;")


def _table(*header: str, rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; nothing without rows."""
    lines = [map(_plain, cells) for cells in rows]
    head = [header, ["---"] * len(header)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*head, *lines]) if lines else ""


def _front_matter(facts: PackageFacts) -> str:
    """The metadata of the card in YAML, as the Hub reads them."""
    manifest, found = facts.manifest, facts.evaluation
    licence = manifest.licence.lower()
    shared = licence in ON_HUB.lower().split()
    lines = [
        f"license: {licence if shared else 'other' if licence else 'unknown'}",
        "library_name: modelkit",
        f"tags: [modelkit, {manifest.runtime}]",
    ]
    if licence and not shared:
        lines.append(f"license_name: {_quoted(manifest.licence)}")
    if found is not None:
        digest = _quoted(f"sha256:{found.data_digest}")
        lines.append(MODEL_INDEX.format(_quoted(manifest.name), found.kind, found.rows, digest))
        lines += [
            METRIC.format(_quoted(own.name), _quoted(own.title), own.value)
            for own in found.figures
            if own.value is not None
        ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A text in YAML."""
    return printable(json.dumps(text, ensure_ascii=False))


def _licence(licence: str) -> dict[str, Any]:
    """A licence that CycloneDX knows, an expression of SPDX, or another text."""
    if EXPRESSION.fullmatch(licence):
        return {"expression": licence}
    known = LICENCES.get(licence.lower())
    return {"license": {"id": known} if known else {"name": licence}}


def _metric(part: str, figure: MetricFigure) -> dict[str, Any]:
    ends = {"lowerBound": repr(figure.low), "upperBound": repr(figure.high)}
    return {
        "type": figure.title,
        "value": repr(figure.value),
        "slice": "" if part == "all" else part,
        "confidenceInterval": None if figure.low is None else ends,
    }
