"""The sweep file: sections, search space, validation, datasets as sweeps name them.

Invariant: knows what a sweep asks for, and nothing of how its trials run.
"""
