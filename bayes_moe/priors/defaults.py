"""Units and default priors by the role of a parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class Units:
    """Internal units of a linear predictor, and its default prior in them.

    The internal coefficients refer to ``eta = offset + unit * (Z @ raw)`` with ``Z`` the centred
    and scaled features; ``offset`` and ``unit`` make the default prior the same numbers for
    every data set.
    """

    offset: float
    unit: float
    intercept: float
    slope: float


def standard(role: str, response: np.ndarray, has_intercept: bool) -> Units:
    """Return internal units and default prior widths of a linear predictor by its role.

    Without an intercept the features are not centred, and locations are scaled by the root mean
    square of the response, so that its level stays within reach.
    """
    spread = float(np.std(response)) if has_intercept else math.sqrt(float(np.mean(response**2)))
    if role == "gate":
        return Units(0.0, 1.0, 1.5, 2.5)
    if role == "location":
        return Units(float(np.mean(response)) if has_intercept else 0.0, spread, 2.5, 2.5)
    if role == "rate":
        level = math.log(float(np.mean(response)))
        return Units(level if has_intercept else 0.0, 1.0, 2.5, 2.5)
    if role == "odds":
        return Units(0.0, 1.0, 2.5, 2.5)
    if role == "scale":
        level = math.log(float(np.std(response)) / 2)
        return Units(level if has_intercept else 0.0, 1.0, 1.0, 1.0)
    return Units(math.log(15.0) if has_intercept else 0.0, 1.0, 1.0, 0.5)


def default_constant(role: str, response: np.ndarray) -> Prior:
    """Return the default prior of a parameter that is constant per expert."""
    if role == "scale":
        return Prior("LogNormal", mu=math.log(float(np.std(response)) / 2), sigma=1.0)
    return Prior("Gamma", alpha=2.0, beta=0.1)
