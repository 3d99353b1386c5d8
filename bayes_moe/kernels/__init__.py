"""Likelihoods compiled by numba: families' log densities with derivatives, and sums over rows.

Importing numba takes seconds, so only samplers and the fused graph import these modules.
"""
