"""A dashboard for Grafana and alert rules for Prometheus, as the two files of this folder have them.

Edit `dashboard.json` in Grafana, and store what it exports. `alerts.yml` has three holes: ERRORS,
each with the factor that it is multiplied by, P99_SECONDS and RUNBOOK.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from modelkit.errors import UsageError

MOST_ERRORS = 0.05  # above, 14.4 times as many are nearly all
LIMIT = re.compile(r"ERRORS \* ([\d.]+)")


@dataclass(frozen=True)
class Objectives:
    """What calls were promised.

    Args:
        errors: the part of calls that may fail, 0.05 at most.
        p99: seconds in which 99 of 100 calls are to be answered, from 0.00001 to 30.
        runbook: where the page `docs/reference/alerts.md` is: a URL, or a path.

    Raises:
        UsageError: if a number is out of its range, or the runbook has an anchor.
    """

    errors: float = 0.001
    p99: float = 0.25
    runbook: str = "docs/reference/alerts.md"

    def __post_init__(self) -> None:
        if not 0 < self.errors <= MOST_ERRORS:
            raise UsageError(
                f"errors is the part of calls that may fail, above 0 and at most {MOST_ERRORS:g}; "
                f"got {self.errors!r}"
            )
        if not 1e-5 <= self.p99 <= 30:
            raise UsageError(f"p99 is in seconds, from 0.00001 to 30; got {self.p99!r}")
        # YAML ends a line where splitlines does.
        if self.runbook.splitlines() != [self.runbook] or any(c in self.runbook for c in "#{}"):
            raise UsageError(
                "runbook is the URL or the path of a page, without an anchor and without braces; "
                f"got {self.runbook!r}"
            )


def dashboard() -> str:
    """The dashboard, as the JSON that Grafana imports."""
    return _read("dashboard.json")


def alert_rules(objectives: Objectives) -> str:
    """The rules, as the YAML that Prometheus reads from `rule_files`."""
    quoted = json.dumps(objectives.runbook, ensure_ascii=False)  # YAML contains JSON
    rules = LIMIT.sub(lambda hole: f"{float(hole[1]) * objectives.errors:g}", _read("alerts.yml"))
    return rules.replace("P99_SECONDS", f"{objectives.p99:g}").replace("RUNBOOK", quoted[1:-1])


def _read(name: str) -> str:
    from importlib import resources

    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
