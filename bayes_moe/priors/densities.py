r"""Log densities of priors with two derivatives, in NumPy.

The values are PyMC's, with normalising constants, but PyMC is not imported. Two constants of PyMC
are less exact: ``log(2)`` in ``HalfStudentT`` and ``HalfCauchy`` has single precision, which adds
1.9e-9.

**Zero-sum priors.** PyMC's ``ZeroSumNormal(sigma)`` of ``K`` experts ``x``, whose sum is zero, is

.. math:: \log p(x) = -\frac{1}{2} \sum_{k=1}^{K} \frac{x_k^2}{\sigma^2}
          - (K - 1) \log(\sqrt{2 \pi} \sigma).

Let the columns of ``Q`` (K, K - 1) be an orthonormal basis of the vectors that sum to zero, and
``x = Q c``. Then ``x'x = c'c``, so the density is that of ``K - 1`` independent
``Normal(0, sigma)`` coordinates ``c``. The entry in ``DENSITIES`` is the density of one such
coordinate, not of an expert. PyMC's unconstrained values are coordinates in such a basis.

**Compilation.** The formulas are arithmetic in NumPy's functions alone, and take their normalising
constants as an argument. So they run on arrays here, and :mod:`bayes_moe.kernels.priors` compiles
the same functions for numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.priors import formulas as f
from bayes_moe.priors.formulas import LOG_2, LOG_PI, Parts
from bayes_moe.priors.prior import Prior

# --- arguments of the formulas, normalising constants among them ---------------------------------


def _of_student(nu: Any, mu: Any, sigma: Any, times: float = 1.0) -> tuple[Any, ...]:
    """Arguments of :func:`formulas.student`, for a density multiplied by ``times``."""
    width = sigma * np.sqrt(nu)
    constant = special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * LOG_PI
    return nu, mu, width, constant - np.log(width) + math.log(times)


def _of_gamma(a: Any, b: Any, s: Any) -> tuple[Any, ...]:
    """Arguments of :func:`formulas.gamma`: those of Stacy's distribution with scale ``s``."""
    log_s = np.log(s)
    return a, b, log_s, np.log(np.abs(b)) - log_s - special.gammaln((a + 1) / b)


def _of_beta(alpha: Any, beta: Any) -> tuple[Any, ...]:
    """Arguments of :func:`formulas.beta`."""
    return alpha - 1, beta - 1, -special.betaln(alpha, beta)


def _of_lkj(eta: Any) -> tuple[Any, ...]:
    """Arguments of :func:`formulas.lkj`."""
    return eta - 1, -special.betaln(eta, eta) - (2 * eta - 1) * LOG_2


# --- the table ---------------------------------------------------------------------------------


ENDS = {"positive": (0.0, np.inf), "unit": (0.0, 1.0), "correlation": (-1.0, 1.0)}
"""Ends of the supports that are not all real numbers."""


@dataclass(frozen=True)
class Density:
    """Density of a distribution: formulas by value and by its coordinate, and their arguments.

    The coordinate (:mod:`bayes_moe.priors.coordinates`) is the logarithm of a positive value,
    the log odds of a probability, and ``2 artanh`` of a correlation; that of real values is the
    value, and needs no other formula. ``arguments`` maps the distribution's arguments, by name, to
    those of the formulas. ``kink`` names the argument at which the density has a kink.
    """

    arguments: Callable[..., tuple[Any, ...]]
    of_value: Callable[..., Parts]
    of_coordinate: Callable[..., Parts] | None = None
    kink: str | None = None


DENSITIES: dict[str, Density] = {
    "Normal": Density(lambda mu, sigma: (mu, sigma), f.normal),
    "StudentT": Density(_of_student, f.student),
    "Laplace": Density(lambda mu, b: (mu, b), f.laplace, kink="mu"),
    "Cauchy": Density(lambda alpha, beta: _of_student(1.0, alpha, beta), f.student),
    "Logistic": Density(lambda mu, s: (mu, s), f.logistic),
    "ZeroSumNormal": Density(lambda sigma: (0.0, sigma), f.normal),  # of an orthonormal coordinate
    "LogNormal": Density(lambda mu, sigma: (mu, sigma), f.log_normal, f.log_normal_of_log),
    "HalfNormal": Density(lambda sigma: (sigma,), f.half_normal, f.half_normal_of_log),
    "HalfStudentT": Density(
        lambda nu, sigma: _of_student(nu, 0.0, sigma, 2.0),
        f.student,
        f.half_student_of_log,
    ),
    "HalfCauchy": Density(
        lambda beta: _of_student(1.0, 0.0, beta, 2.0),
        f.student,
        f.half_student_of_log,
    ),
    "Exponential": Density(lambda lam: _of_gamma(0.0, 1.0, 1 / lam), f.gamma, f.gamma_of_log),
    "Gamma": Density(
        lambda alpha, beta: _of_gamma(alpha - 1, 1.0, 1 / beta),
        f.gamma,
        f.gamma_of_log,
    ),
    "InverseGamma": Density(
        lambda alpha, beta: _of_gamma(-alpha - 1, -1.0, beta), f.gamma, f.gamma_of_log
    ),
    "Weibull": Density(
        lambda alpha, beta: _of_gamma(alpha - 1, alpha, beta), f.gamma, f.gamma_of_log
    ),
    "Beta": Density(_of_beta, f.beta, f.beta_of_logit),
    "LogitNormal": Density(lambda mu, sigma: (mu, sigma), f.logit_normal, f.logit_normal_of_logit),
    "LKJ": Density(_of_lkj, f.lkj, f.lkj_of_artanh),
    "FisherNormal": Density(
        lambda mu, sigma: (mu, sigma), f.fisher_normal, f.fisher_normal_of_artanh
    ),
}


def log_density(prior: Prior, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Log density of each element of ``value`` with its first two derivatives.

    Parameters
    ----------
    prior : Prior
        Arguments that are tuples (one number a term) broadcast along the last axis of ``value``.
    value : ndarray
        Values of the parameter. For ``ZeroSumNormal``: coordinates in an orthonormal basis of the
        vectors that sum to zero (see the module's notes), not the experts' values.

    Returns
    -------
    log_p, first, second : ndarray
        :math:`\log p(x)`, :math:`\partial \log p / \partial x` and
        :math:`\partial^2 \log p / \partial x^2`, each of ``value``'s shape.

    Raises
    ------
    ValueError
        If the arguments do not broadcast to the shape of ``value``.

    Notes
    -----
    At the kink of a ``Laplace`` density, ``value == mu``, both derivatives are 0, the middle of
    the one-sided ones.

    The supports of distributions that are not of all real numbers are open intervals;
    outside ``log_p`` is minus infinity and the derivatives are 0. PyMC's densities differ from
    this only at the ends, where some are finite.

    Values beyond the range of doubles are infinite, without a warning, such as the second
    derivative of a ``Gamma`` density at 1e-300.
    """
    density = DENSITIES[prior.distribution]
    x = np.asarray(value, dtype=float)
    if density.of_coordinate is None:
        return _evaluate(density.of_value, prior, x)
    lower, upper = ENDS[prior.kind.support]
    outside = (x <= lower) | (x >= upper)
    log_p, first, second = _evaluate(density.of_value, prior, np.where(outside, 0.5, x))
    log_p[outside], first[outside], second[outside] = -np.inf, 0.0, 0.0
    return log_p, first, second


def log_density_of_coordinate(
    prior: Prior, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Log density of a value with its first two derivatives with respect to its coordinate.

    Parameters
    ----------
    prior : Prior
        Arguments that are tuples broadcast along the last axis of ``u``.
    u : ndarray
        Coordinates :math:`u` of values :math:`x`: logarithms of positive ones, log odds of
        probabilities, twice the inverse hyperbolic tangents of correlations, and real values
        themselves.

    Returns
    -------
    log_p, first, second : ndarray
        :math:`\log p(x)`, :math:`\partial \log p / \partial u` and
        :math:`\partial^2 \log p / \partial u^2`, each of ``u``'s shape. The density is that
        of the value; that of :math:`u` itself includes the Jacobian.

    Raises
    ------
    ValueError
        If the arguments do not broadcast to the shape of ``u``.

    Notes
    -----
    No formula uses :math:`x` itself, so none loses precision where that underflows or overflows,
    or is one up to rounding. Values beyond the range of doubles are infinite, without a warning.
    """
    return _evaluate(formula(prior), prior, np.asarray(u, dtype=float))


def formula(prior: Prior) -> Callable[..., Parts]:
    """Log density of a value with two derivatives by its coordinate.

    A function of coordinates and of :func:`formula_arguments`.
    """
    density = DENSITIES[prior.distribution]
    return density.of_value if density.of_coordinate is None else density.of_coordinate


def formula_arguments(prior: Prior) -> tuple[Any, ...]:
    """Arguments of a prior's formulas after the value; they broadcast like the prior's."""
    arguments = {k: np.asarray(v, dtype=float) for k, v in prior.arguments.items()}
    return DENSITIES[prior.distribution].arguments(**arguments)


def kink(prior: Prior) -> np.ndarray | None:
    """Location of the kink of the density, ``mu`` of a ``Laplace`` prior; None without a kink."""
    argument = DENSITIES[prior.distribution].kink
    return None if argument is None else np.asarray(prior.arguments[argument], dtype=float)


def _evaluate(
    formula: Callable[..., Parts], prior: Prior, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arguments = formula_arguments(prior)
    shapes = [shape for v in arguments if (shape := np.shape(v))]
    if shapes and np.broadcast_shapes(point.shape, *shapes) != point.shape:
        raise ValueError(f"Values of shape {point.shape} do not fit the arguments of {prior!r}.")
    with np.errstate(over="ignore", under="ignore"):
        log_p, first, second = formula(point, *arguments)
    return _filled(log_p, point), _filled(first, point), _filled(second, point)


def _filled(part: Any, point: np.ndarray) -> np.ndarray:
    if isinstance(part, np.ndarray) and part.shape == point.shape and part is not point:
        return part
    return np.array(np.broadcast_to(part, point.shape), dtype=float)
