"""Rules for Prometheus: recorded ratios, the alerts that are worth somebody's attention, and YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelkit.errors import UsageError

PrometheusRule = dict[str, Any]

# What stays apart where Prometheus sums over processes. A label that a target lacks is no label.
EACH_VERSION = "namespace, job, model, version"
EACH_MODEL = "namespace, job, model"
WHERE_FAILED = 'outcome=~"error|overloaded|deadline|closed"'
# A call whose rows were refused, or whose caller left, was owed no answer.
WHERE_OWED = 'outcome!~"signature|cancelled"'
WHERE_REFUSED = 'outcome="signature"'
WHERE_HELD = 'decision="hold"'
# Without the label nothing is known to be wrong.
WHERE_ON_CPU_INSTEAD = 'device="cpu", requested!~"cpu|"'
SECONDS = {"5m": 300, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21600, "1d": 86400, "3d": 259200}
FEWEST_FAILED = 10  # calls: fewer in the longer window are no reason to wake anybody
FEWEST_CALLS = 60  # calls in an hour, one a minute: after fewer, a quarter of an hour is no silence
# How many times faster than the objective allows calls fail, in both windows (the workbook of
# Google's site reliability engineers: 2 % and 5 % of a month's allowance, then 10 % of it).
FAST_BURN = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
SLOW_BURN = ((3.0, "1d", "2h"), (1.0, "3d", "6h"))
MOST_ERRORS = 0.05  # above, 14.4 times as many are nearly all
WHICH = "{{ $labels.model }} {{ $labels.version }}"
PERCENT = "{{ $value | humanizePercentage }}"
STEP = "  "
# A text with quotes or of several lines reads better as a block; not all texts can be one.
BLOCK = re.compile(r"(?! )[ -~]*[!-~](\n[ -~]*[!-~])*")

# Words that YAML reads as no text.
RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True)
class Objectives:
    """What calls were promised.

    Args:
        errors: the part of calls that may fail, 0.05 at most.
        p99: seconds in which 99 of 100 calls are to be answered, from 0.00001 to 30.
        runbook: where the page `docs/metrics.md` is: a URL, or a path.

    Raises:
        UsageError: if a number is out of its range, or the runbook has an anchor.
    """

    errors: float = 0.001
    p99: float = 0.25
    runbook: str = "docs/metrics.md"

    def __post_init__(self) -> None:
        if not 0 < self.errors <= MOST_ERRORS:
            raise UsageError(
                f"errors is the part of calls that may fail, above 0 and at most {MOST_ERRORS:g}; "
                f"got {self.errors!r}"
            )
        if not 1e-5 <= self.p99 <= 30:
            raise UsageError(f"p99 is in seconds, from 0.00001 to 30; got {self.p99!r}")
        if not self.runbook or any(c in self.runbook for c in "#{}\n"):
            raise UsageError(
                "runbook is the URL or the path of a page, without an anchor and without braces; "
                f"got {self.runbook!r}"
            )


def alert_rules(objectives: Objectives) -> dict[str, Any]:
    """The document that Prometheus reads from `rule_files`."""
    return {
        "groups": [
            {"name": "modelkit-recorded", "rules": _recorded()},
            {"name": "modelkit-alerts", "rules": _alerts(objectives)},
        ]
    }


def _recorded() -> list[PrometheusRule]:
    """Sums that several alerts need, made once."""
    found = []
    for window in SECONDS:
        failed = f"model:modelkit_calls_failed:rate{window}"
        ratio = f"model:modelkit_calls_failed:ratio_rate{window}"
        found.append(_record(failed, _rate(WHERE_FAILED, window)))
        found.append(_record(ratio, f"{failed}\n/ {_rate(WHERE_OWED, window)}"))
    refused = f"{_rate(WHERE_REFUSED, '5m')}\n/ {_rate('', '5m')}"
    found.append(_record("model:modelkit_calls_refused:ratio_rate5m", refused))
    buckets = f"sum by (le, {EACH_VERSION}) (rate(modelkit_call_duration_seconds_bucket[5m]))"
    p99 = f"histogram_quantile(0.99, {buckets})"
    found.append(_record("model:modelkit_call_duration_seconds:p99_5m", p99))
    return found


def _rate(matchers: str, window: str) -> str:
    """The number of calls a second in a window, of those outcomes."""
    return f"sum by ({EACH_VERSION}) (rate(modelkit_calls_total{{{matchers}}}[{window}]))"


def _record(name: str, expr: str) -> PrometheusRule:
    return {"record": name, "expr": expr}


def _alerts(objectives: Objectives) -> list[PrometheusRule]:
    """The alerts; each has a section of its name in the documentation."""
    found = [
        _alert(
            "ModelkitErrorsFast",
            _burning(FAST_BURN, objectives.errors),
            "2m",
            "critical",
            f"{WHICH}: {PERCENT} of its calls fail",
            "The errors that a month allows are spent within days. Outcomes count: error, "
            "overloaded, deadline and closed.",
        ),
        _alert(
            "ModelkitErrorsSlow",
            _burning(SLOW_BURN, objectives.errors),
            "15m",
            "warning",
            f"{WHICH}: {PERCENT} of its calls fail, for hours",
            "If this goes on, more calls fail in a month than the objective allows.",
        ),
        _alert(
            "ModelkitSlowCalls",
            f"model:modelkit_call_duration_seconds:p99_5m > {objectives.p99:g}",
            "10m",
            "warning",
            f"{WHICH}: one call in 100 takes {{{{ $value | humanizeDuration }}}} or longer",
            f"99 of 100 calls are to be answered within {objectives.p99:g} s.",
        ),
        _alert(
            "ModelkitQueueNearlyFull",
            f"max by ({EACH_VERSION}) (modelkit_queue_rows / modelkit_queue_limit_rows) > 0.8",
            "5m",
            "warning",
            f"{WHICH}: the queue of a process is {PERCENT} full",
            "When it is full, calls are refused with the outcome overloaded.",
        ),
        _alert(
            "ModelkitRowsRefused",
            "model:modelkit_calls_refused:ratio_rate5m > 0.05",
            "10m",
            "warning",
            f"{WHICH}: the signature refuses {PERCENT} of the calls",
            "A caller sends rows that the model was not made for; the error names each problem.",
        ),
        _alert(
            "ModelkitSilent",
            _silence(),
            "5m",
            "warning",
            "{{ $labels.model }}: no calls any more",
            "It was not called in the last quarter of an hour, and it was in the hour before.",
        ),
        _alert(
            "ModelkitNotReady",
            "modelkit_model_ready == 0",
            "5m",
            "critical",
            f"{WHICH} is not ready on {{{{ $labels.instance }}}}",
            "The process runs, and it does not answer for this model.",
        ),
        _alert(
            "ModelkitOnCpu",
            f"modelkit_model_info{{{WHERE_ON_CPU_INSTEAD}}} == 1",
            "5m",
            "warning",
            f"{WHICH} runs on the CPU of {{{{ $labels.instance }}}}",
            "{{ $labels.requested }} was wanted and could not be had; the placement says why.",
        ),
        _alert(
            "ModelkitDrift",
            f"max by ({EACH_VERSION}, feature) (modelkit_drift_alarm) > 0",
            "1m",
            "warning",
            f"{WHICH}: {{{{ $labels.feature }}}} is no longer as it was",
            "The rows that are served differ from the profile in the package.",
        ),
        _alert(
            "ModelkitRolloutHeld",
            f"max by ({EACH_VERSION}) (modelkit_rollout_decision{{{WHERE_HELD}}}) > 0",
            "5m",
            "warning",
            f"{WHICH}: its rollout waits for somebody to decide",
            "Its time is over, or something voids the comparison; the candidate keeps its share.",
        ),
        _alert(
            "ModelkitNotFollowed",
            f"sum by ({EACH_VERSION}) (increase(modelkit_rollout_failures_total[15m])) > 1",
            "5m",
            "warning",
            f"{WHICH} answers, and its registry is not followed",
            "A version cannot be loaded, or the registry cannot be reached.",
        ),
    ]
    for rule in found:
        anchor = rule["alert"].lower()
        rule["annotations"]["runbook_url"] = f"{objectives.runbook}#{anchor}"
    return found


def _alert(
    name: str, expr: str, lasting: str, severity: str, summary: str, description: str
) -> PrometheusRule:
    return {
        "alert": name,
        "expr": expr,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _burning(windows: tuple[tuple[float, str, str], ...], errors: float) -> str:
    """Whether calls fail too fast: for long enough to matter, and still now."""
    parts = []
    for factor, long, short in windows:
        limit = f"{factor * errors:g}"
        parts.append(
            f"(\n"
            f"  model:modelkit_calls_failed:ratio_rate{long} > {limit}\n"
            f"  and model:modelkit_calls_failed:ratio_rate{short} > {limit}\n"
            f"  and model:modelkit_calls_failed:rate{long} * {SECONDS[long]} >= {FEWEST_FAILED}\n"
            f")"
        )
    return "\nor\n".join(parts)


def _silence() -> str:
    before = f"sum by ({EACH_MODEL}) (increase(modelkit_calls_total[1h] offset 15m))"
    now = f"sum by ({EACH_MODEL}) (increase(modelkit_calls_total[15m]))"
    return f"{before} >= {FEWEST_CALLS}\nunless\n{now} > 0"


def to_yaml(value: Any) -> str:
    """A mapping or a list as a YAML document.

    The keys of mappings are names: letters, digits and underscores. A text that JSON would have to
    escape is a block, and any other is quoted as in JSON, which YAML contains.
    """
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, member in value.items():
            written = json.dumps(key) if key in RESERVED else key
            yield from _under(f"{written}:", member)
    elif isinstance(value, list) and value:
        for member in value:
            yield from _item(member)
    else:
        yield json.dumps(value, ensure_ascii=False)


def _under(head: str, member: Any) -> Iterator[str]:
    """The lines of a member of a mapping, below its key where it has several."""
    if isinstance(member, str) and {*member} & {'"', "\n"} and BLOCK.fullmatch(member):
        yield f"{head} |-"
        yield from (STEP + line for line in member.split("\n"))
    elif isinstance(member, dict | list) and member:
        yield head
        yield from (STEP + line for line in _lines(member))
    else:
        yield f"{head} {json.dumps(member, ensure_ascii=False)}"


def _item(member: Any) -> Iterator[str]:
    """The lines of a member of a list, the first of which begins with a dash."""
    first, *others = _lines(member)
    yield f"- {first}"
    yield from (STEP + line for line in others)
