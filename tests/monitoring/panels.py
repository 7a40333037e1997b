"""The committed dashboards as lists of panels, asked of a real Prometheus, and the page that shows what they answered."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.monitoring.prometheus import Prometheus

DASHBOARDS = Path(__file__).parents[2] / "monitoring" / "grafana" / "dashboards"
ORDER = ("ganlab-glance", "ganlab-training", "ganlab-samples", "ganlab-cluster")


@dataclass(frozen=True)
class Panel:
    """What a dashboard's file says of one panel."""

    board: str
    row: str
    title: str
    question: str
    unit: str
    kind: str
    queries: tuple[tuple[str, str], ...]
    words: Mapping[str, str]
    link: str


def panels() -> Iterator[Panel]:
    """Every panel of every dashboard, in the order in which a person meets them."""
    for uid in ORDER:
        board = json.loads((DASHBOARDS / f"{uid}.json").read_text("utf-8"))
        row = ""
        for panel in board["panels"]:
            if panel["type"] == "row":
                row = panel["title"]
                continue
            defaults = panel["fieldConfig"]["defaults"]
            words = {
                value: result["text"]
                for mapping in defaults.get("mappings", ())
                for value, result in mapping["options"].items()
            }
            queries = tuple((target["legendFormat"], target["expr"]) for target in panel["targets"])
            link = panel["links"][0]["title"].removeprefix("Runbook: ") if panel.get("links") else ""
            yield Panel(
                board["title"],
                row,
                panel["title"],
                panel["description"],
                defaults["unit"],
                panel["type"],
                queries,
                words,
                link,
            )


def filled(query: str, sweep: str) -> str:
    """The query as Grafana sends it when this sweep is chosen, of any cluster."""
    return query.replace("$cluster", ".*").replace("$sweep", sweep)


def brief(query: str) -> str:
    """The query without the selection that is part of every one."""
    chosen = 'cluster=~"$cluster", sweep=~"$sweep"'
    return query.replace(f", {chosen}", "").replace(f"{{{chosen}}}", "")


Answers = dict[tuple[str, str], list[dict[str, Any]]]


def ask(prometheus: Prometheus, sweep: str, start: float) -> Answers:
    """What every query answered since `start`, by panel and query."""
    return {
        (panel.title, query): prometheus.values(filled(query, sweep), start)
        for panel in panels()
        for _, query in panel.queries
    }


def page(answers: Answers, about: str) -> str:
    """The answers as a page for people."""
    lines = [
        "# What the dashboards show",
        "",
        "Grafana itself is in no package of Debian, so this page stands in for its screen: every panel of every "
        "dashboard, in order, with the question it answers, its query, and what a real Prometheus answered.",
        "",
        about,
        "",
        "*last* is the value at the end of that run (*none*: there is none any more), *range* the least and the largest "
        "on the way. Every query is of the cluster and the sweep chosen above the dashboard; that part is left out.",
    ]
    end = max(series["values"][-1][0] for answer in answers.values() for series in answer)
    board = row = ""
    for panel in panels():
        if panel.board != board:
            board, row = panel.board, ""
            lines += ["", f"## {board.removeprefix('ganlab ')}"]
        if panel.row != row:
            row = panel.row
            lines += ["", f"### {row}"]
        lines += ["", f"**{panel.title}.** {panel.question}"]
        if panel.link:
            lines[-1] += f" [What to do](runbook.md#{panel.link.lower()})"
        lines += ["", "| series | last | range |", "|---|---|---|"]
        for legend, query in panel.queries:
            lines += [_row(panel, legend, series, end) for series in answers[panel.title, query]]
        lines += ["", "  \n".join(f"`{brief(query)}`" for _, query in panel.queries)]
    return "\n".join(lines) + "\n"


def _row(panel: Panel, legend: str, series: dict[str, Any], end: float) -> str:
    labels = series["metric"]
    name = legend
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    if panel.kind == "table":
        name = f"{labels['alertname']} ({labels['severity']})"
    values = [float(value) for _, value in series["values"]]
    ended = series["values"][-1][0] < end - 3
    if panel.kind == "table":
        return f"| {name} | {'no more' if ended else 'firing'} | |"
    least, most = min(values), max(values)
    spread = "" if least == most and not ended else f"{shown(least, panel)} – {shown(most, panel)}"
    return f"| {name} | {'none' if ended else shown(values[-1], panel)} | {spread} |"


def shown(value: float, panel: Panel) -> str:
    """A value as Grafana writes it in the panel's unit, nearly."""
    if (word := panel.words.get(f"{value:g}")) is not None:
        return word
    if panel.unit == "percentunit":
        return f"{value:.1%}"
    if panel.unit == "percent":
        return f"{value:.1f}%"
    if panel.unit == "s":
        return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"
    if panel.unit == "dateTimeFromNow":
        away = value / 1000 - time.time()
        return f"in {away / 60:.3g} min" if away > 0 else f"{-away / 60:.3g} min ago"
    if panel.unit in ("bytes", "Bps"):
        for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
            if abs(value) < 1024 or unit == "TiB":
                return f"{value:.3g} {unit}" + ("/s" if panel.unit == "Bps" else "")
            value /= 1024
    suffix = "/s" if panel.unit == "ops" else ""
    for unit in ("", "K", "Mil", "Bil"):
        if abs(value) < 1000 or unit == "Bil":
            return f"{value:.3g}{' ' if unit else ''}{unit}{suffix}"
        value /= 1000
    raise AssertionError(value)
