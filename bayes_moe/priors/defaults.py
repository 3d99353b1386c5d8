"""Internal units and default priors of predictors and constant parameters, by role.

Default priors (``s_y``, ``m_y``: standard deviation and mean of the response; ``s_j``: standard
deviation of feature ``j``; intercepts refer to the centre of the features):

=============================  =======================================================
location coefficients (``mu``) intercept ``Normal(m_y, 2.5 s_y)``, slopes
                               ``Normal(0, 2.5 s_y / s_j)``
log means (Poisson, gamma)     intercept ``Normal(log m_y, 2.5)``, slopes
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
precision (``alpha``)          ``Gamma(1.5, 0.01 s_y^2 / m_y^2)``; with a formula, on the log
                               link: ``Normal(log(30 m_y^2 / s_y^2), 2)``, slopes
                               ``Normal(0, 1 / s_j)``
=============================  =======================================================

Without an intercept, features are not centred, ``s_j`` is the root mean square of the feature, and
``s_y`` in the prior of location coefficients that of the response.

A log-normal density falls faster than any power of sigma at zero. So the posterior density falls to
zero where an expert collapses onto a few rows, although the likelihood grows without bound.

A precision is the inverse square of a coefficient of variation, so its prior is in units of
``m_y^2 / s_y^2`` and does not depend on the unit of the response. Coefficients of variation from
that of the response to a thirtieth of it are within seven nats of its highest density of
``log alpha``, which few rows outweigh. It falls exponentially: for an expert that fits ``n`` rows
exactly, alpha has its mode near ``50 n`` units. A log-normal prior would have it near ``exp(2 n)``,
where nothing is left of the log ratios of response and mean but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayes_moe.core.checks import check_one_of
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


def _precision(response: np.ndarray) -> float:
    """Inverse squared coefficient of variation of the response."""
    return float(np.mean(response) / np.std(response)) ** 2


WIDTHS = {
    "gate": (1.5, 2.5),
    "location": (2.5, 2.5),
    "rate": (2.5, 2.5),
    "odds": (2.5, 2.5),
    "scale": (1.0, 1.0),
    "precision": (2.0, 1.0),
    "shape": (1.0, 0.5),
}
"""By role: standard deviations of the intercept and of slopes, in internal units."""

LEVELS: dict[str, Callable[[np.ndarray], float]] = {
    "location": lambda y: float(np.mean(y)),
    "rate": lambda y: math.log(float(np.mean(y))),
    "scale": lambda y: math.log(float(np.std(y)) / 2),
    "precision": lambda y: math.log(30.0 * _precision(y)),
    "shape": lambda y: math.log(15.0),
}
"""By role: level of the predictor where the features are at their centre; 0 for the others."""

CONSTANTS: dict[str, Callable[[np.ndarray], Prior]] = {
    "scale": lambda y: Prior("LogNormal", mu=math.log(float(np.std(y)) / 2), sigma=1.0),
    "precision": lambda y: Prior("Gamma", alpha=1.5, beta=0.01 / _precision(y)),
    "shape": lambda y: Prior("Gamma", alpha=2.0, beta=0.1),
}
"""By role: default prior of a parameter that is constant for each expert."""


def units_of(role: str, response: np.ndarray, has_intercept: bool) -> Units:
    """Internal units and default prior widths of a linear predictor by its role.

    Without an intercept the features are not centred, and locations are scaled by the root mean
    square of the response, so that the prior covers its level.

    Raises
    ------
    SpecError
        For a role that is not in the tables of this module.
    """
    check_one_of("role", role, WIDTHS)
    level = LEVELS[role](response) if has_intercept and role in LEVELS else 0.0
    unit = 1.0
    if role == "location":  # the only role in the units of the response
        root_mean_square = math.sqrt(float(np.mean(response**2)))
        unit = float(np.std(response)) if has_intercept else root_mean_square
    return Units(level, unit, *WIDTHS[role])


def default_constant(role: str, response: np.ndarray) -> Prior:
    """Default prior of a parameter that is constant for each expert, by its role.

    Raises
    ------
    SpecError
        For a role whose parameters cannot be constants.
    """
    check_one_of("role of a constant", role, CONSTANTS)
    return CONSTANTS[role](response)
