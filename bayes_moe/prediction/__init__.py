"""Predictions of a fit for rows of a table."""
