"""Chains: where they start, and what runs them."""
