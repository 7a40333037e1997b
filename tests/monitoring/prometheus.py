"""Debian's real Prometheus, started for a test, and what to ask it."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from cluster.ports import leased_ports
from tests.waiting import until

RULES = Path(__file__).parents[2] / "monitoring" / "prometheus"
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000}


def scaled(rules: str, factor: float) -> str:
    """The rules with every duration of a range or a `for` so many times as short; nothing else is changed."""

    def shorter(match: re.Match[str]) -> str:
        milliseconds = int(match[2]) * UNITS_MS[match[3]] / factor
        return f"{match[1]}{max(1, round(milliseconds))}ms"

    return re.sub(r"(\[|for: )(\d+)([smh])\b", shorter, rules)


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: object) -> Any:
        """Ask its API; an error is raised with Prometheus's own words."""
        query = urllib.parse.urlencode({name: str(value) for name, value in parameters.items()})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, query: str) -> list[dict[str, Any]]:
        """Series with one value each, now."""
        return list(self.get("query", query=query)["result"])

    def value(self, query: str) -> float | None:
        """The one value of a query; None when it has none."""
        found = self.query(query)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def values(self, query: str, start: float, step: float = 1.0) -> list[dict[str, Any]]:
        """Series with their values since `start`."""
        return list(self.get("query_range", query=query, start=start, end=time.time(), step=step)["result"])

    def down(self) -> list[str]:
        """Targets that do not answer, and why."""
        return [
            f"{each['scrapeUrl']}: {each['lastError']}"
            for each in self.get("targets")["activeTargets"]
            if each["health"] != "up"
        ]

    def jobs(self) -> set[str]:
        """Jobs that have a target."""
        return {each["labels"]["job"] for each in self.get("targets")["activeTargets"]}

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {each["labels"]["alertname"] for each in self.get("alerts")["alerts"] if each["state"] == "firing"}

    def bad_rules(self) -> list[str]:
        """Rules that did not evaluate."""
        rules = [rule for group in self.get("rules")["groups"] for rule in group["rules"]]
        return [
            f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}" for rule in rules if rule["health"] != "ok"
        ]


@contextmanager
def running_prometheus(folder: Path, targets: Iterable[Path], factor: float = 1.0) -> Iterator[Prometheus]:
    """Run Prometheus on the shipped rules, every duration shortened by `factor`, once a second.

    It scrapes what the `targets` files name, as the shipped configuration has it.
    """
    assert shutil.which("prometheus"), "Debian: apt-get install prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("recording.yml", "alerts.yml"):
        (folder / name).write_text(scaled((RULES / name).read_text(), factor))
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    # The exporter every second, so that the shortened rules have enough to go by; Ray's long page now and then.
    job = config["scrape_configs"].pop()
    job["file_sd_configs"] = [{"files": [str(path) for path in targets], "refresh_interval": "1s"}]
    for name, interval, regex in (("exporters", "1s", "ganlab"), ("others", "5s", "ray|dask")):
        chosen = {"source_labels": ["job"], "regex": regex, "action": "keep"}
        config["scrape_configs"].append(
            {**job, "job_name": name, "scrape_interval": interval, "relabel_configs": [chosen]}
        )
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with leased_ports() as ports, (folder / "log").open("w") as log:
        address = f"127.0.0.1:{ports[0]}"
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=warn",
        ]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            prometheus = Prometheus(f"http://{address}")
            until(lambda: _ready(prometheus.url) or process.poll() is not None, "Prometheus starts")
            assert process.poll() is None, (folder / "log").read_text()
            yield prometheus
        finally:
            process.terminate()
            process.wait(20)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
            return True
    except OSError:
        return False
