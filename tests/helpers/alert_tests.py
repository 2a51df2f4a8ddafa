"""Tests of the alert rules, as promtool runs them: each alert where it fires, and where it must not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from helpers.alerts import rules_of
from modelkit.integrations.grafana import Objectives

Test = dict[str, Any]
Series = dict[str, str]  # values a minute, as promtool writes them, by series

MODEL_LABELS = {"job": "web", "model": "churn"}
VERSION_LABELS = MODEL_LABELS | {"version": "1.0.0"}
SERIES_LABELS = VERSION_LABELS | {"instance": "a:80"}
BUCKET = "modelkit_call_duration_seconds_bucket"
DEVICE = "modelkit_model_info"
LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
VALUE = re.compile(r"\{\{ \$value [^}]*\}\}")


def alert_tests(objectives: Objectives, rules_file: str) -> dict[str, Any]:
    """The document that `promtool test rules` reads; it names the file of the rules."""
    firing = _Firing(objectives)
    return {
        "rule_files": [rules_file],
        "evaluation_interval": "1m",
        "tests": [
            *_errors(firing, objectives.errors),
            *_speed(firing),
            *_queue(firing),
            *_refusals(firing),
            *_silence(firing),
            *_readiness(firing),
            *_devices(firing),
            *_drift(firing),
            *_rollouts(firing),
        ],
    }


class _Firing:
    """Writes down what an alert says when it fires."""

    def __init__(self, objectives: Objectives) -> None:
        _, alerts = rules_of(objectives)["groups"]
        self._rules = {rule["alert"]: rule for rule in alerts["rules"]}

    def __call__(
        self, alert: str, labels: Mapping[str, str], value: str = ""
    ) -> list[dict[str, Any]]:
        """The alert as expected, with these labels and its value as it is shown."""
        rule = self._rules[alert]
        said = {}
        for name, text in rule["annotations"].items():
            named = LABEL.sub(lambda match: labels[match[1]], text)
            said[name] = VALUE.sub(value, named)
        return [{"exp_labels": labels | rule["labels"], "exp_annotations": said}]


def _test(
    name: str, series: Series, minutes: int, expected: dict[str, list[dict[str, Any]]]
) -> Test:
    """What must fire after these minutes, by alert; an empty list where it must be silent."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [
            {"series": one, "values": values.format(most=minutes)} for one, values in series.items()
        ],
        "alert_rule_test": [
            {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": alerts}
            for alert, alerts in expected.items()
        ],
    }


def _series(metric: str, **labels: str) -> str:
    pairs = ", ".join(f'{name}="{value}"' for name, value in (SERIES_LABELS | labels).items())
    return f"{metric}{{{pairs}}}"


def _calls(**each_minute: float) -> Series:
    """Calls by outcome, so many a minute."""
    return {
        _series("modelkit_calls_total", outcome=outcome): f"0+{count:g}x{{most}}"
        for outcome, count in each_minute.items()
    }


def _errors(firing: _Firing, errors: float) -> list[Test]:
    # Too slow to wake anybody, and yet too much for a month.
    steady = 6 * errors * 0.8
    rare = errors * 0.5
    calls = 1 / errors  # calls a minute: enough for some of them to fail
    percent = f"{100 * steady:.4g}%"
    fast = "ModelkitErrorsFast"
    slow = "ModelkitErrorsSlow"
    return [
        _test(
            "every call fails",
            _calls(ok=0, error=10),
            30,
            {fast: firing(fast, VERSION_LABELS, "100%")},
        ),
        _test(
            "a few errors too many, for hours",
            _calls(ok=calls * (1 - steady), error=calls * steady),
            120,
            {fast: [], slow: firing(slow, VERSION_LABELS, percent)},
        ),
        _test(
            "half as many errors as the objective allows",
            _calls(ok=calls * (1 - rare), error=calls * rare),
            120,
            {fast: [], slow: []},
        ),
        _test(
            "refused rows and callers who left are not errors",
            _calls(ok=90, signature=500, cancelled=500, error=0),
            60,
            {fast: [], slow: []},
        ),
        _test(
            "every call fails, and there are very few",
            _calls(ok=0, error=0.1),
            60,
            {fast: [], slow: []},
        ),
        _test(
            "every call failed until 40 minutes ago",
            {
                _series("modelkit_calls_total", outcome="ok"): "0x20 0+10x40",
                _series("modelkit_calls_total", outcome="error"): "0+10x20 200x40",
            },
            61,
            {fast: []},
        ),
    ]


def _speed(firing: _Firing) -> list[Test]:
    slow = {
        _series(BUCKET, le="30.0"): "0x{most}",
        _series(BUCKET, le="60.0"): "0+60x{most}",
        _series(BUCKET, le="+Inf"): "0+60x{most}",
    }
    quick = {_series(BUCKET, le="1e-06"): "0+60x{most}", _series(BUCKET, le="+Inf"): "0+60x{most}"}
    alert = "ModelkitSlowCalls"
    fires = firing(alert, VERSION_LABELS, "59.7s")
    return [
        _test("calls take 30 to 60 seconds", slow, 20, {alert: fires}),
        _test("calls take a microsecond", quick, 20, {alert: []}),
        _test("calls are slow for less than ten minutes", slow, 9, {alert: []}),
    ]


def _queue(firing: _Firing) -> list[Test]:
    rows = _series("modelkit_queue_rows")
    limit = {_series("modelkit_queue_limit_rows"): "1000x{most}"}
    alert = "ModelkitQueueNearlyFull"
    fires = firing(alert, VERSION_LABELS, "90%")
    return [
        _test("900 of 1,000 rows wait", limit | {rows: "900x{most}"}, 15, {alert: fires}),
        _test("700 of 1,000 rows wait", limit | {rows: "700x{most}"}, 15, {alert: []}),
        _test("the queue was full for a minute", limit | {rows: "0x5 1000 0x9"}, 15, {alert: []}),
    ]


def _refusals(firing: _Firing) -> list[Test]:
    alert = "ModelkitRowsRefused"
    fires = firing(alert, VERSION_LABELS, "10%")
    return [
        _test("a tenth is refused", _calls(ok=90, signature=10), 20, {alert: fires}),
        _test("a hundredth is refused", _calls(ok=99, signature=1), 20, {alert: []}),
    ]


def _silence(firing: _Firing) -> list[Test]:
    ok = _series("modelkit_calls_total", outcome="ok")
    alert = "ModelkitSilent"
    fires = firing(alert, MODEL_LABELS)
    return [
        _test("calls stop after two hours", {ok: "0+10x120 1200x20"}, 140, {alert: fires}),
        _test("the process goes after two hours", {ok: "0+10x120 stale"}, 140, {alert: fires}),
        _test("calls go on", {ok: "0+10x{most}"}, 140, {alert: []}),
        _test("there never were any", {ok: "0x{most}"}, 140, {alert: []}),
        _test(
            "another version is called",
            {
                ok: "0+10x120 1200x20",
                _series("modelkit_calls_total", outcome="ok", version="1.1.0"): "0x120 0+10x20",
            },
            140,
            {alert: []},
        ),
    ]


def _readiness(firing: _Firing) -> list[Test]:
    ready = _series("modelkit_model_ready")
    alert = "ModelkitNotReady"
    fires = firing(alert, SERIES_LABELS)
    return [
        _test("it stops being ready", {ready: "1x5 0x15"}, 20, {alert: fires}),
        _test("it is ready", {ready: "1x20"}, 20, {alert: []}),
        _test("it needs two minutes to load", {ready: "0x2 1x18"}, 20, {alert: []}),
    ]


def _devices(firing: _Firing) -> list[Test]:
    fallen = SERIES_LABELS | {"device": "cpu", "requested": "cuda"}
    alert = "ModelkitOnCpu"
    fires = firing(alert, fallen)
    always = "1x{most}"
    return [
        _test(
            "CUDA was wanted, and it is the CPU",
            {_series(DEVICE, device="cpu", requested="cuda"): always},
            15,
            {alert: fires},
        ),
        _test(
            "each runs where it was wanted",
            {
                _series(DEVICE, device="cpu", requested="cpu"): always,
                _series(DEVICE, device="cuda", requested="cuda", version="1.1.0"): always,
                _series(DEVICE, device="cpu", version="1.2.0"): always,
            },
            15,
            {alert: []},
        ),
    ]


def _drift(firing: _Firing) -> list[Test]:
    age = _series("modelkit_drift_alarm", feature="age")
    alert = "ModelkitDrift"
    fires = firing(alert, VERSION_LABELS | {"feature": "age"})
    return [
        _test("an alarm for one feature", {age: "0x5 1x10"}, 15, {alert: fires}),
        _test("no alarm", {age: "0x{most}"}, 15, {alert: []}),
    ]


def _rollouts(firing: _Firing) -> list[Test]:
    held = _series("modelkit_rollout_decision", decision="hold")
    goes_on = _series("modelkit_rollout_decision", decision="continue")
    failures = _series("modelkit_rollout_failures_total")
    alert = "ModelkitRolloutHeld"
    other = "ModelkitNotFollowed"
    return [
        _test("it holds", {held: "1x{most}"}, 15, {alert: firing(alert, VERSION_LABELS)}),
        _test("it goes on", {goes_on: "1x{most}"}, 15, {alert: []}),
        _test(
            "each minute one attempt fails",
            {failures: "0+1x{most}"},
            30,
            {other: firing(other, VERSION_LABELS)},
        ),
        _test("one attempt failed", {failures: "0x5 1x{most}"}, 15, {other: []}),
    ]
