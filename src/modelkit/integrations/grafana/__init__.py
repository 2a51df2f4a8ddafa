"""A dashboard for Grafana, and alerts for Prometheus with their tests: what `modelkit export` writes."""
