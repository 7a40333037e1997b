"""The page where people judge flagged pairs.

Invariant: a verdict that the page calls saved is on disk; no request names a file.
"""
