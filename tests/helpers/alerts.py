"""The rules for Prometheus as documents, and the rules of the usual objectives."""

import yaml

from modelkit.integrations.grafana import Objectives, alert_rules

USUAL = Objectives()


def rules_of(objectives=USUAL):
    return yaml.safe_load(alert_rules(objectives))


def recorded_and_alerts():
    recorded, alerts = rules_of()["groups"]
    return recorded["rules"], alerts["rules"]


def alert_names():
    return [rule["alert"] for rule in recorded_and_alerts()[1]]
