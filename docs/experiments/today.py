"""Models of today beside a DCGAN: tables, figure and samples of docs/experiments/today.md, from finished sweeps.

`ganlab run digits-today` first, then `python docs/experiments/today.py sweeps/digits-today`. With a second folder, of one
model whose trials have several snapshots, that model is compared with the others at the fidelity of each.
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from finished import finished_sweep, history, read_sweep
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator, ScalarFormatter
from PIL import Image

from ganlab.statistics.matching import at_fidelity
from storage.layout import SweepLayout
from storage.reference import read_reference
from storage.samples import Samples

COLUMNS, ENLARGED = 24, 4  # of the picture of samples
MATCHED = "support_size", "distinct_at_common_size", "recall", "copied_share"


def name_of(trial: xr.Dataset) -> str:
    """Family of a trial, with the steps of its sampler."""
    steps = steps_of(trial)
    return str(trial.family.item()) + ("" if np.isnan(steps) else f", {steps:g} steps")


def steps_of(trial: xr.Dataset) -> float:
    """Steps of a trial's sampler; NaN where it has none."""
    return float(trial.sampling_steps) if "sampling_steps" in trial.coords else np.nan


def by_name(results: xr.Dataset) -> dict[str, xr.Dataset]:
    """The completed trials by `name_of`, in the order of the sweep."""
    results = results.isel(trial=results.status.values == "completed")
    names = [name_of(results.isel(trial=trial)) for trial in range(results.sizes["trial"])]
    return {
        name: results.isel(trial=[at for at, other in enumerate(names) if other == name])
        for name in dict.fromkeys(names)
    }


def spread(values: np.ndarray) -> str:
    """Geometric mean of the seeds, with the least and the most."""
    return f"{np.exp(np.log(values).mean()):,.0f} ({values.min():,.0f} – {values.max():,.0f})"


def table(groups: dict[str, xr.Dataset]) -> None:
    """Print a row for each model at its last snapshot."""
    print(
        "| model | gate | fidelity | effective number | diversity ratio | distinct among all samples | recall | coverage "
        "| realistic only | copied | would be seen | copying | authentic |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name, group in groups.items():
        words = sorted(set(group.quality_reason.values.astype(str)))
        cells = [", ".join(words), f"{float(group.fidelity_ratio.mean()):.2f}", spread(group.support_size.values)]
        cells += [f"{np.exp(np.log(group.diversity_ratio.values).mean()):.2f}", spread(group.distinct_seen.values)]
        cells += [f"{float(group[each].mean()):.2f}" for each in ("recall", "coverage")]
        cells += [spread(group.support_size_realistic.values)]
        cells += [f"{float(group.copied_share.mean()):.2%} (at most {float(group.copied_share_high.max()):.2%})"]
        cells += [
            f"{float(group.copied_share_seen.max()):.1%}",
            ", ".join(sorted(set(group.copying.values.astype(str)))),
        ]
        cells += [f"{float(group.authenticity.mean()):.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")
    any_trial = next(iter(groups.values())).isel(trial=0)
    low, real, high = (float(any_trial[f"real_support_size{end}"]) for end in ("_low", "", "_high"))
    authentic = float(any_trial.held_out_authenticity)
    print(
        f"| real images | | 1 | {real:,.0f} ({low:,.0f} – {high:,.0f}, 95 %) | 1 | | | | | | | | {authentic:.2f} |"
        f"\n\na duplicate is a pair within {float(any_trial.threshold):.1f}; {int(any_trial.samples):,} samples"
    )


def matched(groups: dict[str, xr.Dataset], snapshots: xr.Dataset) -> None:
    """Print, for each model, the trials of `snapshots` at its fidelity ratio, beside its own figures."""
    ratios = snapshots.fidelity_ratio.values
    print(f"\n| model | at fidelity | {' | '.join(MATCHED)} | {name_of(snapshots.isel(trial=0))}, trials | the same |")
    print("|---|---|---|---|---|---|---|---|")
    for name, group in groups.items():
        ratio = float(group.fidelity_ratio.mean())
        own = [figure(each, group[each].values) for each in MATCHED]
        reached = {
            each: at_fidelity(ratios, snapshots[each].values, ratio, geometric=each == "support_size")
            for each in MATCHED
        }
        known = np.isfinite(reached["support_size"])
        others = ", ".join(figure(each, values[known]) for each, values in reached.items()) if known.any() else "–"
        print(f"| {name} | {ratio:.2f} | {' | '.join(own)} | {known.sum()} of {len(known)} | {others} |")


def figure(name: str, values: np.ndarray) -> str:
    """A figure of several trials: shares by their mean, numbers by `spread`."""
    return f"{values.mean():.2f}" if name in ("recall", "copied_share") else spread(values)


def plot(groups: dict[str, xr.Dataset], path: Path) -> None:
    """Draw diversity, copies and quality against the steps of the diffusion models' sampler."""
    drawing = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(drawing)
    panels = drawing.subplots(1, 3)
    first = next(iter(groups.values()))
    for name, group in groups.items():
        steps = steps_of(group.isel(trial=0))
        diffusion = name.startswith("diffusion")
        colour = {"dcgan": "#888888", "r3gan": "#b8860b", "flow": "#2e8b57"}.get(name.split(",")[0], "#1f5fa8")
        place = {"dcgan": 4.0, "r3gan": 5.5}[name] if np.isnan(steps) else steps
        x = place * 1.06 ** (group.seed.values - 1) * (1.0 if diffusion or place < 10 else 1.25)
        passed = group.passes_quality_gate.values.astype(bool)
        for chosen, fill in ((passed, colour), (~passed, "none")):
            some, at = group.isel(trial=chosen), x[chosen]
            if not some.sizes["trial"]:
                continue
            style = {"fmt": "o", "ms": 4.5, "lw": 1, "color": colour, "mfc": fill}
            y, low, high = (some[f"support_size{end}"].values for end in ("", "_low", "_high"))
            label = None if diffusion and steps != 50 else ("diffusion" if diffusion else name)
            panels[0].errorbar(at, y, yerr=[y - low, high - y], label=label, **style)
            panels[1].plot(at, some.authenticity, "o", ms=4.5, color=colour, mfc=fill)
            share, high = some.copied_share.values, some.copied_share_high.values
            panels[1].errorbar(at, share, yerr=[share, high - share], fmt="s", ms=3.5, lw=1, color=colour, mfc=fill)
            panels[2].plot(at, some.fidelity_ratio, "o", ms=4.5, color=colour, mfc=fill)
            panels[2].plot(at, some.recall, "^", ms=4.5, color=colour, mfc=fill)
    real, real_style = first.isel(trial=0), {"color": "#c8553d", "ls": "--", "lw": 1}
    panels[0].axhline(float(real.real_support_size), label="real images", **real_style)
    panels[0].set(yscale="log", ylabel="effective number (order 2)")
    panels[0].yaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0].legend(frameon=False, fontsize=8)
    panels[1].axhline(float(real.held_out_authenticity), **real_style)
    panels[1].axhline(float(real.copied_share_seen), color="#888888", ls=":", lw=1)
    panels[1].set(ylim=(-0.03, 1), ylabel="authentic (dots), copied (squares)")
    panels[2].axhline(first.attrs["fidelity_gate"], color="#888888", ls=":", lw=1)
    panels[2].set(ylim=(0, 1.5), ylabel="fidelity ratio (dots), recall (triangles)")
    for axes in panels:
        axes.set(xscale="log", xlabel="steps of the sampler (left: GANs)", xlim=(3, 400))
        axes.set_xticks([10, 50, 250])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path)


def picture(folder: Path, groups: dict[str, xr.Dataset], path: Path) -> None:
    """Write the first samples of the first seed of each model, and the first real images, one row each."""
    layout, rows = SweepLayout(folder), []
    for group in groups.values():
        trial = group.isel(trial=0)
        stored = Samples(layout.trial(str(trial.trial.item())))
        last = stored.steps[int(trial.step)]
        rows.append(stored.read(last.start, last.start + COLUMNS))
    rows.append(read_reference(layout).read(0, COLUMNS))
    lines = [np.pad(row, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=128)[:, 0] for row in rows]
    image = Image.fromarray(np.concatenate([np.concatenate(list(line), axis=1) for line in lines]))
    image.resize((image.width * ENLARGED, image.height * ENLARGED), Image.Resampling.NEAREST).save(path)
    print(f"\nrows of {path.name}: {'; '.join(groups)}; real images")


def main(folders: list[Path], results: xr.Dataset, snapshots: xr.Dataset | None) -> None:
    """Print the tables; write the figure and the picture of samples beside this file, by the name of the first folder."""
    groups = by_name(results.isel(snapshot=-1))
    table(groups)
    if snapshots is not None:
        matched(groups, snapshots)
    for each in folders:
        print(f"\n{each.name}: {history(each)}")
    folder = folders[0]
    here = Path(__file__).parent
    plot(groups, here / f"{folder.name}.png")
    picture(folder, groups, here / f"{folder.name}-samples.png")


if __name__ == "__main__":
    second = [Path(each) for each in sys.argv[2:3]]
    folder, results = finished_sweep(sys.argv[1:2] if second else None)
    main([folder, *second], results, read_sweep(second[0]) if second else None)
