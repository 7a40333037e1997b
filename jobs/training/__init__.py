"""Trials: Tune as their executor, one trial, data-parallel and stacked trials, their plan, user-defined models.

Invariant: knows nothing of measuring: a trial leaves samples, and everything measured is read from them.
"""
