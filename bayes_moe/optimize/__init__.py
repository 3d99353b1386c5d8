"""Modes of any model, by its gradient."""
