"""Coordinates of parameters, by support: what samplers and optimisers move, on all real numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.priors.densities import ENDS, LOG_2, Parts
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class Coordinate:
    """A map from the real numbers onto a support, PyMC's by default for priors of that support.

    Attributes
    ----------
    value : callable
        Values at coordinates.
    of_value : callable
        Coordinates of values.
    log_slope : callable
        Log of the derivative of ``value`` with two derivatives, arithmetic as in
        :mod:`bayes_moe.priors.densities`: the log Jacobian.
    """

    value: Callable[[np.ndarray], np.ndarray]
    of_value: Callable[[np.ndarray], np.ndarray]
    log_slope: Callable[[Any], Parts]

    def slope(self, u: np.ndarray) -> np.ndarray:
        """Derivative of ``value`` at coordinates."""
        found: np.ndarray = np.exp(np.asarray(self.log_slope(u)[0]))
        return found


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _no_log_slope(u: Any) -> Parts:
    return 0.0 * u, 0.0, 0.0


def _log_slope_of_exp(u: Any) -> Parts:
    return u, 1.0, 0.0


def _log_slope_of_logistic(u: Any) -> Parts:
    tail = np.exp(-np.abs(u))  # cannot overflow
    return -np.abs(u) - 2 * np.log1p(tail), -np.tanh(u / 2), -2 * tail / (1 + tail) ** 2


def _log_slope_of_correlation(u: Any) -> Parts:
    value, first, second = _log_slope_of_logistic(u)
    return value + LOG_2, first, second


COORDINATES: dict[str, Coordinate] = {
    "real": Coordinate(_same, _same, _no_log_slope),
    "positive": Coordinate(np.exp, np.log, _log_slope_of_exp),
    "unit": Coordinate(special.expit, special.logit, _log_slope_of_logistic),
    "correlation": Coordinate(
        lambda u: np.tanh(0.5 * u), lambda x: 2.0 * np.arctanh(x), _log_slope_of_correlation
    ),
}
"""By support."""


RANGES: dict[str, tuple[float, float, str]] = {
    "real": (-np.inf, np.inf, "finite"),
    "positive": (*ENDS["positive"], "positive"),
    "unit": (*ENDS["unit"], "between 0 and 1"),
    "correlation": (*ENDS["correlation"], "between -1 and 1"),
}
"""By support: its ends, neither of which belongs to it, and what it is in words."""


def coordinate_of(prior: Prior) -> Coordinate:
    """Coordinate of a parameter with a prior; itself for one of zero-sum coefficients."""
    return COORDINATES.get(prior.kind.support, COORDINATES["real"])
