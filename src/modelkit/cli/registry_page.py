"""One page of a registry: versions, aliases, what was found about each version, rollouts and history."""

from __future__ import annotations

from collections.abc import Iterator

import modelkit as mk
from modelkit.errors import ModelkitError
from modelkit.lifecycle.evaluation.evaluation import EVALUATION_NAME
from modelkit.lifecycle.registry.log import CHAMPION
from modelkit.lifecycle.registry.releases import ModelVersion
from modelkit.lifecycle.registry.versions import VERDICT, Versions
from modelkit.lifecycle.rollout.status import progress_afar
from modelkit.package.source import open_bytes, read_verified
from modelkit.report import html
from modelkit.report.html import Markup, element, joined
from modelkit.store import open_store

MOST_ENTRIES = 50
MOST_FIGURES = 3  # of an Evaluation


def registry_page(registry: mk.Registry) -> str:
    """The page; it contains no scripts and loads nothing. A package is read for its Evaluation."""
    versions = Versions(open_store(registry.url))
    parts = [joined(*_model_parts(registry, versions, name)) for name in registry.names()]
    return html.page(f"Registry {registry.url}", *parts)


def _model_parts(registry: mk.Registry, versions: Versions, name: str) -> Iterator[Markup]:
    yield element("h1", name)
    aliases = registry.aliases(name)
    if aliases:
        rows = [(alias, *now._cells()) for alias, now in aliases.items()]
        yield html.part("Aliases", html.table(("alias", "version", "since", "by", "reason"), rows))
    if CHAMPION in aliases:
        progress = progress_afar(registry, name)
        if progress.candidate is not None:
            yield html.part("Rollout", progress._repr_html_(), progress.charts())
    yield _versions_part(registry, versions, name)
    entries = registry.history(name)
    latest = [[*entry._cells().values()] for entry in reversed(entries[-MOST_ENTRIES:])]
    if latest:
        left = html.more(len(entries), len(latest), "entries")
        yield html.part("History", html.table([*entries[0]._cells()], latest), left)


def _versions_part(registry: mk.Registry, versions: Versions, name: str) -> Markup:
    state = registry.state(name)
    rows = []
    for release in reversed(registry.versions(name)):
        marks = [alias for alias, now in state.aliases.items() if now.version == release.version]
        for mark, found in (("retired", state.retired), ("rolled back", state.rolled_back)):
            if release.version in found:
                marks.append(f"{mark}: {found[release.version]}")
        found_out = html.bullets(_findings(registry, versions, release))
        rows.append([*release._cells().values(), ", ".join(marks), found_out])
    header = (*release._cells(), "aliases", "what was found")
    return html.part("Versions", html.table(header, rows))


def _findings(registry: mk.Registry, versions: Versions, release: ModelVersion) -> Iterator[str]:
    """What a verdict, the Evaluation in the package, and what was kept say, each in a line."""
    name, version = release.name, release.version
    if release.verdict:
        yield _finding(VERDICT, registry.kept(name, version, VERDICT))
    try:
        manifest, members = read_verified(open_bytes(registry.reference(name, version)))
    except ModelkitError as error:  # such as a package that is gone
        yield f"the package cannot be read: {error}"
    else:
        for each in manifest.attachments:
            if each.name == EVALUATION_NAME:
                yield _finding(each.name, bytes(members[each.path]))
    for key in versions.keys(release):
        if key != VERDICT:
            yield _finding(key, registry.kept(name, version, key))


def _finding(key: str, data: bytes) -> str:
    """What a record says in one line: of a Verdict, an Evaluation or a drift report, what it found."""
    text = str(data, "utf-8", "replace")
    for kind in (mk.Verdict, mk.Evaluation, mk.DriftReport):
        try:
            record = kind.from_json(text)
        except ModelkitError:
            continue
        return f"{key}: {_headline(record)}"
    return f"{key}: {len(data):,} bytes"


def _headline(record: mk.Verdict | mk.Evaluation | mk.DriftReport) -> str:
    if isinstance(record, mk.Verdict):
        return f"{record.decision}: {record.reason}"
    if isinstance(record, mk.Evaluation):
        return f"{record.rows:,} rows, {'; '.join(map(str, record.figures[:MOST_FIGURES]))}"
    return record.headline()
