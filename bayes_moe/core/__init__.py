"""Shared by all folders: names, errors, argument checks, arrays, records and the registry."""
