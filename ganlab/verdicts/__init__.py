"""People's verdicts on pairs: which to ask for, and what they say."""
