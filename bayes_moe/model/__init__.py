"""Descriptions of mixtures, what they imply, and their value at given parameters."""
