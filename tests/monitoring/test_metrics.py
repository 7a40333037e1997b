"""Metrics: names, few series, nothing made up. docs/generate.py documents all of them."""

import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.metrics import METRICS, MetricValues, registry


def test_names_follow_prometheus_conventions() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"ganlab_[a-z_]+", name), name
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert metric.help.endswith("."), name
        assert not {"trial", "seed", "id"} & set(metric.labels), f"{name}: one series for each trial"


def test_a_snapshot_is_exported_as_it_is() -> None:
    snapshot = MetricValues()
    snapshot.set("ganlab_train_steps_total", 7, "dcgan")
    snapshot.add("ganlab_trials", 2, "running", "dcgan")
    snapshot.add("ganlab_trials", 3, "running", "dcgan")
    families = {each.name: each for each in text_string_to_metric_families(_text(snapshot))}
    assert families["ganlab_train_steps"].samples[0].value == 7
    assert [(each.labels, each.value) for each in families["ganlab_trials"].samples] == [
        ({"state": "running", "family": "dcgan"}, 5.0)
    ]
    assert "process_cpu_seconds" in families, "the exporter's own cost"


def test_what_is_not_known_is_left_out_and_what_is_nought_is_said() -> None:
    text = _text(MetricValues())
    assert "ganlab_estimated_end_timestamp_seconds" not in text
    assert 'ganlab_trials_failed{cause="nan"} 0.0' in text


def test_a_metric_must_have_its_labels() -> None:
    with pytest.raises(AssertionError):
        MetricValues().set("ganlab_trials", 1, "running")


def _text(snapshot: MetricValues) -> str:
    return generate_latest(registry(lambda: snapshot)).decode()
