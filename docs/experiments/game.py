"""Rock, paper, scissors as a GAN would play it, and the game between the networks of a GAN: docs/experiments/game.md.

`python docs/experiments/game.py` prints both tables and writes the figure.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ganlab.data.datasets import GaussiansGridSettings, load
from ganlab.games import ROCK_PAPER_SCISSORS, divergence, exploitability, pure_equilibria, solve, train
from ganlab.models.families.dcgan import DCGAN, DCGANSettings
from ganlab.models.train_settings import TrainSettings
from ganlab.randomness import generator_for

START = ([0.5, 0.3, 0.2], [0.3, 0.3, 0.4])
STEPS, RATE = 4000, 0.05
CORNERS = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])


def between_networks(seed: int, steps: int = 6000, every: int = 500, batch: int = 100) -> np.ndarray:
    """Payoffs E D(real) − E D(G), D from 0 to 1, of a GAN's discriminators (rows) against its generators, by snapshot."""
    points = load(GaussiansGridSettings(points=20_000)).images
    trained = TrainSettings(steps=steps, batch_size=batch, learning_rate=0.001)
    settings = DCGANSettings(latent_dim=2, generator_width=64, discriminator_width=64)
    family = DCGAN(settings, points.shape[1:], trained, seed)
    known, fresh = family.prepare(points[:15_000]), torch.from_numpy(points[15_000:])
    latent = family.normal(len(fresh), settings.latent_dim, generator_for(seed, "game"))
    generated, discriminators = [], []
    for step in range(1, steps + 1):
        draws = generator_for(seed, "train", step, 0)
        family.step(lambda draws=draws: known[torch.from_numpy(draws.integers(0, 15_000, batch))], draws)
        if step % every == 0:
            with torch.no_grad():
                generated.append(family.generator(latent))
            discriminators.append({name: value.clone() for name, value in family.discriminator.state_dict().items()})
    payoff = np.empty((len(discriminators), len(generated)))
    for row, weights in enumerate(discriminators):
        family.discriminator.load_state_dict(weights)
        family.discriminator.eval()
        with torch.no_grad():
            on_real = family.discriminator(fresh).sigmoid().mean()
            payoff[row] = [float(on_real - family.discriminator(each).sigmoid().mean()) for each in generated]
    return payoff


def play_networks() -> None:
    """Print, seed by seed, what pure networks and mixtures of a GAN's own snapshots can be sure of."""
    print(
        "\n| seed | networks | pure equilibria | best discriminator is sure of | best generator concedes "
        "| value of the mixtures | generators, discriminators in them |"
    )
    print("|---|---|---|---|---|---|---|")
    for seed in range(3):
        payoff = between_networks(seed)
        found = solve(payoff)
        sure, concedes = payoff.min(axis=1).max(), payoff.max(axis=0).min()
        used = [int((each > 1e-6).sum()) for each in (found.column, found.row)]
        print(
            f"| {seed} | {len(payoff)} and {payoff.shape[1]} | {len(pure_equilibria(payoff)) or 'none'} | {sure:.3f} | "
            f"{concedes:.3f} | {found.value:.3f} | {used[0]}, {used[1]} |"
        )


def main() -> None:
    """Print the equilibria and how far each way of training is from them; draw the paths."""
    solution = solve(ROCK_PAPER_SCISSORS)
    print(f"pure equilibria: {pure_equilibria(ROCK_PAPER_SCISSORS) or 'none'}")
    print(
        f"mixed: {np.round(solution.row, 3).tolist()} against {np.round(solution.column, 3).tolist()}, "
        f"value {abs(solution.value):.3f}\n"
    )
    print(
        "| steps of the two players | distance from the equilibrium: start, least, end | gain of the best replies, end "
        "| the same, of the mixture of all steps |"
    )
    print("|---|---|---|---|")
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, alternating in zip(figure.subplots(1, 2), (False, True), strict=True):
        play = train(ROCK_PAPER_SCISSORS, *START, steps=STEPS, rate=RATE, alternating=alternating)
        away = divergence(solution, play)
        name = "alternating" if alternating else "simultaneous"
        gain = exploitability(ROCK_PAPER_SCISSORS, play.row[-1], play.column[-1])
        mixed = exploitability(ROCK_PAPER_SCISSORS, play.row.mean(axis=0), play.column.mean(axis=0))
        print(f"| {name} | {away[0]:.3f}, {away.min():.3f}, {away[-1]:.3f} | {gain:.2f} | {mixed:.3f} |")
        axes.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="#888888", lw=1)
        axes.plot(*(play.row @ CORNERS).T, color="#1f5fa8", lw=0.6)
        axes.plot(*(play.row[:1] @ CORNERS).T, "o", color="#1f5fa8", ms=5)
        axes.plot(*(play.row.mean(axis=0) @ CORNERS), "*", color="#c8553d", ms=12)
        for corner, word in zip(CORNERS, ("rock", "paper", "scissors"), strict=True):
            axes.annotate(word, corner, ha="center", va="bottom" if corner[1] else "top")
        axes.set(title=f"{name} steps: path of one player, mean (star)", aspect="equal")
        axes.axis("off")
    figure.savefig(Path(__file__).with_name("game.png"))
    play_networks()


if __name__ == "__main__":
    main()
