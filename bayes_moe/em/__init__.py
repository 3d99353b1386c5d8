"""EM and Newton on linear models, in NumPy."""
