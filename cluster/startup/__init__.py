"""Folder that Python looks into when it starts; see `cluster.interpreter`.

Invariant: holds `sitecustomize` alone, whose name Python prescribes.
"""
