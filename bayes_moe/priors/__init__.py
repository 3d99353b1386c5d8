"""Priors in the units of the data, their defaults and their log densities."""
