"""Table, fit and figure of docs/experiments/diversity.md, from a finished sweep.

`ganlab run digits-diversity` first, then `python docs/experiments/diversity.py sweeps/digits-diversity`; once more after
`ganlab measure sweeps/digits-diversity --embedding classifier`.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from finished import finished_sweep, history
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import linregress, t


def slope(weights: np.ndarray, support: np.ndarray) -> tuple[float, float, float]:
    """Exponent of support ∝ weights^exponent over trials, with its 95 % Student interval."""
    fit = linregress(np.log(weights), np.log(support))
    half = t.ppf(0.975, len(weights) - 2) * fit.stderr
    return fit.slope, fit.slope - half, fit.slope + half


def main(folder: Path, results: xr.Dataset) -> None:
    """Print the table and the fits; write the figure beside this file."""
    last = results.isel(snapshot=-1)
    print("| width | weights | passed the gate | support, geometric mean (least – most) | realistic only | fidelity |")
    print("|---|---|---|---|---|---|")
    for width, group in last.groupby("discriminator_width"):
        passed = group.isel(trial=group.passes_quality_gate.values)
        sizes, realistic = passed.support_size.values, passed.support_size_realistic.values
        said = (
            "gate not passed"
            if not len(sizes)
            else (f"{np.exp(np.log(sizes).mean()):,.0f} ({sizes.min():,.0f} – {sizes.max():,.0f})")
        )
        only = "" if not len(sizes) else f"{np.exp(np.log(realistic).mean()):,.0f}"
        gate = f"{len(sizes)} of {group.sizes['trial']}"
        fidelity = f"{float(group.fidelity_ratio.mean()):.2f}"
        print(f"| {int(width)} | {int(group.discriminator_weights[0]):,} | {gate} | {said} | {only} | {fidelity} |")
    print(
        f"| real digits | | | {float(last.real_support_size):,.0f} ({float(last.real_support_size_low):,.0f} – "
        f"{float(last.real_support_size_high):,.0f}, 95 % interval) | | 1 |\n"
    )
    kept = last.isel(trial=last.passes_quality_gate.values)
    for name in ("support_size", "support_size_realistic"):
        for words, least, most in (("all widths", 0, 99), ("widths 8 to 16", 8, 16), ("widths 16 to 32", 16, 32)):
            width = kept.discriminator_width.values
            some = kept.isel(trial=(least <= width) & (width <= most))
            if some.sizes["trial"] < 4:
                print(f"{name}, {words}: too few trials pass the gate for a fit ({some.sizes['trial']})")
                continue
            exponent, low, high = slope(some.discriminator_weights.values, some[name].values)
            print(f"{name} ∝ weights^{exponent:.2f} ({low:.2f} to {high:.2f}), {words}, {some.sizes['trial']} trials")
    across = np.corrcoef(kept.fidelity_ratio, np.log(kept.support_size))[0, 1]
    print(f"correlation of log support with the fidelity ratio over these trials: {across:.2f}")

    figure = Figure(figsize=(8, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.axhspan(
        float(last.real_support_size_low), float(last.real_support_size_high), color="#c8553d", alpha=0.18, lw=0
    )
    axes.axhline(float(last.real_support_size), color="#c8553d", ls="--", label="real digits, measured the same way")
    passed = last.passes_quality_gate.values
    jitter = np.exp(np.linspace(-0.02, 0.02, 5))[last.seed.values % 5]
    verdict = {"color": "#1f5fa8", "label": "one GAN, 95 % interval"}
    none = {"color": "#888888", "mfc": "none", "label": "quality gate not passed"}
    for chosen, style in ((passed, verdict), (~passed, none)):
        if chosen.any():
            x, y = (last.discriminator_weights.values * jitter)[chosen], last.support_size.values[chosen]
            error = np.abs([y - last.support_size_low.values[chosen], last.support_size_high.values[chosen] - y])
            axes.errorbar(x, y, error, fmt="o", ms=4, lw=1, **style)
    means = [
        (float(g.discriminator_weights[0]), float(np.exp(np.log(g.support_size).mean())))
        for _, g in kept.groupby("discriminator_width")
    ]
    axes.plot(*np.array(means).T, color="#1f5fa8", lw=1.5, label="geometric mean of the seeds")
    axes.set(xscale="log", yscale="log", xlabel="weights of the discriminator", ylabel="effective number (order 2)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    space = "" if results.attrs["embedding"] == "pixels" else f"-{results.attrs['embedding']}"
    print(f"\n{history(folder)}")
    figure.savefig(Path(__file__).with_name(f"{folder.name}{space}.png"))


if __name__ == "__main__":
    main(*finished_sweep())
