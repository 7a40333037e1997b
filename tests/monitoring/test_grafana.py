"""Dashboards: as committed, valid by Grafana's own types, and of metrics that there are."""

import enum
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.exporter import runbook_page
from monitoring.grafana.boards import BOARDS
from monitoring.grafana.render import as_json
from monitoring.metrics import METRICS
from tests.monitoring.panels import DASHBOARDS, panels
from tests.monitoring.prometheus import RULES

OTHERS = {  # of Prometheus itself, Ray, Dask and the Python client
    "up",
    "ALERTS",
    "process_cpu_seconds_total",
    "ray_node_cpu_utilization",
    "ray_node_mem_used",
    "ray_node_mem_total",
    "dask_scheduler_workers",
    "dask_scheduler_tasks",
}
FUNCTIONS = {"sum", "min", "max", "count", "by", "rate", "time", "vector", "or"}


def test_committed_dashboards_are_what_the_code_makes() -> None:
    assert {path.stem for path in DASHBOARDS.glob("*.json")} == {board.uid for board in BOARDS}
    for board in BOARDS:
        committed = (DASHBOARDS / f"{board.uid}.json").read_text("utf-8")
        assert committed == as_json(board), "write them again: python -m monitoring.grafana"


@pytest.mark.parametrize("path", sorted(DASHBOARDS.glob("*.json")), ids=lambda path: path.stem)
def test_dashboards_are_valid_by_grafanas_own_types(path: Path) -> None:
    """Grafana generates these classes from its schema: read as one of them, nothing is lost and every type fits."""
    register_default_plugins()
    given = json.loads(path.read_text("utf-8"))
    read = Dashboard.from_json(given)
    assert _subset(given, json.loads(json.dumps(read, cls=JSONEncoder))) == []
    assert list(_misfits(read, Dashboard, "dashboard")) == []


def test_the_check_of_types_finds_faults() -> None:
    register_default_plugins()
    given = json.loads((DASHBOARDS / "ganlab-glance.json").read_text("utf-8"))
    assert list(_misfits(Dashboard.from_json(given | {"title": 3}), Dashboard, "dashboard"))
    read = json.loads(json.dumps(Dashboard.from_json(given | {"unknown": 1}), cls=JSONEncoder))
    assert _subset(given | {"unknown": 1}, read) == ["unknown"]


def test_panels_call_the_effective_number_by_its_name() -> None:
    """It is not the number of distinct images, nor a bound on it."""
    shown = [panel for panel in panels() if any("ganlab_support_size" in query for _, query in panel.queries)]
    assert len(shown) == 2
    for panel in shown:
        assert panel.title.startswith("Effective number")
        assert "distinct" not in f"{panel.title} {panel.question}".lower()


def test_every_metric_asked_for_is_there() -> None:
    groups = yaml.safe_load((RULES / "recording.yml").read_text())["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"]}
    known = set(METRICS) | recorded | OTHERS
    for panel in panels():
        for _, query in panel.queries:
            bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", "", query)
            names = set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - FUNCTIONS
            assert names <= known, f"{panel.title}: {names - known}"


def test_every_query_is_of_the_chosen_sweep() -> None:
    for panel in panels():
        for _, query in panel.queries:
            selections = re.findall(r"\{([^}]*)\}", query)
            assert selections
            assert all('cluster=~"$cluster", sweep=~"$sweep"' in each for each in selections), query


def test_panels_ask_a_question_and_lead_to_the_runbook() -> None:
    page = runbook_page()
    titles = [panel.title for panel in panels()]
    assert len(titles) == len(set(titles))
    for panel in panels():
        assert "?" in panel.question or panel.question.endswith("."), panel.title
        assert not panel.link or f'id="{panel.link}"' in page


def test_panels_do_not_overlap() -> None:
    for path in DASHBOARDS.glob("*.json"):
        taken: dict[tuple[int, int], str] = {}
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            place = panel["gridPos"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    assert x < 24
                    assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_provisioning_is_what_grafana_reads() -> None:
    folder = DASHBOARDS.parent / "provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "ganlab.yml").read_text())["providers"]
    assert provider["type"] == "file"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"


def _subset(given: Any, read: Any, path: str = "") -> list[str]:
    """Where `given` says something that `read` does not."""
    if isinstance(given, dict) and isinstance(read, dict):
        missing = [f"{path}{key}" for key in given if key not in read]
        return missing + [
            found for key in given.keys() & read.keys() for found in _subset(given[key], read[key], f"{path}{key}.")
        ]
    if isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        return [
            found
            for place, (one, other) in enumerate(zip(given, read, strict=True))
            for found in _subset(one, other, f"{path}{place}.")
        ]
    return [] if given == read else [path]


def _misfits(value: Any, kind: Any, path: str) -> typing.Iterator[str]:
    """Every value that is not of the type that Grafana's class declares for it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (Any, object) or isinstance(kind, typing.TypeVar):
        return
    if origin in (typing.Union, types.UnionType):
        if not any(not list(_misfits(value, each, path)) for each in arguments):
            yield f"{path}: {value!r} is none of {arguments}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: {value!r} is no list"
            return
        for place, each in enumerate(value):
            yield from _misfits(each, arguments[0], f"{path}[{place}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is no mapping"
            return
        for key, each in value.items():
            yield from _misfits(each, arguments[1], f"{path}[{key!r}]")
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{path}: {value!r} is none of {arguments}"
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        if value not in list(kind) and value not in [each.value for each in kind]:
            yield f"{path}: {value!r} is none of {list(kind)}"
    elif kind is float:
        if not isinstance(value, int | float):
            yield f"{path}: {value!r} is no number"
    elif isinstance(kind, type):
        if isinstance(value, dict) and hasattr(kind, "from_json"):  # a list whose elements from_json leaves as they are
            read = kind.from_json(value)
            yield from (
                f"{path}.{key}: unknown" for key in _subset(value, json.loads(json.dumps(read, cls=JSONEncoder)))
            )
            value = read
        if not isinstance(value, kind):
            yield f"{path}: {value!r} is no {kind.__name__}"
            return
        hints = typing.get_type_hints(kind) if hasattr(kind, "from_json") else {}
        for name, hint in hints.items():
            yield from _misfits(getattr(value, name, None), hint, f"{path}.{name}")
