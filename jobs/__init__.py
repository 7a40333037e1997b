"""The composition root: sweep files, one trial, the sweep, measuring, and the command line.

Invariant: the other packages meet here and nowhere else.
"""
