"""The two theorems on small discriminators: runs, table, fits and figure of docs/experiments/theory.md.

`python docs/experiments/theory.py pool POOL.jsonl`, then `encoder ENCODER.jsonl`; a run that was broken off goes on where
it was. `--quick` for a first look, `--jobs N` for more processes than one.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ganlab.data.datasets.digits import DigitsSettings
from ganlab.data.datasets.stacked_digits import StackedDigitsSettings
from ganlab.pairs.closest import pairs_within
from ganlab.statistics.support import estimate
from ganlab.theory import (
    Gap,
    NoisyImages,
    encoder_decoder_gap,
    exponents,
    linear_probe,
    pool_gap,
    sufficient_encoder_pool,
    sufficient_pool,
)

IMAGES = 60_000  # three random digits each: real digits do not run out
POOLS, WIDTHS, STEPS = (10, 30, 100, 300, 1000, 3000, 10_000), (1, 2, 4, 8, 16), 3000
SEEDS = {"pool": range(3), "encoder": range(2)}
EPSILONS = (0.2, 0.1, 0.05)
SATURATED = 0.5  # a gap can't exceed 1, which bends the law
SPACING = 24  # 8 of the 192 values carry noise; in the paper, every 50th or 100th pixel of larger images


def one(kind: str, steps: int, job: tuple[int, int, int]) -> Gap:
    """Train one discriminator."""
    torch.set_num_threads(1)
    images = StackedDigitsSettings(images=IMAGES).load().images
    pool, width, seed = job
    if kind == "pool":
        return pool_gap(images, pool, width, seed, steps=steps)
    return encoder_decoder_gap(images, pool, width, seed, steps=steps, spacing=SPACING)


def run(kind: str, out: Path, jobs: int, quick: bool) -> list[Gap]:
    """Train every discriminator that is not in the file yet; each is added to it when it is done."""
    pools, widths, seeds, steps = (
        ((10, 100, 1000), (1, 4), range(2), 300) if quick else (POOLS, WIDTHS, SEEDS[kind], STEPS)
    )
    lines = [json.loads(line) for line in (out.read_text().splitlines() if out.exists() else []) if line.endswith("}")]
    if any((line.pop("kind", None), line.pop("steps", None)) != (kind, steps) for line in lines):
        sys.exit(f"{out}: holds another experiment's gaps; give another file")
    gaps = [Gap(**line) for line in lines]
    known = {(gap.pool, gap.width, gap.seed) for gap in gaps}
    left = [(m, w, s) for s in seeds for w in widths for m in pools if (m, w, s) not in known]
    with ProcessPoolExecutor(jobs) as processes, out.open("a") as file:
        file.write("\n" if lines else "")
        for gap in processes.map(partial(one, kind, steps), left):
            file.write(json.dumps({"kind": kind, "steps": steps, **asdict(gap)}) + "\n")
            file.flush()
            gaps.append(gap)
    return gaps


def table(kind: str, gaps: Iterable[Gap]) -> None:
    """Gap by width and pool, the fit, and the pools at which the theorem would have it under ε."""
    gaps = list(gaps)
    pools, widths = sorted({gap.pool for gap in gaps}), sorted({gap.width for gap in gaps})
    print("| width | weights p | " + " | ".join(f"m = {m:,}" for m in pools) + " |")
    print("|---" * (len(pools) + 2) + "|")
    for width in widths:
        own = [gap for gap in gaps if gap.width == width]
        cells = []
        for m in pools:
            values = np.array([gap.gap for gap in own if gap.pool == m])
            cells.append(f"{values.mean():.3f} ({values.min():.3f} – {values.max():.3f})" if len(values) else "")
        print(f"| {width} | {own[0].weights:,} | " + " | ".join(cells) + " |")
    for words, largest in (("all gaps", 1.0), (f"gaps up to {SATURATED}", SATURATED)):
        for name, fit in zip(("m", "p"), exponents(gaps, largest), strict=True):
            print(f"\n{words}: ∝ {name}^{fit.value:.2f} (95 % interval {fit.low:.2f} to {fit.high:.2f})", end="")
    sufficient = sufficient_pool if kind == "pool" else sufficient_encoder_pool
    print("\n\n| weights p | ε | the theorem's m, without its constants | tried m from which on every gap is below ε |")
    print("|---|---|---|---|")
    for width in widths:
        own = [gap for gap in gaps if gap.width == width]
        for epsilon in EPSILONS:
            fooled = [m for m in pools if all(gap.gap < epsilon for gap in own if gap.pool >= m)]
            seen = f"{fooled[0]:,}" if fooled else "none"
            print(f"| {own[0].weights:,} | {epsilon} | {sufficient(own[0].weights, epsilon):,.0f} | {seen} |")


def constructed(pool: int = 1000, samples: int = 5000) -> None:
    """Exact properties of the encoder–decoder construction, and the accuracy of a linear probe on its codes."""
    digits = DigitsSettings().load()
    assert digits.labels is not None
    stacks = StackedDigitsSettings(images=IMAGES).load()
    made = NoisyImages(stacks.images[:pool], SPACING)
    draws = np.random.default_rng(0)
    latent = torch.from_numpy(draws.standard_normal((samples, made.latent_dim), dtype=np.float32))
    images = made.generate(latent)
    print(f"\nE(G(z)) = z for {int((made.encode(images) == latent).all(1).sum()):,} of {samples:,} codes, bit for bit")
    support = estimate(pairs_within(made.without_noise(images), 1e-6).index, samples)
    print(
        f"support by the birthday test: {support.size:,.0f} ({support.low:,.0f} – {support.high:,.0f}), pool {pool:,}"
    )
    spaced = NoisyImages(digits.images[:1], 8)
    unit = torch.from_numpy(digits.images.astype(np.float32) / 127.5 - 1)
    noise = torch.from_numpy(draws.standard_normal((len(unit), spaced.latent_dim), dtype=np.float32))
    carried = spaced.carry(unit, noise)
    for what, inputs in (("codes E(x ⊙ η)", spaced.encode(carried).numpy()), ("images", spaced.without_noise(carried))):
        accuracy, count = linear_probe(inputs, digits.labels, seed=0)
        half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / count)
        print(f"linear probe on the {what}: {accuracy:.3f} ± {half:.3f} of {count} held-out digits (chance 0.1)")


def draw(kind: str, gaps: Iterable[Gap]) -> None:
    """Gap against pool, a line for each width."""
    gaps = list(gaps)
    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, width in enumerate(sorted({gap.width for gap in gaps})):
        own = [gap for gap in gaps if gap.width == width]
        pools = sorted({gap.pool for gap in own})
        means = [np.mean([gap.gap for gap in own if gap.pool == m]) for m in pools]
        shade = (0.12, 0.37, 0.66, 0.35 + 0.15 * place)
        axes.plot([gap.pool for gap in own], [gap.gap for gap in own], "o", ms=3, color=shade)
        axes.plot(pools, means, color=shade, label=f"{own[0].weights:,} weights")
    axes.set(xscale="log", yscale="log", xlabel="images in the generator's support, m", ylabel="gap on fresh images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(Path(__file__).with_name(f"theory-{kind}.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("pool", "encoder"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    found = run(chosen.kind, chosen.out, chosen.jobs, chosen.quick)
    table(chosen.kind, found)
    if chosen.kind == "encoder":
        constructed()
    draw(chosen.kind, found)
