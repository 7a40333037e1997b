"""Effective number by kind of model: table and figure of docs/experiments/families.md and vae.md, from a finished sweep.

`ganlab run digits-families` first, then `python docs/experiments/families.py sweeps/digits-families`. Works on any sweep.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from finished import by_model, finished_sweep, history
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from ganlab.statistics.birthday import sample_size_at_half
from ganlab.statistics.matching import at_fidelity


def geometric(values: np.ndarray) -> str:
    """Geometric mean of the seeds, with the least and the most."""
    if not len(values):
        return "gate not passed"
    return f"{np.exp(np.log(values).mean()):,.0f} ({values.min():,.0f} – {values.max():,.0f})"


def main(folder: Path, results: xr.Dataset) -> None:
    """Print the table; write the figure beside this file."""
    last = results.isel(snapshot=-1)
    print(
        "| model | discriminator's weights | passed the gate | support | sample size at ½ | realistic only | fidelity "
        "| the first model's support at this fidelity | recall | E(G(z)) − z | G(E(x)) − x |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    groups = by_model(last)
    first = next(iter(by_model(results).values()))
    for name, group in groups.items():
        passed = group.isel(trial=group.passes_quality_gate.values)
        weights = int(group.discriminator_weights[0]) if "discriminator_weights" in group.coords else 0
        said = f"{weights:,}" if weights else "–"
        ratio = float(group.fidelity_ratio.mean())
        matched = at_fidelity(
            np.where(first.passes_quality_gate, first.fidelity_ratio, np.nan),
            first.support_size.values,
            ratio,
            geometric=True,
        )
        matched = matched[np.isfinite(matched)]
        reached = f"{geometric(matched)}, {len(matched)} of {first.sizes['trial']}" if len(matched) else "not reached"
        code, back = float(group.latent_reconstruction_error.mean()), float(group.reconstruction_error.mean())
        print(
            f"| {name} | {said} | {passed.sizes['trial']} of {group.sizes['trial']} | "
            f"{geometric(passed.support_size.values)} | {geometric(passed.sample_size_at_half.values)} | "
            f"{geometric(passed.support_size_realistic.values)} | {ratio:.2f} | {reached} | "
            f"{float(group.recall.mean()):.2f} | "
            f"{'–' if np.isnan(code) else f'{code:.2f}'} | {'–' if np.isnan(back) else f'{back:.0f}'} |"
        )
    low, high = float(last.real_support_size_low), float(last.real_support_size_high)
    real = float(last.real_support_size)
    half = f"{sample_size_at_half(real):,.0f}"
    print(f"| real images | | | {real:,.0f} ({low:,.0f} – {high:,.0f}, 95 %) | {half} | | 1 | | | | |")

    figure = Figure(figsize=(8, 0.5 * len(groups) + 1.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.axvspan(low, high, color="#c8553d", alpha=0.18, lw=0, label="real images, 95 % interval")
    for place, group in enumerate(groups.values()):
        passed = group.passes_quality_gate.values
        for chosen, style in ((passed, {"color": "#1f5fa8"}), (~passed, {"color": "#888888", "mfc": "none"})):
            some = group.isel(trial=chosen)
            if some.sizes["trial"]:
                x = some.support_size.values
                error = np.abs([x - some.support_size_low.values, some.support_size_high.values - x])
                axes.errorbar(x, place + 0.1 * (some.seed.values % 5 - 1), xerr=error, fmt="o", ms=4, lw=1, **style)
    axes.set(xscale="log", xlabel="effective number (order 2); grey: quality gate not passed")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    print(f"\n{history(folder)}")
    figure.savefig(Path(__file__).with_name(f"{folder.name}.png"))


if __name__ == "__main__":
    main(*finished_sweep())
