"""The science of counting a generator's distinct images: arrays in, arrays and numbers out.

Invariant: nothing here knows a path of a sweep, a network address or a scheduler.
"""
