"""Fidelity, manifold scores, Fréchet distance, and the classifier whose features are an embedding.

Invariant: reads images, and changes nothing about which pairs are duplicates.
"""
