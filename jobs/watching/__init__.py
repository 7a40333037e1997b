"""State of a sweep, on the terminal and as metrics.

Invariant: looking changes nothing, and needs no process of the sweep to be alive.
"""
