"""Metric definitions, exporter, Prometheus rules and Grafana dashboards of a sweep.

Invariant: watching a sweep never changes it; nothing here writes to a sweep's data.
"""
