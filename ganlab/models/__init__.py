"""Generative models: families, networks, training.

Invariant: knows nothing of sweeps, folders or schedulers.
"""
