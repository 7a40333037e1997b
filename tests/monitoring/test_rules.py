"""Recording rules and alerts, by Prometheus's own promtool."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.metrics import METRICS
from tests.monitoring.prometheus import RULES, scaled

UNIT_TESTS = Path(__file__).with_name("rules.yml")


def rules() -> list[dict[str, Any]]:
    files = (RULES / "recording.yml", RULES / "alerts.yml")
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str | Path, cwd: Path) -> None:
    assert shutil.which("promtool"), "Debian: apt-get install prometheus"
    done = subprocess.run(["promtool", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Rules, configuration and their unit tests in one folder."""
    for path in (*RULES.glob("*.yml"), UNIT_TESTS):
        shutil.copy(path, tmp_path)
    (tmp_path / "targets.json").write_text("[]")
    return tmp_path


@pytest.mark.process
def test_the_configuration_is_valid(copy: Path) -> None:
    promtool("check", "config", "prometheus.yml", cwd=copy)


@pytest.mark.process
def test_every_rule_and_alert_behaves(copy: Path) -> None:
    promtool("test", "rules", "rules.yml", cwd=copy)


def test_every_rule_and_alert_has_a_unit_test() -> None:
    tests = yaml.safe_load(UNIT_TESTS.read_text())["tests"]
    recorded = {
        match
        for test in tests
        for case in test.get("promql_expr_test", ())
        for match in re.findall(r"ganlab:\w+:\w+", case["expr"])
    }
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert recorded == {rule["record"] for rule in rules() if "record" in rule}
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


def test_every_alert_tells_what_where_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert "$labels.sweep" in rule["annotations"]["summary"]
            assert rule["annotations"]["description"].endswith(".")


def test_every_metric_asked_for_is_exported() -> None:
    asked = {name for rule in rules() for name in re.findall(r"ganlab_\w+", rule["expr"])}
    assert asked <= set(METRICS)


def test_shortened_rules_differ_in_durations_alone() -> None:
    """What the integration test watches with is what is shipped, faster."""
    text = (RULES / "alerts.yml").read_text()
    quick = scaled(text, 50)
    assert "[12000ms]" in quick
    assert "for: 6000ms" in quick
    durations = r"(\[|for: )\d+(ms|[smh])\b"
    assert re.sub(durations, r"\1", quick) == re.sub(durations, r"\1", text)
