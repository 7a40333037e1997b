"""Tests on a real SLURM of three hosts, started by themselves from Debian's packages."""
