"""Markov chains: starting points and samplers."""
