"""Builds texture-pairs: patches of the textures of two games, material words as concepts."""
