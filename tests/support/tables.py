"""Simulated tables that several tests fit."""

from __future__ import annotations

import numpy as np
import pandas as pd


def inverse_sine(n: int, seed: int = 1) -> pd.DataFrame:
    """Return the inverse problem of mixture density networks: several ``y`` for one ``x``."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(0, 1, n)
    x = y + 0.3 * np.sin(2 * np.pi * y) + rng.uniform(-0.1, 0.1, n)
    return pd.DataFrame({"x": x, "y": y})
