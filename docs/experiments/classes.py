"""Effective number class by class: table and figure of the class-conditional experiments, from a finished sweep.

`ganlab run digits-classes` first, then `python docs/experiments/classes.py sweeps/digits-classes`.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from finished import finished_sweep, history
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from ganlab.statistics.birthday import sample_size_at_half


def main(folder: Path, results: xr.Dataset) -> None:
    """Print the table; write the figure beside this file."""
    every = results.isel(snapshot=-1)
    last = every.isel(trial=every.passes_quality_gate.values)
    print(
        "| class | seeds | support, geometric mean (least – most) | s at ½ | largest mode | nonuniform | real images |"
    )
    print("|---|---|---|---|---|---|---|")
    figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, label in enumerate(last["class"].values):
        here = last.isel({"class": place})
        sizes = here.class_support_size.values
        mean = float(np.exp(np.log(sizes).mean()))
        nonuniform = int(here.class_nonuniform.values.astype(bool).sum())
        print(
            f"| {label} | {len(sizes)} | {mean:,.0f} ({sizes.min():,.0f} – {sizes.max():,.0f}) | "
            f"{sample_size_at_half(mean):,.0f} | {float(here.class_largest_mode_mass.max()):.1%} | "
            f"{nonuniform} of {len(sizes)} | {float(here.real_class_support_size):,.0f} |"
        )
        x = place + np.linspace(-0.15, 0.15, len(sizes))
        error = np.abs([sizes - here.class_support_size_low.values, here.class_support_size_high.values - sizes])
        axes.errorbar(x, sizes, error, fmt="o", ms=4, lw=1, color="#1f5fa8")
        low, high = float(here.real_class_support_size_low), float(here.real_class_support_size_high)
        axes.fill_between([place - 0.3, place + 0.3], low, high, color="#c8553d", alpha=0.15, lw=0)
        axes.plot([place - 0.3, place + 0.3], [float(here.real_class_support_size)] * 2, color="#c8553d")
    ratio = last.class_support_size / last.real_class_support_size
    means = np.log(last.class_support_size).mean("trial")
    order = spearmanr(means, last.real_class_support_size)
    print(
        f"\nshare of the real class's support: {float(ratio.min()):.2f} to {float(ratio.max()):.2f}; "
        f"rank correlation with it over classes {order.statistic:.2f} (p {order.pvalue:.3f})"
    )
    print(f"nonuniformity {float(last.class_nonuniformity.min()):.1f} to {float(last.class_nonuniformity.max()):.1f}")
    print(
        f"{last.sizes['trial']} of {every.sizes['trial']} trials pass the gate, and are shown; "
        f"fidelity {float(last.fidelity_ratio.mean()):.2f}"
    )
    words = ", ".join(sorted(set(last.copying.values.astype(str))))
    print(
        f"copying: {words}, {float(last.copied_share.min()):.1%} to {float(last.copied_share.max()):.1%} of the samples; "
        f"a duplicate is a pair within {float(last.threshold):.3g}"
    )
    if "embedding_accuracy" in last:
        print(f"the classifier of the distances names {float(last.embedding_accuracy):.1%} of held-out images")
    print(history(folder))
    axes.set_xticks(range(last.sizes["class"]), [str(label) for label in last["class"].values])
    axes.set(yscale="log", xlabel="class", ylabel="effective number (red: real images, 95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_name(f"{folder.name}.png"))


if __name__ == "__main__":
    main(*finished_sweep())
