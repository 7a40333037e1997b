"""Table and samples of docs/experiments/cifar10.md, beside the published table, from a finished sweep.

`ganlab run cifar10-classes --set dataset.path=/data/cifar-10-batches-bin` first, then
`python docs/experiments/cifar10_classes.py sweeps/cifar10-classes`.
"""

from pathlib import Path

import xarray as xr
from faces import mosaic
from finished import finished_sweep, history
from scipy.stats import spearmanr

from ganlab.statistics.birthday import sample_size_at_half
from storage.layout import SweepLayout
from storage.samples import Samples

PUBLISHED = {
    "airplane": 500,
    "automobile": 50,
    "bird": 500,
    "cat": 100,
    "deer": 500,
    "dog": 300,
    "frog": 50,
    "horse": 200,
    "ship": 500,
    "truck": 100,
}
"""Sample size at ½ of a Stacked GAN, by class in the order of the labels (Arora and Zhang 2017)."""


def main(folder: Path, results: xr.Dataset) -> None:
    """Print a row for each class and trial's last snapshot, and whether the samples are good enough for a verdict.

    Writes the first samples of the first trial beside this file.
    """
    last = results.isel(snapshot=-1)
    print(f"distances in: {results.attrs['embedding']}; a duplicate is a pair within {float(last.threshold):,.4g}")
    for trial in range(last.sizes["trial"]):
        row = last.isel(trial=trial)
        passes = bool(row.passes_quality_gate)
        said = "passed" if passes else "not passed: quality too low for a verdict, numbers below are not of diversity"
        print(
            f"\nseed {int(row.seed)}, step {int(row.step):,}: quality gate {said} (fidelity ratio "
            f"{float(row.fidelity_ratio):.2f}, precision {float(row.precision):.2f}, recall {float(row.recall):.2f}); "
            f"effective number {float(row.support_size):,.0f} ({float(row.support_size_low):,.0f} – "
            f"{float(row.support_size_high):,.0f}), of the real images {float(row.real_support_size):,.0f}; copying: "
            f"{row.copying.values!s}; the classifier names {float(row.embedding_accuracy):.0%} of held-out images\n"
        )
        steps = results.isel(trial=trial)
        for step, size, word in zip(
            steps.step.values, steps.support_size.values, steps.quality_reason.values, strict=True
        ):
            print(f"at step {int(step):,}: effective number {size:,.0f}, quality gate: {word}")
        print()
        print("| class | published s at ½ | s at ½ (95 %) | effective number | nonuniformity | real images: s at ½ |")
        print("|---|---|---|---|---|---|")
        found = []
        for label, (name, published) in enumerate(PUBLISHED.items()):
            here = row.sel({"class": label})
            ends = ("", "_low", "_high")
            sizes = [sample_size_at_half(float(here[f"class_support_size{end}"])) for end in ends]
            found.append(sizes[0])
            print(
                f"| {name} | {published} | {sizes[0]:,.0f} ({sizes[1]:,.0f} – {sizes[2]:,.0f}) | "
                f"{float(here.class_support_size):,.0f} | {float(here.class_nonuniformity):.1f} | "
                f"{sample_size_at_half(float(here.real_class_support_size)):,.0f} |"
            )
        real = row.real_class_support_size.values
        for what, a, b in [
            ("the published half points", found, list(PUBLISHED.values())),
            ("those of the real images", found, real),
            ("the published half points, of the real images", real, list(PUBLISHED.values())),
        ]:
            order = spearmanr(a, b)
            print(f"\nrank correlation with {what}: {order.statistic:.2f} (p {order.pvalue:.3f})")
    stored = Samples(SweepLayout(folder).trial(str(last.trial.values[0])))
    start = stored.steps[int(last.step.values.ravel()[0])].start
    rows = [stored.read(first, first + 16) for first in range(start, start + 64, 16)]
    print(f"\n{history(folder)}")
    mosaic(rows, Path(__file__).with_name(f"{folder.name}-samples.png"))


if __name__ == "__main__":
    main(*finished_sweep())
