"""Rock, paper, scissors as a GAN would play it: table and figure of docs/experiments/game.md.

`python docs/experiments/game.py`: seconds.
"""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ganlab.games import ROCK_PAPER_SCISSORS, divergence, exploitability, pure_equilibria, solve, train

START = ([0.5, 0.3, 0.2], [0.3, 0.3, 0.4])
STEPS, RATE = 4000, 0.05
CORNERS = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])


def main() -> None:
    """Print the equilibria and how far each way of training is from them; draw the paths."""
    solution = solve(ROCK_PAPER_SCISSORS)
    print(f"pure equilibria: {pure_equilibria(ROCK_PAPER_SCISSORS) or 'none'}")
    print(f"mixed: {np.round(solution.row, 3).tolist()} against {np.round(solution.column, 3).tolist()}, "
          f"value {abs(solution.value):.3f}\n")  # fmt: skip
    print("| steps of the two players | distance from the equilibrium: start, least, end | gain of the best replies, end "
          "| the same, of the mixture of all steps |")  # fmt: skip
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


if __name__ == "__main__":
    main()
