"""Descriptions as PyMC models."""
