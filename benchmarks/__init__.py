"""What the package costs its user, measured side by side: ``python -m benchmarks``."""
