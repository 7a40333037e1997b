"""Reports for people: tables, charts and self-contained pages.

Invariant: computes nothing new; the same results give the same bytes.
"""
