"""Trials: Tune as their executor, one trial, data-parallel and stacked trials, their plan, user-defined models."""
