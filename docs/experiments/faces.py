"""Collision curves, samples and duplicates of docs/experiments/faces.md, from a finished sweep of faces.

`ganlab run faces-diversity --set dataset.path=/data/faces` first, then
`python docs/experiments/faces.py sweeps/faces-diversity`. Works on any sweep of images.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from finished import finished_sweep, history
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import spearmanr

from ganlab.statistics.birthday import sample_size_at_half
from ganlab.statistics.support import collision_probability
from storage.layout import SweepLayout
from storage.reference import read_reference
from storage.samples import Samples

PUBLISHED = (400, 500, 640)  # sample sizes at ½ said of DCGAN on CelebA: paper, talk, caption of a figure
COLUMNS, PAIRS = 12, 12  # of the pictures


def shade(number: int, count: int) -> tuple[float, float, float]:
    """A blue for each of the settings, from pale to dark."""
    share = (number + 1) / count
    return 0.75 - 0.63 * share, 0.85 - 0.48 * share, 0.95 - 0.29 * share


def labels(last: xr.Dataset) -> list[str]:
    """Each trial's setting in words: its family, or its discriminator's width where only that varies."""
    families = last.family.values.astype(str)
    if len(set(families)) == 1:
        return [f"width {width}" for width in last.discriminator_width.values]
    weights = last.discriminator_weights.values
    return [f"{family}, {weight:,}" if weight else family for family, weight in zip(families, weights, strict=True)]


def table(last: xr.Dataset, names: list[str]) -> None:
    """Print, for each trial, the sample size at ½, duplicates and quality, and how training oscillated."""
    print(
        "| model | seed | s at ½ (95 %) | effective number (95 %) | duplicates | fidelity, gate | fine detail "
        "| recall | coverage | loss of G − loss of D | their spread, second half |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    late = last.isel(logged=slice(last.sizes["logged"] // 2, None))
    apart = (late.generator_loss - late.discriminator_loss).mean("logged").values
    spread = late.discriminator_loss.std("logged").values
    for trial, name in enumerate(names):
        row = last.isel(trial=trial)
        half = [float(row[f"sample_size_at_half{end}"]) for end in ("", "_low", "_high")]
        sizes = [float(row[f"support_size{end}"]) for end in ("", "_low", "_high")]
        print(
            f"| {name} | {int(row.seed)} | {half[0]:,.0f} ({half[1]:,.0f} – {half[2]:,.0f}) | "
            f"{sizes[0]:,.0f} ({sizes[1]:,.0f} – {sizes[2]:,.0f}) | {float(row.duplicates):,.0f} "
            f"| {float(row.fidelity_ratio):.2f}, {row.quality_reason.values!s} "
            f"| {float(row.detail_ratio):.2f} | {float(row.recall):.2f} | {float(row.coverage):.2f} "
            f"| {apart[trial]:.2f} | {spread[trial]:.2f} |"
        )
    for what, values in (("loss of G − loss of D", apart), ("spread of the loss of D", spread)):
        known = np.isfinite(values)
        if known.sum() < 3:
            continue
        found = spearmanr(values[known], last.support_size.values[known])
        print(
            f"rank correlation of the effective number with {what}: {found.statistic:.2f} (p {found.pvalue:.3f}, "
            f"{known.sum()} trials)"
        )


def apart(last: xr.Dataset) -> None:
    """Print how far the images of the closest pairs are apart, and their nearest training images from them."""
    pairs = last.flagged_distance.where(np.isfinite(last.flagged_distance)).mean("flagged").values
    nearest = last.reference_distance.where(np.isfinite(last.reference_distance)).mean("flagged").values
    print(
        f"\nthe closest pairs are {pairs.min():,.0f} to {pairs.max():,.0f} apart (means of the trainings), "
        f"their nearest training images {nearest.min():,.0f} to {nearest.max():,.0f} from them; a duplicate is a pair "
        f"within {float(last.threshold):,.0f}; real images reach ½ at "
        f"{sample_size_at_half(float(last.real_support_size)):,.0f}"
    )


def curves(last: xr.Dataset, names: list[str], path: Path) -> None:
    """Draw P(a sample of s images holds a duplicate) of every trial, with the published sizes at ½."""
    figure = Figure(figsize=(8, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    settings = list(dict.fromkeys(names))
    sizes = np.unique(np.geomspace(2, 3000, 120).round()).astype(int)
    for trial, name in enumerate(names):
        row, colour = last.isel(trial=trial), shade(settings.index(name), len(settings))
        style = {"color": colour, "ls": "-" if bool(row.passes_quality_gate) else ":"}
        drawn = [collision_probability(1 / float(row.support_size), int(size)) for size in sizes]
        axes.plot(sizes, drawn, lw=1.3, label=name if names.index(name) == trial else None, **style)
        counted = row.collision_probability.values
        axes.plot(last.sample_size, counted, "o", ms=3.5, color=colour)
    real = 1 / float(last.real_support_size)
    axes.plot(
        sizes, [collision_probability(real, int(size)) for size in sizes], color="#c8553d", ls="--", label="real images"
    )
    for place, size in enumerate(PUBLISHED):
        axes.axvline(size, color="#888888", lw=0.9, ls=(0, (2, 3)), label=None if place else "published: 400, 500, 640")
    axes.axhline(0.5, color="#888888", lw=0.6)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="sample size s", ylabel="P(a duplicate among s)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path)


def mosaic(rows: list[np.ndarray], path: Path, gap: int = 2) -> None:
    """Write rows of images, uint8 (n, channel, y, x), as one picture."""
    lines = []
    for row in rows:
        tiles = np.pad(row, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=255)
        lines.append(np.concatenate(list(tiles.transpose(0, 2, 3, 1)), axis=1))
    whole = np.concatenate(lines)
    Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole).save(path)


def main(folder: Path, results: xr.Dataset) -> None:
    """Print the table; write curves, samples, and duplicates beside their nearest training images, beside this file."""
    last = results.isel(snapshot=-1)
    last = last.isel(trial=np.flatnonzero(last.support_size.notnull()))  # trials that go on have no row yet
    names = labels(last)
    table(last, names)
    apart(last)
    print(history(folder))
    here = Path(__file__).with_name(folder.name)
    curves(last, names, here.with_name(f"{folder.name}-curves.png"))
    layout = SweepLayout(folder)
    reference = read_reference(layout)
    samples, pairs = [], []
    for trial in [names.index(name) for name in dict.fromkeys(names)]:
        row = last.isel(trial=trial)
        stored = Samples(layout.trial(str(row.trial.item())))
        final = stored.steps[int(row.step)]
        samples.append(stored.read(final.start, final.start + COLUMNS))
        flagged = row.flagged_index.values
        flagged = flagged[np.isfinite(flagged).all(axis=1)][: PAIRS // 3].astype(int)
        nearest = row.reference_index.values[: len(flagged)].astype(int)
        shown = zip(flagged, nearest, strict=True)
        pairs.append(np.concatenate([[*stored.take(pair), *reference.take(real[:1])] for pair, real in shown]))
    samples.append(reference.read(0, COLUMNS))
    mosaic(samples, here.with_name(f"{folder.name}-samples.png"))
    mosaic(pairs, here.with_name(f"{folder.name}-duplicates.png"))
    rows = "; ".join(dict.fromkeys(names))
    print(f"\nrows of {folder.name}-samples.png and {folder.name}-duplicates.png: {rows}; real images (samples)")


if __name__ == "__main__":
    main(*finished_sweep())
