"""All pairs of anyone's images, and of a sweep's, and what they say.

Invariant: nothing is said of a sample that its records do not hold.
"""
