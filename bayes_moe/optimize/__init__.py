"""Modes of any model, by the gradient of its graph."""
