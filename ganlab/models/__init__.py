"""Generative models: families, networks, training."""
