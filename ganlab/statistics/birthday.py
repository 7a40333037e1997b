"""Formulas of the birthday paradox test: how sample size, collision probability and support size are related.

Invariant: plain functions of numbers; what comes from data, with its uncertainty, is in ganlab.statistics.support.
"""

import math


def collision_probability(p2: float, sample_size: int) -> float:
    """Return 1 − exp(−s(s − 1) p2 / 2), the chance of a duplicate among s images.

    Exact to leading order for supports where no image is seen often; one heavy image makes it too large (it pairs with
    itself, in clusters), which `Estimate.nonuniformity` shows.
    """
    if sample_size < 0:
        raise ValueError(f"sample_size is {sample_size}; allowed: 0 or more images")
    return -math.expm1(-sample_size * (sample_size - 1) * p2 / 2)


def sample_size_at_half(size: float) -> float:
    """Return the smallest whole s with s(s − 1) ≥ 2 ln 2 · size, where the model's collision probability reaches ½."""
    if math.isinf(size):
        return math.inf
    return float(math.ceil((1 + math.sqrt(1 + 8 * math.log(2) * size)) / 2))


def published_support(sample_size: float) -> float:
    """Return s², the support that the published test names when samples of size s collide with probability ½."""
    return sample_size**2


def corrected_support(sample_size: float) -> float:
    """Return s² / (2 ln 2), the uniform support whose samples of size s collide with probability ½."""
    return sample_size**2 / (2 * math.log(2))


def theorem_bound(sample_size: float, collision: float, rho: float = 1.0) -> float:
    """Return the published bound on the size of a set that holds probability ρ (Arora & Zhang 2017).

    2Mρ² / [(−3 + √(9 + (24/M) ln(1/(1 − γ)))) − 2M(1 − ρ)²] for samples of M images that collide with probability γ.

    Parameters
    ----------
    sample_size : float
        M, images in a sample; above 0.
    collision : float
        γ, the probability that such a sample holds a duplicate; between 0 and 1, exclusive.
    rho : float
        ρ, the probability that the set holds; above 0, at most 1.

    Returns
    -------
    float
        Number of images; infinite where the denominator is not positive and the theorem therefore bounds nothing.

    Notes
    -----
    It fails when one image is heavy: an image of mass m alone makes samples of about 1.68 / m images collide with
    probability ½, however many other images share the rest.
    """
    if not sample_size > 0:
        raise ValueError(f"sample_size is {sample_size}; allowed: above 0")
    if not 0 < collision < 1:
        raise ValueError(f"collision is {collision}; allowed: a probability between 0 and 1, exclusive")
    if not 0 < rho <= 1:
        raise ValueError(f"rho is {rho}; allowed: above 0, at most 1")
    excess = -24 / sample_size * math.log1p(-collision)
    root = excess / (math.sqrt(9 + excess) + 3)  # −3 + √(9 + excess), without cancellation
    denominator = root - 2 * sample_size * (1 - rho) ** 2
    return 2 * sample_size * rho**2 / denominator if denominator > 0 else math.inf
