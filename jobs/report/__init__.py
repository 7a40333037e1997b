"""What was found, for people: tables, charts and pages that need nothing else.

Invariant: computes nothing new; the same results give the same bytes.
"""
