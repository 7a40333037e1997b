"""Brings up Ray and Dask, on this machine or across SLURM jobs, and takes them down.

Invariant: nothing here knows what is trained or measured.
"""
