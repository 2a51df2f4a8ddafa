"""Models of names of their own, and what a scrape of a Collector shows of them."""

import dataclasses
from itertools import count

from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

import modelkit as mk
from helpers.batchers import SIGNATURE, double
from helpers.places import GOLDEN

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
MANIFEST = mk.inspect(GOLDEN / "penguins1.mk")
_numbers = count()


class Named(mk.Wrapper):
    """A Model with a manifest, as if it had been loaded."""

    def __init__(self, inner, name, version="1.0.0", digest=""):
        super().__init__(inner)
        self._about = dataclasses.replace(
            MANIFEST, name=name, version=version, digest=digest or f"{name} {version}"
        )

    @property
    def manifest(self):
        return self._about


def named(name, version="1.0.0", fn=double, digest=""):
    return Named(mk.FunctionModel(fn, SIGNATURE, batchable=True), name, version, digest)


def batched(name, version="1.0.0", fn=double, **options):
    return mk.Batcher(named(name, version, fn), **{"plan": "learn", **options})


def new_name():
    """A name that no other test has counted under: counts belong to the process."""
    return f"model-{next(_numbers)}"


def samples(collector, accept=""):
    """Each series of a scrape with its value, by name and sorted labels."""
    body, content_type = collector.text(accept)
    read = strict if "openmetrics" in content_type else plain
    found = {}
    for family in read(body.decode()):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(collector, family, **labels):
    """The one value of a family with these labels among others; None if there is none."""
    found = [
        number
        for (series, *pairs), number in samples(collector).items()
        if series == family and labels.items() <= dict(pairs).items()
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


def versions(collector, family):
    return {dict(pairs)["version"] for series, *pairs in samples(collector) if series == family}


def counters(found):
    endings = ("_total", "_bucket", "_count", "_sum")
    return [key for key in found if key[0].endswith(endings)]
