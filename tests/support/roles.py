"""Numbers by the role of a parameter: how far tests of every family vary it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Reach:
    """How far a parameter of a role varies in tests.

    Attributes
    ----------
    typical : tuple of float
        Two ordinary arguments of a family's functions.
    centre : float
        An ordinary predictor.
    spread, moderate, far : float
        Standard deviation of random predictors, and largest ones, ordinary and extreme.
    in_graph : tuple of float
        Largest ones in graphs, ordinary and extreme.
    """

    typical: tuple[float, float]
    centre: float = 1.0
    spread: float = 2.0
    moderate: float = 2.0
    far: float = 25.0
    in_graph: tuple[float, float] = (1.0, 2.0)


REACH = {
    "location": Reach((-2.0, 1.5), spread=3.0, moderate=3.0, far=1e3, in_graph=(3.0, 1e3)),
    "rate": Reach((-2.0, 1.5), far=700.0, in_graph=(2.0, 20.0)),
    "odds": Reach((-2.0, 0.3), spread=3.0, moderate=3.0, far=1e3, in_graph=(3.0, 1e3)),
    "scale": Reach((0.5, 3.0), spread=1.5, moderate=1.5),
    "log_scale": Reach((0.3, 1.2), centre=-1.0, spread=0.7, moderate=1.5),
    "shape": Reach((2.5, 30.0), moderate=1.0, in_graph=(1.0, 3.0)),
    "precision": Reach((0.6, 9.0)),
    "concentration": Reach((0.8, 7.0)),
    "power": Reach((0.3, 2.0), centre=0.0, spread=1.0, moderate=1.0, far=4.0),
    "probability": Reach((0.2, 0.7), moderate=3.0, far=7.0),
    "asymmetry": Reach((-2.0, 3.0), far=1e3),
    "relative_precision": Reach((0.8, 6.0), spread=1.0, moderate=1.5, far=12.0),
    "mean_precision": Reach((0.6, 9.0), spread=1.5),
    "direction": Reach((-2.0, 0.3), centre=0.5, spread=1.0, moderate=3.0, far=30.0),
    "angular_precision": Reach((0.6, 9.0), far=18.0),
    "share_precision": Reach((2.5, 30.0), centre=1.5, far=12.0),
}
"""By role."""


def typical(role: str) -> np.ndarray:
    """Two arguments (2,) of a family's functions."""
    return np.array(REACH[role].typical)


def unit_of(role: str, scale: np.ndarray, residual: np.ndarray) -> Any:
    """Unit (obs,) of small steps of a predictor."""
    if role == "location":  # it moves in units of the response
        return scale
    # A residual multiplies an asymmetry.
    return scale / (scale + np.abs(residual)) if role == "asymmetry" else 1.0


def spread_over(family, rng, rows: int, width: float) -> np.ndarray:
    """Random responses (obs,) all over the support of a continuous family, about zero or one."""
    real = rng.uniform(-1, 1, rows)
    if np.isfinite(family.upper):
        return family.lower + (family.upper - family.lower) / (1 + np.exp(-5 * real))
    return np.exp(5 * real) if np.isfinite(family.lower) else width * real
