"""Compiled likelihoods: log densities of the families with their derivatives, and what sums them.

Its modules import numba; only what samples imports them.
"""
