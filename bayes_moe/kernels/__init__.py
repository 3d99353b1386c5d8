"""Compiled likelihoods: log densities of the families with their derivatives, and what sums them.

Importing this package imports numba; only what samples does.
"""
