"""Embeddings: functions from images to vectors, one file each, behind one interface.

Invariant: adding an embedding takes one file, and one line in `ganlab.quality.embeddings.names` and `.registry`.
"""
