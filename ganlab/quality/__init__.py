"""Fidelity, manifold scores, Fréchet distance, and the classifier whose features are an embedding."""
