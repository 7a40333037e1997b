"""People's verdicts on pairs: which to ask for, and what they say.

Invariant: a pair that no person judged says nothing.
"""
