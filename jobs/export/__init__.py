"""Results of a sweep in the formats of other tools: tables, experiment trackers, metadata of published data.

Invariant: an export is a function of the sweep's files, needs no network, and replaces an older one as a whole.
"""
