"""Commands: what they run, in what order, and what they print.

Invariant: no layer below imports it.
"""
