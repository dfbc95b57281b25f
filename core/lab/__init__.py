"""Measurements behind the lessons: heads, influence, padding, positions, and every number again by an independent route."""

from core.lab.heads import distance_to_ideal, entropy, ideal_pattern

__all__ = ["distance_to_ideal", "entropy", "ideal_pattern"]
