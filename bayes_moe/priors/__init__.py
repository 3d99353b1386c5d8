"""Prior distributions: records, data-scaled defaults and log densities."""
