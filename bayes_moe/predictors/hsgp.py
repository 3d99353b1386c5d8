"""Gaussian process in a Hilbert space: ``eta(x) = b_0 + sum_j coef_j phi_j(z)``.

On the box ``[-L, L]`` of every standardised column, ``phi_j(z) = L^-1/2 sin(w_j (z + L))`` with
``w_j = pi j / (2 L)``, products of which serve several columns, and ``coef_j ~ Normal(0, S(w_j))``
with the spectral density ``S`` of the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import lgamma, log, pi
from typing import Any, ClassVar

import numpy as np

from bayes_moe.arrays import Arrays
from bayes_moe.design import Matrix
from bayes_moe.errors import SpecError, unknown
from bayes_moe.formulas import INTERCEPT
from bayes_moe.predictors.expansion import (
    Expansion,
    check_box,
    check_count,
    check_positive,
    column_dim,
    numeric,
)
from bayes_moe.priors import Prior, Standard

MATERN = {"matern32": 1.5, "matern52": 2.5}
KERNELS = ("expquad", *MATERN)
MOST_FEATURES = 2000


@dataclass(frozen=True)
class HSGP(Expansion):
    """Hilbert-space approximation of a Gaussian process over a formula's numeric columns.

    Length scales ``gate_lengthscale`` (column,), in standard deviations of the columns, have the
    default prior ``LogNormal(0, 0.5)``; the amplitude ``gate_amplitude``, the standard deviation of
    the process in units of the predictor, ``Gamma(2, 1)``, which keeps a mode from zero.

    Parameters
    ----------
    m : int
        Basis functions a column; with ``d`` columns there are ``m ** d``.
    c : float
        Boundary factor: the box is ``c * reach`` standard deviations to either side of a column's
        centre, and beyond it the curve is flat.
    kernel : {"expquad", "matern52", "matern32"}
        Covariance function.
    reach : float
        How far the rows go, in standard deviations from the centre.

    References
    ----------
    Riutort-Mayol, G., Bürkner, P.-C., Andersen, M. R., Solin, A., & Vehtari, A. (2023). Practical
    Hilbert space approximate Bayesian Gaussian processes for probabilistic programming. Statistics
    and Computing, 33, 17.
    """

    m: int = 15
    c: float = 1.5
    kernel: str = "expquad"
    reach: float = 2.5

    kind: ClassVar[str] = "hsgp"

    def __post_init__(self) -> None:
        check_count("m", self.m, 1)
        check_positive("c", self.c)
        check_positive("reach", self.reach)
        if self.c < 1:
            raise SpecError(f"`c` must be at least 1; it is {self.c!r}.")
        if self.kernel not in KERNELS:
            raise SpecError(unknown("kernel", self.kernel, KERNELS))

    @property
    def box(self) -> float:
        """Half the width of the box, in standard deviations."""
        return self.c * self.reach

    def labels(self, matrix: Matrix) -> list[str]:
        return [INTERCEPT, *(",".join(map(str, js)) for js in self._indices(matrix))]

    def features(self, matrix: Matrix) -> np.ndarray:
        z = matrix.standardised[:, numeric(self, matrix)]
        shifted = np.clip(z, -self.box, self.box) + self.box  # (obs, column)
        waves = np.sin(shifted[:, None, :] * self._frequencies(matrix)) / np.sqrt(self.box)
        return np.column_stack([np.ones(len(z)), waves.prod(axis=-1)])

    def check(self, matrix: Matrix) -> None:
        check_box(self, matrix, self.box)

    def spread(
        self, stem: str, own: Mapping[str, Any], units: Standard, matrix: Matrix, xp: Arrays
    ) -> Any:
        lengthscale, amplitude = own[f"{stem}_lengthscale"], own[f"{stem}_amplitude"]
        squares = self._frequencies(matrix).T ** 2  # (column, feature)
        scaled = xp.matmul(lengthscale * lengthscale, squares)
        volume = xp.matmul(xp.log(lengthscale), np.ones_like(squares))
        log_density = volume + _log_spectrum(self.kernel, scaled, len(squares), xp)
        waves = xp.matmul(amplitude, np.ones((1, self.m ** len(squares)))) * xp.exp(
            0.5 * log_density
        )
        level = units.intercept + 0.0 * amplitude
        return xp.concatenate([level, waves], axis=-1)

    def own_priors(
        self, stem: str, role: str, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        return {
            f"{stem}_lengthscale": Prior("LogNormal", mu=0.0, sigma=0.5),
            f"{stem}_amplitude": Prior("Gamma", alpha=2.0, beta=1.0),
        }

    def own_dims(self, stem: str) -> dict[str, tuple[str, ...]]:
        return {
            f"{stem}_lengthscale": (column_dim(stem),),
            f"{stem}_amplitude": (f"{stem}_kernel",),
        }

    def positive(self, stem: str) -> frozenset[str]:
        return frozenset(self.own_dims(stem))

    def coords(self, stem: str, matrix: Matrix) -> dict[str, list[Any]]:
        columns = [matrix.terms[j] for j in numeric(self, matrix)]
        own = {column_dim(stem): columns, f"{stem}_kernel": [self.kernel]}
        return super().coords(stem, matrix) | own

    def usual(self, stem: str, matrix: Matrix, rng: np.random.Generator) -> dict[str, np.ndarray]:
        columns = len(numeric(self, matrix))
        return {f"{stem}_lengthscale": np.ones(columns), f"{stem}_amplitude": np.full(1, 2.0)}

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "m": self.m,
            "c": self.c,
            "kernel": self.kernel,
            "reach": self.reach,
        }

    def _indices(self, matrix: Matrix) -> list[tuple[int, ...]]:
        columns = len(numeric(self, matrix))
        if self.m**columns > MOST_FEATURES:
            raise SpecError(
                f"{self!r} would have {self.m**columns} basis functions for {columns} columns, "
                f"more than {MOST_FEATURES}: lower m, or use fewer columns."
            )
        return list(product(range(1, self.m + 1), repeat=columns))

    def _frequencies(self, matrix: Matrix) -> np.ndarray:
        """Angular frequencies (feature, column)."""
        found: np.ndarray = np.array(self._indices(matrix)) * pi / (2 * self.box)
        return found


def _log_spectrum(kernel: str, scaled: Any, d: int, xp: Arrays) -> Any:
    """Log spectral density at squared frequencies in units of length scales, of unit amplitude.

    The volume of the length scales is left out.
    """
    if kernel == "expquad":
        return 0.5 * d * log(2 * pi) - 0.5 * scaled
    nu = MATERN[kernel]
    level = d * log(2) + 0.5 * d * log(pi) + lgamma(nu + d / 2) - lgamma(nu) + nu * log(2 * nu)
    return level - (nu + d / 2) * xp.log(2 * nu + scaled)
