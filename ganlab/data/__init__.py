"""Training images by name, from files and folders.

Invariant: what is read depends on the names and bytes of files alone, or on a seed.
"""
