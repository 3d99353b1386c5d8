"""Internal units and default priors of predictors and constant parameters, by role.

Default priors (``s_y``, ``m_y``: standard deviation and mean of the response; ``s_j``: standard
deviation of feature ``j``; intercepts refer to the centre of the features):

=============================  =======================================================
location coefficients (``mu``) intercept ``Normal(m_y, 2.5 s_y)``, slopes
                               ``Normal(0, 2.5 s_y / s_j)``
log rates (Poisson ``mu``)     intercept ``Normal(log m_y, 2.5)``, slopes
                               ``Normal(0, 2.5 / s_j)``
log odds (``p``)               intercept ``Normal(0, 2.5)``, slopes
                               ``Normal(0, 2.5 / s_j)``
gate coefficients              intercept ``ZeroSumNormal(1.5)``, slopes
                               ``ZeroSumNormal(2.5 / s_j)``
scale (``sigma``)              ``LogNormal(log(s_y / 2), 1)``; with a formula, on the log
                               link: the same prior for the intercept,
                               ``Normal(0, 1 / s_j)`` for slopes
shape (``nu``)                 ``Gamma(2, 0.1)``; with a formula, on the log link:
                               ``Normal(log 15, 1)``, slopes ``Normal(0, 0.5 / s_j)``
=============================  =======================================================

Without an intercept, features are not centred, ``s_j`` is the root mean square of the feature, and
``s_y`` in the prior of location coefficients that of the response.

A log-normal density falls faster than any power of sigma at zero. So the posterior density falls to
zero where an expert collapses onto a few rows, although the likelihood grows without bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class Units:
    """Internal units of a predictor, and standard deviations of its default prior in them.

    The internal coefficients refer to ``eta = offset + unit * (Z @ raw)`` with ``Z`` the centred
    and scaled features; ``offset`` and ``unit`` make the default prior the same numbers for
    every data set.
    """

    offset: float
    unit: float
    intercept: float
    slope: float


def units_of(role: str, response: np.ndarray, has_intercept: bool) -> Units:
    """Internal units and default prior widths of a linear predictor by its role.

    Without an intercept the features are not centred, and locations are scaled by the root mean
    square of the response, so that the prior covers its level.
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
    """Default prior of a parameter that is constant for each expert."""
    if role == "scale":
        return Prior("LogNormal", mu=math.log(float(np.std(response)) / 2), sigma=1.0)
    return Prior("Gamma", alpha=2.0, beta=0.1)
