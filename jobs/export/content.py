"""Exported content of a sweep: tables by dimension, and one run for each trial.

Invariant: tables hold all results; runs hold numbers on diversity only of snapshots that pass the quality gate.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.history import read_history
from storage.layout import SweepLayout
from storage.results import known_value, open_settings, read_results
from storage.statistics import STATISTICS, TRIAL

if TYPE_CHECKING:
    import pandas as pd

SHOWN = [statistic for statistic in STATISTICS if statistic.tables or statistic.name == "fidelity_ratio"]


@dataclass(frozen=True)
class Run:
    """One trial, as experiment trackers have it.

    Attributes
    ----------
    name : str
        Id of the trial.
    settings : dict
        Family, seed, status, and each hyperparameter that varies.
    metrics : dict of int to dict
        By training step: logged losses and rates; at snapshots also the statistics of the report's tables.
    """

    name: str
    settings: dict[str, Any]
    metrics: dict[int, dict[str, float]]


@dataclass(frozen=True)
class Content:
    """Results of a sweep, read into memory once.

    Raises
    ------
    ValueError
        If the sweep has no results yet.
    DamagedError
        If they can't be read.
    """

    layout: SweepLayout

    @cached_property
    def results(self) -> Any:
        """The results Dataset."""
        return read_results(self.layout)

    @property
    def title(self) -> str:
        """Name of the sweep."""
        return str(self.results.attrs.get("title", self.layout.root.name))

    @cached_property
    def tables(self) -> dict[str, "pd.DataFrame"]:
        """Tables by name: variables of the same dimensions are columns of one table, coordinates come first.

        ``trial-snapshot`` holds the figures of every snapshot; ``sweep`` what holds for all trials; ``setting`` the means
        over the seeds of each setting, where there are any.
        """
        results = self.results
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, variable in results.data_vars.items():
            groups.setdefault(variable.dims, []).append(str(name))
        tables = {}
        for dims, names in sorted(groups.items()):
            if dims:
                frame = results[names].to_dataframe().reset_index()
                first = [str(name) for name in frame.columns if name not in names]
                tables["-".join(dims)] = frame[[*first, *names]]
            else:
                tables["sweep"] = _row(results[names])
        settings = open_settings(self.layout)
        if settings is not None:
            tables["setting"] = settings.load().to_dataframe().reset_index()
        return tables

    @cached_property
    def runs(self) -> list[Run]:
        """Every trial, in the order of the sweep."""
        results = self.results
        alone = [str(name) for name, each in results.coords.items() if each.dims == ("trial",) and name != "trial"]
        return [self._run(results.isel(trial=place), alone) for place in range(results.sizes["trial"])]

    def _run(self, trial: Any, coordinates: list[str]) -> Run:
        name = str(trial["trial"].item())
        columns = read_history(self.layout.trial(name).history)
        metrics: dict[int, dict[str, float]] = {}
        for place, step in enumerate(columns.get("step", [])):
            row = {key: float(values[place]) for key, values in columns.items() if key != "step"}
            metrics[int(step)] = {key: value for key, value in row.items() if np.isfinite(value)}
        for place in range(trial.sizes.get("snapshot", 0)):
            here = trial.isel(snapshot=place)
            passes = bool(here["passes_quality_gate"]) if "passes_quality_gate" in here else True
            told = {
                statistic.name: float(here[statistic.name])
                for statistic in SHOWN
                if statistic.dims == TRIAL
                and statistic.kind != "str"
                and statistic.name in here
                and (passes or "quality" in statistic.tables or statistic.name == "fidelity_ratio")
            }
            told = {key: value for key, value in told.items() if np.isfinite(value)}
            if told:
                metrics.setdefault(int(here["step"]), {}).update(told, passes_quality_gate=float(passes))
        values = {key: known_value(trial[key].item()) for key in coordinates}
        settings = {key: value for key, value in values.items() if value is not None}
        return Run(name, settings, dict(sorted(metrics.items())))


def _row(scalars: Any) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({str(name): [value.item()] for name, value in scalars.data_vars.items()})
