"""The rules for Prometheus, as the usual objectives make them."""

from modelkit.integrations.grafana.alerts import Objectives, alert_rules


def recorded_and_alerts():
    recorded, alerts = alert_rules(Objectives())["groups"]
    return recorded["rules"], alerts["rules"]


def alert_names():
    return [rule["alert"] for rule in recorded_and_alerts()[1]]
