"""Modes of any model, through the gradient of its graph."""
