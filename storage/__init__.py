"""Every path and name on disk: crash-safe writers, and readers that trust their records.

Invariant: nothing here knows what the images show or which process makes them.
"""
