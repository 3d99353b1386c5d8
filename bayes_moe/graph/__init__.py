"""Models as PyMC graphs, and the log densities of these."""
