"""From the description of a dashboard to Grafana's JSON, through Grafana's own typed builders.

Invariant: every panel carries the question it answers as its description, and a link to the runbook where there is an
alert about it; every query is limited to the sweep and cluster chosen.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import dashboard as grafana
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Kind = Literal["stat", "name", "series", "stack", "bars", "alerts"]

CHOSEN = 'cluster=~"$cluster", sweep=~"$sweep"'
SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
RUNBOOK = "http://$exporter/runbook"
COLOURS = {
    "completed": "green",
    "running": "blue",
    "waiting": "#8e8e8e",
    "interrupted": "orange",
    "stopped": "purple",
    "failed": "red",
    "joined": "green",
    "starting": "blue",
    "leaving": "orange",
    "lost": "red",
    "ended": "#8e8e8e",
    "pending": "#8e8e8e",
    "committed": "green",
    "to_write": "#8e8e8e",
    "damaged": "red",
    "measured": "green",
    "to_measure": "orange",
    "to_draw": "#8e8e8e",
    "given": "green",
    "missing": "orange",
}


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes
    ----------
    title, question
        What stands above it, and what it answers.
    queries
        PromQL by legend; ``@`` stands for the selection of the chosen sweep and cluster.
    unit
        Grafana's id of the unit.
    kind
        stat: one number; name: what a series is called; series: lines; stack: stacked areas; bars: one bar per series;
        alerts: a table of alerts.
    width, height
        On Grafana's grid of 24 columns.
    steps
        Value from which a colour holds, and the colour; the first is green.
    words
        What stands for a number: {0: ("idle", "orange")}.
    alert
        Of the runbook's entry to link to.
    """

    title: str
    question: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: Kind = "series"
    width: int = 12
    height: int = 8
    steps: tuple[tuple[float, str], ...] = ()
    words: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    alert: str = ""
    empty: str = "no data"


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels, each row under a heading."""

    uid: str
    title: str
    description: str
    rows: Mapping[str, tuple[Panel, ...]]


def as_json(board: Board) -> str:
    """The dashboard as Grafana imports it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["ganlab"])
        .readonly()
        .time("now-3h", "now")
        .timezone("browser")
        .refresh("30s")
        .tooltip(grafana.DashboardCursorSync.CROSSHAIR)
        .variables(_variables())
        .link(
            dashboard.DashboardLink("Other views")
            .type(grafana.DashboardLinkType.DASHBOARDS)
            .tags(["ganlab"])
            .include_vars(True)
            .keep_time(True)
        )
        .link(_link("Runbook", RUNBOOK))
    )
    y = number = 0
    for heading, panels in board.rows.items():
        number += 1
        made.with_row(dashboard.Row(heading).id(number).grid_pos(grafana.GridPos(h=1, w=24, x=0, y=y)))
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > 24:
                x, y = 0, y + panel.height
            number += 1
            place = grafana.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            made.with_panel(_panel(panel).id(number).grid_pos(place))
            x += panel.width
        y += panels[-1].height
    plain = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for place in (plain, *plain["panels"]):
        for link in place.get("links", ()):
            del link["placement"]  # in a menu, where newer Grafana would hide it
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _variables() -> list[Any]:
    def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
        return (
            dashboard.QueryVariable(name)
            .label(label)
            .datasource(SOURCE)
            .query(query)
            .refresh(grafana.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(grafana.VariableSort.ALPHABETICAL_ASC)
        )

    info = 'ganlab_build_info{cluster=~"$cluster"'
    return [
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        choice("cluster", "Cluster", "label_values(ganlab_build_info, cluster)").include_all(True).all_value(".*"),
        choice("sweep", "Sweep", f"label_values({info}}}, sweep)"),
        choice("exporter", "Exporter", f'label_values({info}, sweep=~"$sweep"}}, instance)').hide(
            grafana.VariableHide.HIDE_VARIABLE
        ),
    ]


def _panel(panel: Panel) -> Any:
    makers = {"stat": _stat, "name": _name, "series": _series, "stack": _series, "bars": _bars, "alerts": _alerts}
    made = makers[panel.kind](panel)
    made.title(panel.title).description(panel.question).datasource(SOURCE).unit(panel.unit).no_value(panel.empty)
    for place, (legend, query) in enumerate(panel.queries.items()):
        target = prometheus.Dataquery().expr(query.replace("@", CHOSEN)).legend_format(legend).ref_id(chr(65 + place))
        if panel.kind == "alerts":
            target.format(PromQueryFormat.TABLE).instant()
        made.with_target(target)
    if panel.steps:
        steps = [grafana.Threshold(value=None, color="green")]
        steps += [grafana.Threshold(value=float(value), color=colour) for value, colour in panel.steps]
        made.thresholds(dashboard.ThresholdsConfig().mode(grafana.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.words:
        results = {
            str(value): grafana.ValueMappingResult(text=text, color=colour, index=place)
            for place, (value, (text, colour)) in enumerate(panel.words.items())
        }
        made.mappings([grafana.ValueMap(options=results)])
    if panel.alert:
        made.links([_link(f"Runbook: {panel.alert}", f"{RUNBOOK}#{panel.alert}")])
    return made


def _stat(panel: Panel) -> Any:
    made = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    plain = panel.words or panel.unit.startswith("dateTime")
    made.graph_mode(models.BigValueGraphMode.NONE if plain else models.BigValueGraphMode.AREA)
    return made.color_mode(
        models.BigValueColorMode.BACKGROUND if panel.steps or panel.words else models.BigValueColorMode.VALUE
    )


def _name(panel: Panel) -> Any:
    return stat.Panel().text_mode(models.BigValueTextMode.NAME).graph_mode(models.BigValueGraphMode.NONE)


def _series(panel: Panel) -> Any:
    made = (
        timeseries.Panel()
        .line_width(1 if panel.kind == "stack" else 2)
        .fill_opacity(60 if panel.kind == "stack" else 6)
        .show_points(models.VisibilityMode.NEVER)
        .axis_soft_min(0)
        .legend(
            common.VizLegendOptions()
            .display_mode(models.LegendDisplayMode.LIST)
            .placement(models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING))
    )
    if panel.kind == "stack":
        made.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL))
    for name, colour in COLOURS.items():
        if any(legend.startswith("{{state}}") for legend in panel.queries):
            fixed = grafana.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})
            made.override_by_name(name, [fixed])
    return made


def _bars(panel: Panel) -> Any:
    return (
        bargauge.Panel()
        .display_mode(models.BarGaugeDisplayMode.BASIC)
        .orientation(models.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .min(0)
    )


def _alerts(panel: Panel) -> Any:
    link = _link("What to do", f"{RUNBOOK}#${{__data.fields.alertname}}")
    hidden = {name: True for name in ("Time", "Value", "__name__", "alertstate", "instance", "job", "cluster")}
    return (
        table.Panel()
        .data_links([link])
        .with_transformation(grafana.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden}))
    )


def _link(title: str, url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(grafana.DashboardLinkType.LINK).url(url).target_blank(True)
