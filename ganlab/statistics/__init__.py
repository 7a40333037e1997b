"""Collision statistics: what the duplicates of a sample say of the generator."""
