"""Modes found by kind of model: table and figure of the mode-coverage experiments, from a finished sweep.

`ganlab run gaussians-modes` (or `stacked-digits-modes`) first, then
`python docs/experiments/modes.py sweeps/gaussians-modes`.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from finished import by_model, finished_sweep, history
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import t


def mean(values: np.ndarray) -> str:
    """Mean over seeds, its 95 % Student interval, and the standard deviation that published tables give."""
    if len(values) < 2:
        return f"{values.mean():.2f}"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.2f} ± {half:.2f} (sd {values.std(ddof=1):.2f})"


def main(folder: Path, results: xr.Dataset) -> None:
    """Print the table; write the figure beside this file."""
    last = results.isel(snapshot=-1)
    groups = by_model(last.isel(trial=last.modes_found.values >= 0))
    print(
        "| model | discriminator's weights | seeds | modes found, 95 % interval of the mean | high-quality share "
        "| divergence in nats |"
    )
    print("|---|---|---|---|---|---|")
    for name, group in groups.items():
        weights = int(np.nan_to_num(group.discriminator_weights[0]))
        print(
            f"| {name} | {f'{weights:,}' if weights else '–'} | {group.sizes['trial']} | "
            f"{mean(group.modes_found.values.astype(float))} | "
            f"{mean(group.high_quality_share.values)} | {mean(group.mode_divergence.values)} |"
        )

    figure = Figure(figsize=(8, 0.5 * len(groups) + 1.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, group in enumerate(groups.values()):
        found = group.modes_found.values
        axes.plot(found, place + np.linspace(-0.2, 0.2, len(found)), "o", ms=4, color="#1f5fa8", alpha=0.7)
        axes.plot([found.mean()] * 2, [place - 0.3, place + 0.3], color="#c8553d")
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.set(xlabel="modes found, one point for each seed, their mean in red")
    axes.spines[["top", "right"]].set_visible(False)
    print(f"\n{history(folder)}")
    figure.savefig(Path(__file__).with_name(f"{folder.name}-found.png"))


if __name__ == "__main__":
    main(*finished_sweep())
