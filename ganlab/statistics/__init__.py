"""Collision statistics: what the duplicates of a sample say of the generator.

Invariant: knows nothing of files, models or sweeps.
"""
