"""Tables, fits and figure of docs/experiments/published-size.md, from a finished sweep.

`ganlab run fashion-diversity --out sweeps/fashion-60k` first, then
`python docs/experiments/published_size.py sweeps/fashion-60k`. Works on any sweep of discriminator widths with snapshots.
With `fidelity` after the folder, snapshots count by their fidelity ratio alone, as when the page's criteria were written.
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from finished import finished_sweep, history
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from scipy.stats import linregress, t

from ganlab.statistics.birthday import sample_size_at_half
from ganlab.statistics.matching import at_fidelity, matched_fidelity

DISTINCT_AMONG = 10_000  # samples


def by_fidelity_alone(results: xr.Dataset) -> xr.Dataset:
    """The results with the quality gate of version 0.1.0: the median distance, and neither noise, blur nor copies."""
    passed = results.fidelity_ratio <= results.attrs["fidelity_gate"]
    counted = results.fidelity_ratio.where(passed & (results.status == "completed"))
    return results.assign(passes_quality_gate=passed, matched_fidelity=matched_fidelity(counted.values))


def columns(results: xr.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Figures of each trial by name: at matched fidelity, and unmatched at the last snapshot."""
    found = {name: results[name].values for name in ("support_size", "recall", "coverage", "fidelity_ratio")}
    sizes = np.multiply.outer(results.samples.values, results.sample_multiple.values)
    found["distinct"] = np.array(
        [
            [np.interp(DISTINCT_AMONG, *each) for each in zip(*trial, strict=True)]
            for trial in zip(sizes, results.distinct_expected.values, strict=True)
        ]
    )
    counts = results.passes_quality_gate.values & (results.status.values == "completed")[:, None]
    fidelity = np.where(counts, results.fidelity_ratio.values, np.nan)
    ratio = float(results.matched_fidelity)
    return {
        name: (at_fidelity(fidelity, values, ratio, geometric=name == "support_size"), values[:, -1])
        for name, values in found.items()
    }


def student(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of some values with its 95 % Student interval; the ends are NaN for one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def exponents(results: xr.Dataset, values: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Exponent of a figure ∝ weights^exponent: a fit for each seed of two trials or more and its mean, and of all."""
    known = np.isfinite(values) & (values > 0)
    x, y = np.log(results.discriminator_weights.values[known]), np.log(values[known])
    seeds = results.seed.values[known]
    fitted = [seed for seed in np.unique(seeds) if (seeds == seed).sum() > 1]
    if not fitted:
        return (np.nan,) * 3, (np.nan,) * 3
    each = [linregress(x[seeds == seed], y[seeds == seed]).slope for seed in fitted]
    fit = linregress(x, y)
    half = t.ppf(0.975, len(x) - 2) * fit.stderr
    return student(np.array(each)), (fit.slope, fit.slope - half, fit.slope + half)


def words(triple: tuple[float, float, float]) -> str:
    """A number with its interval, to two decimals."""
    return "{:.2f} ({:.2f} to {:.2f})".format(*triple).replace("-", "−")


def geometric(values: np.ndarray) -> str:
    """Geometric mean of the seeds that have a value, with the least and the most."""
    known = values[np.isfinite(values)]
    if not len(known):
        return "–"
    return f"{np.exp(np.log(known).mean()):,.0f} ({known.min():,.0f} – {known.max():,.0f})"


def verdict(results: xr.Dataset, support: np.ndarray) -> str:
    """Verdict by the criteria of the page, written before the trainings, on the exponent and of the largest width."""
    _, low, high = exponents(results, support)[0]
    growth = "growth" if low > 0 else "no growth shown (the interval of the exponent holds 0 or lies below)"
    linear = "near-linear (the interval holds 1)" if low <= 1 <= high else "not near-linear (the interval excludes 1)"
    widths = results.discriminator_width.values
    known = np.isfinite(support)
    largest, before = sorted(set(widths[known].tolist()))[-1:-3:-1]
    of_largest, of_before = (np.log(support[known & (widths == width)]) for width in (largest, before))
    gain = of_largest.mean() - of_before.mean()
    _, below, above = student(of_before)
    levels = "levelling off" if gain < above - below else "no levelling off"
    return (
        f"{growth}; {linear}; {levels}: width {largest} has {np.exp(gain):.2f} times that of {before}, "
        f"whose interval over seeds spans a factor of {np.exp(above - below):.2f}"
    )


def copies(last: xr.Dataset) -> str:
    """Statement on copies of training images among the last samples of all trials."""
    words = ", ".join(sorted(set(last.copying.values.astype(str))))
    share, high, seen = (float(last[f"copied_share{end}"].max()) for end in ("", "_high", "_seen"))
    authentic, real = last.authenticity.values, float(last.held_out_authenticity.max())
    return (
        f"{words}; copied share at most {share:.2%} (upper ends of 95 % intervals at most {high:.2%}); exact copies "
        f"would be seen from a share of {seen:.2%} on; authentic {authentic.min():.2f} to {authentic.max():.2f} of the "
        f"samples, {real:.2f} of the real images"
    )


def at_the_end(last: xr.Dataset) -> None:
    """Print, for each width, the last samples: size at ½, how often they repeat, the gate's word, copies."""
    print(
        "| width | s at ½, last snapshot | diversity ratio | fine detail | gate | copying | copied, upper end "
        "| would be seen |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for width in np.unique(last.discriminator_width):
        own = last.isel(trial=last.discriminator_width.values == width)
        ratios = own.diversity_ratio.values
        words = [", ".join(sorted(set(own[name].values.astype(str)))) for name in ("quality_reason", "copying")]
        cells = [geometric(own.sample_size_at_half.values), f"{ratios.min():.2f} – {ratios.max():.2f}"]
        cells += [f"{own.detail_ratio.values.min():.2f} – {own.detail_ratio.values.max():.2f}", *words]
        cells += [f"{own.copied_share.values.max():.2%}, {own.copied_share_high.values.max():.2%}"]
        print(f"| {width} | {' | '.join(cells)} | {own.copied_share_seen.values.max():.2%} |")
    real = float(last.real_support_size)
    print(f"| real images | {sample_size_at_half(real):,.0f} | 1 | 1 | | | | |")


def main(folder: Path, results: xr.Dataset, suffix: str) -> None:
    """Print the tables, fits and verdict; write the figure beside this file."""
    if "matched_fidelity" not in results:
        print("no two trials have snapshots that count at one fidelity ratio\n")
        at_the_end(results.isel(snapshot=-1))
        print(f"\n{history(folder)}")
        return
    found = columns(results)
    ratio = float(results.matched_fidelity)
    support, unmatched = found["support_size"]
    widths = results.discriminator_width.values
    print(f"matched fidelity ratio {ratio:.3f}; a duplicate is a pair within {float(results.threshold):,.1f}")
    trials = zip(widths, results.seed.values, support, strict=True)
    never = [f"width {width}, seed {seed}" for width, seed, value in trials if np.isnan(value)]
    print(f"never at that ratio: {'; '.join(never) or 'none'}\n")
    print(
        "| width | weights | trials | effective number | distinct among 10,000 | recall | coverage "
        "| unmatched: effective number | fidelity |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for width in np.unique(widths):
        own = widths == width
        reached = own & np.isfinite(support)
        cells = [f"{int(results.discriminator_weights.values[own][0]):,}", f"{reached.sum()} of {own.sum()}"]
        cells += [geometric(found[name][0][own]) for name in ("support_size", "distinct")]
        cells += [f"{found[name][0][reached].mean():.2f}" if reached.any() else "–" for name in ("recall", "coverage")]
        cells += [geometric(unmatched[own]), f"{found['fidelity_ratio'][1][own].mean():.2f}"]
        print(f"| {width} | {' | '.join(cells)} |")
    real = [float(results[f"real_support_size{end}"]) for end in ("", "_low", "_high")]
    print(f"| real images | | | {real[0]:,.0f} ({real[1]:,.0f} – {real[2]:,.0f}, 95 %) | | | | | 1 |\n")
    print("| exponent of weights, 95 % interval | mean over seeds | all trials |")
    print("|---|---|---|")
    at = "at matched fidelity"
    rows = {f"effective number, {at}": support, "effective number, unmatched": unmatched}
    smallest = int(widths.min())
    rows |= {f"effective number, unmatched, without width {smallest}": np.where(widths > smallest, unmatched, np.nan)}
    rows |= {f"distinct among 10,000, {at}": found["distinct"][0]}
    rows |= {f"recall, {at}": found["recall"][0], "recall, unmatched": found["recall"][1]}
    for name, values in rows.items():
        by_seed, of_all = exponents(results, values)
        print(f"| {name} | {words(by_seed)} | {words(of_all)} |")
    print(f"\nverdict: {verdict(results, support)}")
    if "copied_share" in results:
        print(f"copies: {copies(results.isel(snapshot=-1))}\n")
        at_the_end(results.isel(snapshot=-1))
    print(f"\n{history(folder)}")

    figure = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    weights = results.discriminator_weights.values
    shown = (
        ("support_size", "effective number (order 2)"),
        ("distinct", f"distinct among {DISTINCT_AMONG:,}"),
        ("recall", "recall (filled), coverage (open)"),
    )
    for axes, (name, label) in zip(panels, shown, strict=True):
        matched, last = found[name]
        axes.plot(weights * 1.12, last, "x", color="#888888", ms=5, label="last snapshot, unmatched")
        _seeds_and_means(axes, weights, matched, f"fidelity ratio {ratio:.2f}", fill="#1f5fa8")
        axes.set(xscale="log", xlabel="weights of the discriminator", ylabel=label)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
    _seeds_and_means(panels[2], weights, found["coverage"][0], "coverage", fill="none")
    panels[2].set(ylim=(0, 1))
    panels[0].axhspan(real[1], real[2], color="#c8553d", alpha=0.18, lw=0)
    panels[0].axhline(real[0], color="#c8553d", ls="--", label="real images")
    panels[0].set(yscale="log")
    panels[0].yaxis.set_major_formatter(EngFormatter(sep=""))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    figure.savefig(Path(__file__).with_name(f"published-size-{folder.name}{suffix}.png"))


def _seeds_and_means(axes, weights: np.ndarray, values: np.ndarray, label: str, fill: str) -> None:
    """A point for each trial, and a line through the geometric means over seeds."""
    known = np.isfinite(values) & (values > 0)
    axes.plot(weights[known], values[known], "o", color="#1f5fa8", mfc=fill, ms=5, label=label)
    sizes = np.unique(weights[known])
    means = [np.exp(np.log(values[known & (weights == size)]).mean()) for size in sizes]
    axes.plot(sizes, means, color="#1f5fa8", lw=1.3)


if __name__ == "__main__":
    alone = sys.argv[-1] == "fidelity"
    folder, results = finished_sweep(sys.argv[1:-1] if alone else sys.argv[1:])
    main(folder, by_fidelity_alone(results) if alone else results, "-fidelity" if alone else "")
