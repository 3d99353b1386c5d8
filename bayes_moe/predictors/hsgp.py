"""Gaussian process in a Hilbert space: ``eta(x) = b_0 + sum_j coef_j phi_j(z)``.

On the box ``[-L, L]`` about the middle of every standardised column, ``phi_j(z) = L^-1/2 sin(w_j
(z + L))`` with ``w_j = pi j / (2 L)``, products of which are used for several columns, and
``coef_j ~ Normal(0, S(w_j))`` with the spectral density ``S`` of the kernel. The linear kernel has
no waves: its features are the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import lgamma, log, pi
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_positive, check_whole
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.basis import Basis
from bayes_moe.predictors.columns import boxed, half_ranges, numeric
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variable, Variables, coefficients
from bayes_moe.priors.prior import Prior

MATERN = {"matern12": 0.5, "matern32": 1.5, "matern52": 2.5}
LINEAR = "linear"
KERNELS = ("expquad", *MATERN, LINEAR)
MOST_FEATURES = 2000
LEAST = 1e-8
"""Least standard deviation of a wave as a share of the amplitude, so that none is zero."""


@dataclass(frozen=True)
class HSGP(Basis):
    """Hilbert-space approximation of a Gaussian process over a formula's numeric columns.

    Where the predictor is that of ``mu``: length scales ``mu_lengthscale``, one a column and in its
    standard deviations, have the default prior ``LogNormal(0, 0.5)``; the amplitude
    ``mu_amplitude``, the standard deviation of the process in units of the predictor (of the
    response's standard deviation, for ``mu``), ``Gamma(2, 1)``, which keeps a mode from zero.

    Parameters
    ----------
    m : int
        Basis functions a column; with ``d`` columns there are ``m ** d``.
    c : float
        Boundary factor: the box is ``c`` times the range of the fitted rows, and beyond it the
        curve is flat.
    kernel : {"expquad", "matern52", "matern32", "matern12", "linear"}
        Covariance function; ``"linear"`` is ``a^2 sum_c z_c z'_c / l_c^2``, a linear predictor.

    References
    ----------
    Riutort-Mayol, G., Bürkner, P.-C., Andersen, M. R., Solin, A., & Vehtari, A. (2023). Practical
    Hilbert space approximate Bayesian Gaussian processes for probabilistic programming. Statistics
    and Computing, 33, 17.
    """

    m: int = 15
    c: float = 1.5
    kernel: str = "expquad"

    kind: ClassVar[str] = "hsgp"

    def __post_init__(self) -> None:
        check_whole("m", self.m, 1, MOST_FEATURES)
        check_positive("c", self.c)
        if self.c < 1:
            raise SpecError(f"`c` must be at least 1; it is {self.c!r}.")
        if self.kernel not in KERNELS:
            raise SpecError(unknown("kernel", self.kernel, KERNELS))

    @property
    def is_linear(self) -> bool:
        return True

    def labels(self, matrix: Matrix) -> list[str]:
        if self.kernel == LINEAR:
            return [INTERCEPT, *(matrix.terms[j] for j in numeric(self, matrix))]
        return [INTERCEPT, *(",".join(map(str, js)) for js in self._indices(matrix))]

    def features(self, matrix: Matrix) -> np.ndarray:
        if self.kernel == LINEAR:
            return matrix.standardised[:, numeric(self, matrix)]
        box = self._box(matrix)  # (column,)
        # Beyond the box the basis functions are periodic: the curve is kept flat there instead.
        shifted = (np.clip(boxed(self, matrix) / self.c, -1, 1) + 1) * box  # (obs, column)
        waves = np.sin(shifted[:, None, :] * self._frequencies(matrix)) / np.sqrt(box)
        products: np.ndarray = waves.prod(axis=-1)
        return products

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> Any:
        lengthscale = values[names.part(b.site.stem, names.LENGTHSCALE)]
        amplitude = values[names.part(b.site.stem, names.AMPLITUDE)]
        # The product with 0 gives the constant the leading dimensions of the draws.
        level = b.units.intercept + 0.0 * amplitude
        columns = len(numeric(self, b.matrix))
        if self.kernel == LINEAR:
            slopes = xp.matmul(amplitude, np.ones((1, columns))) / lengthscale
            return xp.concatenate([level, slopes], axis=-1)
        squares = self._frequencies(b.matrix).T ** 2  # (column, feature)
        scaled = xp.matmul(lengthscale * lengthscale, squares)
        volume = xp.matmul(xp.log(lengthscale), np.ones_like(squares))
        log_density = volume + _log_spectrum(self.kernel, scaled, columns, xp)
        root = xp.exp(0.5 * log_density) + LEAST
        waves = xp.matmul(amplitude, np.ones((1, self.m**columns))) * root
        return xp.concatenate([level, waves], axis=-1)

    def variables(self, site: Site) -> Variables:
        stem, amplitude = site.stem, 1.0 if self.kernel == LINEAR else 2.0
        return Variables(
            [
                coefficients(site, names.part(stem, names.BASIS)),
                Variable(
                    names.part(stem, names.LENGTHSCALE),
                    (*site.lead, names.part(stem, names.COLUMN)),
                    prior=lambda b: Prior("LogNormal", mu=0.0, sigma=0.5),
                    initial=lambda b, rng: np.ones(
                        (*b.site.lead_shape, len(numeric(self, b.matrix)))
                    ),
                    positive=True,
                ),
                Variable(
                    names.part(stem, names.AMPLITUDE),
                    (*site.lead, names.part(stem, names.KERNEL)),
                    prior=lambda b: Prior("Gamma", alpha=2.0, beta=1.0),
                    initial=lambda b, rng: np.full((*b.site.lead_shape, 1), amplitude),
                    positive=True,
                ),
            ]
        )

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        columns = [b.matrix.terms[j] for j in numeric(self, b.matrix)]
        stem = b.site.stem
        return super().coords(b) | {
            names.part(stem, names.COLUMN): columns,
            names.part(stem, names.KERNEL): [self.kernel],
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "m": self.m,
            "c": self.c,
            "kernel": self.kernel,
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
        frequencies: np.ndarray = np.array(self._indices(matrix)) * pi / (2 * self._box(matrix))
        return frequencies

    def _box(self, matrix: Matrix) -> np.ndarray:
        """Half the width (column,) of the box, in standard deviations."""
        return self.c * half_ranges(self, matrix)


def _log_spectrum(kernel: str, scaled: Any, d: int, xp: Arrays) -> Any:
    """Log spectral density at squared frequencies in units of length scales, of unit amplitude.

    The volume of the length scales is left out.
    """
    if kernel == "expquad":
        return 0.5 * d * log(2 * pi) - 0.5 * scaled
    nu = MATERN[kernel]
    level = d * log(2) + 0.5 * d * log(pi) + lgamma(nu + d / 2) - lgamma(nu) + nu * log(2 * nu)
    return level - (nu + d / 2) * xp.log(2 * nu + scaled)
