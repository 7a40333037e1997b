"""Support and fidelity over training: table and figure of docs/experiments/snapshots.md, from a finished sweep.

`ganlab run digits-snapshots` first, then `python docs/experiments/snapshots.py sweeps/digits-snapshots`.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from finished import finished_sweep, history
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def main(folder: Path, results: xr.Dataset) -> None:
    """Print, for each trial, how support moves in the second half of training; write the figure beside this file."""
    late = slice(results.sizes["snapshot"] // 2, None)
    print(
        "| sampled from | seed | support, second half: least – most | moves between snapshots, rms of log | "
        "of its intervals, rms of log | slope of log support per doubling of steps |"
    )
    print("|---|---|---|---|---|---|")
    figure = Figure(figsize=(8, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    for trial in range(results.sizes["trial"]):
        row = results.isel(trial=trial)
        logs = np.log(row.support_size.values)
        moves = np.diff(logs[late])
        # A 95 % interval of a logarithm is about ±1.96 standard errors: what the test itself would make it move.
        noise = np.log(row.support_size_high.values / row.support_size_low.values)[late] / 3.92
        slope = np.polyfit(np.log2(results.step.values[late]), logs[late], 1)[0]
        sizes = row.support_size.values[late]
        decay = float(row.ema_decay)
        name = f"averaged ({decay})" if decay else "last weights"
        print(
            f"| {name} | {int(row.seed)} | {sizes.min():,.0f} – {sizes.max():,.0f} | "
            f"{np.sqrt((moves**2).mean()):.2f} | "
            f"{np.sqrt(2 * (noise**2).mean()):.2f} | {slope:+.2f} |"
        )
        style = {"color": "#1f5fa8" if decay else "#c8553d", "lw": 1.2, "alpha": 0.8}
        above.plot(results.step, row.support_size, label=name if not int(row.seed) else None, **style)
        below.plot(results.step, row.fidelity_ratio, **style)
    print("\nin the second half:")
    for decay, group in results.isel(snapshot=late).groupby("ema_decay"):
        passed = group.passes_quality_gate.values.astype(bool)
        mean = float(np.exp(np.log(group.support_size.values[passed]).mean()))
        fidelity = float(group.fidelity_ratio.mean())
        name = f"averaged ({decay})" if decay else "last weights"
        print(
            f"{name}: support {mean:,.0f} (geometric mean), {passed.mean():.0%} pass the gate, fidelity {fidelity:.2f}"
        )
    above.set(yscale="log", ylabel="effective number")
    above.legend(frameon=False, fontsize=8)
    below.set(ylabel="fidelity ratio", xlabel="generator steps")
    below.axhline(results.attrs["fidelity_gate"], color="#888888", ls=":", lw=1)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    print(f"\n{history(folder)}")
    figure.savefig(Path(__file__).with_name(f"{folder.name}.png"))


if __name__ == "__main__":
    main(*finished_sweep())
