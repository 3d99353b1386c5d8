"""Runs of L-BFGS by SciPy: a point, the objective there, and how it has gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MEMORY = 20
"""Pairs that L-BFGS keeps."""


@dataclass
class Run:
    """One run: its point, the objective there, and how it has gone."""

    theta: np.ndarray
    value: float
    path: list[float]
    iterations: int = 0
    gradient_norm: float = np.inf


def continued(
    run: Run,
    minus: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    most: int,
    tolerances: tuple[float, float],
) -> tuple[np.ndarray, float]:
    """Point and objective after at most so many iterations, which are written into the run's path.

    ``minus`` returns minus the objective and its gradient, in the coordinates of ``start``;
    ``tolerances`` are the least relative gain of an iteration, and the largest element of the
    gradient at an end.
    """
    from scipy.optimize import minimize

    gain, slope = tolerances
    found = minimize(
        minus,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=lambda intermediate_result: run.path.append(-float(intermediate_result.fun)),
        options={
            "maxiter": most,
            "maxfun": 20 * most,
            "maxcor": MEMORY,
            "ftol": gain,
            "gtol": slope,
        },
    )
    run.iterations += int(found.nit)
    return np.asarray(found.x), -float(found.fun)
