"""Grafana's dashboards as code: `python -m monitoring.grafana` writes the committed files in ``dashboards/``.

Invariant: the committed files are what the code makes (a test compares them); nothing here is imported by ganlab at work.
"""
