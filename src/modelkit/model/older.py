"""Manifests of format 1 to 8, which named what a runtime does around a graph as fields of their own."""

from __future__ import annotations

from typing import Any

from modelkit._internal import fields
from modelkit.errors import ManifestError
from modelkit.signature.signature import Signature

FIRST_WITH_OPTIONS = 9
KINDS = ("encoder", "texts")  # fields of these formats, which are runtimes today
MEASURED = "measured"  # the entry of the options that decides no answer
MEASUREMENTS = ("alone", "reference")
# What these formats wrote although it is the default, which options leave out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "encoder": {
        "on_long": "truncate", "stable": False, "roles": {}, "alone": None, "reference": None
    },
    "texts": {"dense": True},
}  # fmt: skip
OF_A_VECTORIZER: dict[str, Any] = {"buckets": None, "sums": "counts"}


def in_todays_fields(plain: dict[str, Any]) -> dict[str, Any]:
    """A manifest with `runtime` and `options`, whatever its format. Raises ManifestError."""
    version = plain.get("format")
    if type(version) is not int or not 1 <= version < FIRST_WITH_OPTIONS:
        return plain
    if "options" in plain or plain.get("runtime") in KINDS:
        raise ManifestError(
            f"modelkit.json: options, and the runtimes {list(KINDS)}, begin with format "
            f"{FIRST_WITH_OPTIONS}, and this is format {version}"
        )
    plain = dict(plain)
    found = {name: plain.pop(name, None) for name in KINDS}
    known = {name: options for name, options in found.items() if options is not None}
    if not known:
        return plain
    (runtime, options), *more = known.items()
    if plain.get("runtime", "onnx") != "onnx":
        raise ManifestError(
            f"modelkit.json: {runtime} is for the runtime 'onnx', not {plain['runtime']!r:.80}"
        )
    if isinstance(options, dict) and MEASURED in options:
        raise ManifestError(f"modelkit.json: {runtime}: unknown fields {[MEASURED]}")
    if more:
        raise ManifestError(
            "texts are encoded, or their terms counted, for a graph, and not both for the same one"
        )
    return plain | {"runtime": runtime, "options": _as_written_today(options, DEFAULTS[runtime])}


def in_fields_of_its_format(plain: dict[str, Any]) -> dict[str, Any]:
    """What `in_todays_fields` took, from what it gave."""
    if plain["format"] >= FIRST_WITH_OPTIONS:
        return plain
    plain = dict(plain)
    runtime, options = plain["runtime"], plain.pop("options")
    if runtime not in KINDS:
        return plain | dict.fromkeys(KINDS) | ({"options": options} if options else {})
    options = DEFAULTS[runtime] | options
    options |= options.pop(MEASURED, {})
    if "vectorizers" in options:
        options["vectorizers"] = [OF_A_VECTORIZER | each for each in options["vectorizers"]]
    if "graph" in options:
        options["graph"] = fields.write_object(_graph_of(options))
    return plain | dict.fromkeys(KINDS) | {runtime: options, "runtime": "onnx"}


def _as_written_today(options: Any, defaults: dict[str, Any]) -> Any:
    """The options as `save` writes them, so that the model keeps its digest."""
    if not isinstance(options, dict):
        return options
    kept = _without(defaults, options)
    if "vectorizers" in kept and isinstance(kept["vectorizers"], list):
        kept["vectorizers"] = [_without(OF_A_VECTORIZER, each) for each in kept["vectorizers"]]
    if "graph" in kept:
        kept["graph"] = fields.write_object(_graph_of(kept), defaults=False)
    measured = {name: kept.pop(name) for name in MEASUREMENTS if name in kept}
    return kept | ({MEASURED: measured} if measured else {})


def _graph_of(options: dict[str, Any]) -> Signature:
    return fields.read_object(Signature, options["graph"], "modelkit.json: encoder: graph")


def _without(defaults: dict[str, Any], plain: Any) -> Any:
    """All of an object but what holds its default."""
    if not isinstance(plain, dict):
        return plain
    return {
        name: value
        for name, value in plain.items()
        if name not in defaults
        or type(value) is not type(defaults[name])
        or value != defaults[name]
    }
