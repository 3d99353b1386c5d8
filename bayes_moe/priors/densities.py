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

from bayes_moe.priors.prior import Prior

Parts = tuple[Any, Any, Any]
"""Log density and its first two derivatives."""

LOG_2 = math.log(2.0)
LOG_PI = math.log(math.pi)


# --- as functions of the value ---------------------------------------------------------------


def _normal(x: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log\sigma - \log\sqrt{2\pi}` with :math:`z = (x - \mu) / \sigma`."""
    z = (x - mu) / sigma
    log_p = -0.5 * z * z - np.log(sigma) - 0.5 * (LOG_2 + LOG_PI)
    return log_p, -z / sigma, -1.0 / sigma / sigma


def _student(x: np.ndarray, nu: Any, mu: Any, width: Any, constant: Any) -> Parts:
    r""":math:`c - \frac{\nu+1}{2} \log(1 + r^2)` with :math:`r = (x - \mu) / (\sigma\sqrt\nu)`.

    ``width`` is :math:`\sigma\sqrt\nu`.

    .. math:: \log p' = -\frac{\nu+1}{\sigma\sqrt\nu} \frac{r}{1 + r^2}, \quad
              \log p'' = -\frac{\nu+1}{\sigma^2\nu} \frac{1 - r^2}{(1 + r^2)^2}.

    All in :math:`q = \min(|r|, 1/|r|)`, whose square cannot overflow:
    :math:`r/(1 + r^2) = \pm q/(1 + q^2)`.
    """
    r = (x - mu) / width
    large = np.maximum(np.abs(r), 1.0)
    q = np.minimum(np.abs(r), 1.0 / large)
    log_p = constant - (nu + 1) / 2 * (np.log1p(q * q) + 2 * np.log(large))
    slope = -(nu + 1) / width * np.sign(r) * q / (1 + q * q)
    bend = np.where(large > 1, -q * q, 1.0) * (1 - q) * (1 + q) / (1 + q * q) ** 2
    return log_p, slope, -(nu + 1) / width / width * bend


def _laplace(x: np.ndarray, mu: Any, b: Any) -> Parts:
    r""":math:`-|x - \mu| / b - \log(2b)`; at the kink both derivatives are 0."""
    return -np.abs(x - mu) / b - np.log(b) - LOG_2, -np.sign(x - mu) / b, 0.0


def _logistic(x: np.ndarray, mu: Any, s: Any) -> Parts:
    r""":math:`-|z| - \log s - 2 \log(1 + e^{-|z|})` with :math:`z = (x - \mu) / s`."""
    z = (x - mu) / s
    tail = np.exp(-np.abs(z))  # cannot overflow
    log_p = -np.abs(z) - np.log(s) - 2 * np.log1p(tail)
    return log_p, -np.tanh(z / 2) / s, -2 * tail / (1 + tail) ** 2 / s / s


def _half_normal(x: np.ndarray, sigma: Any) -> Parts:
    """Twice the density of ``Normal(0, sigma)``."""
    log_p, first, second = _normal(x, 0.0, sigma)
    return log_p + LOG_2, first, second


def _log_normal(x: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma) - \log x` with :math:`z=(\log x - \mu)/\sigma`."""
    log_p, first, second = _log_normal_of_log(np.log(x), mu, sigma)
    return log_p, first / x, (second - first) / x / x


def _gamma(x: np.ndarray, a: Any, b: Any, log_s: Any, constant: Any) -> Parts:
    r"""Stacy's generalised gamma density, as in :func:`_gamma_of_log` with :math:`u = \log x`.

    .. math:: \log p' = (a - b w) / x, \quad \log p'' = -(a + b (b - 1) w) / x^2.
    """
    u = np.log(x)
    w = np.exp(b * (u - log_s))
    curve = b * (b - 1)
    bend = curve * np.where(curve == 0, 0.0, w)  # w may be infinite
    return _gamma_of_log(u, a, b, log_s, constant)[0], (a - b * w) / x, -(a + bend) / x / x


def _beta(x: np.ndarray, a: Any, b: Any, constant: Any) -> Parts:
    r""":math:`a \log x + b \log(1 - x) + c`, of shapes :math:`a + 1` and :math:`b + 1`."""
    rest = 1 - x
    log_p = constant + a * np.log(x) + b * np.log1p(-x)
    return log_p, a / x - b / rest, -a / x / x - b / rest / rest


def _logit_normal(x: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma x (1 - x))`, :math:`z` of the log odds."""
    rest = 1 - x
    log_p, first, second = _normal(np.log(x) - np.log1p(-x), mu, sigma)
    slope = first - rest + x
    bend = second + 2 * x * rest + slope * (x - rest)
    return log_p - np.log(x) - np.log1p(-x), slope / x / rest, bend / x / rest / x / rest


# --- as functions of the logarithm of the value, without a Jacobian ------------------------------


def _half_normal_of_log(u: np.ndarray, sigma: Any) -> Parts:
    r""":math:`\log\sqrt{2/\pi} - \log\sigma - w/2` with :math:`w = e^{2(u - \log\sigma)}`."""
    w = np.exp(2 * (u - np.log(sigma)))
    return 0.5 * (LOG_2 - LOG_PI) - np.log(sigma) - w / 2, -w, -2 * w


def _half_student_of_log(u: np.ndarray, nu: Any, mu: Any, width: Any, constant: Any) -> Parts:
    r""":math:`c - \frac{\nu+1}{2} \log(1 + e^t)` with :math:`t = 2 (u - \log(\sigma\sqrt\nu))`.

    With the logistic function :math:`\ell`, the derivatives are :math:`-(\nu+1)\,\ell(t)` and
    :math:`-2(\nu+1)\,\ell(t)\,\ell(-t)`. ``mu`` is 0.
    """
    t = 2 * (u - np.log(width))
    log_p = constant - (nu + 1) / 2 * np.logaddexp(0.0, t)
    first = -(nu + 1) / (1 + np.exp(-t))
    return log_p, first, 2 * first / (1 + np.exp(t))


def _log_normal_of_log(u: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma) - u` with :math:`z = (u - \mu) / \sigma`."""
    log_p, first, second = _normal(u, mu, sigma)
    return log_p - u, first - 1.0, second


def _gamma_of_log(u: np.ndarray, a: Any, b: Any, log_s: Any, constant: Any) -> Parts:
    r"""Stacy's generalised gamma density.

    .. math:: \log|b| - \log s - \log\Gamma((a + 1) / b) + a (u - \log s) - w, \quad
              w = e^{b (u - \log s)},

    with derivatives :math:`a - b w` and :math:`-b^2 w`.
    """
    t = u - log_s
    w = np.exp(b * t)
    return constant + a * t - w, a - b * w, -b * b * w


# --- as functions of the log odds of the value, without a Jacobian -------------------------------


def _beta_of_logit(u: np.ndarray, a: Any, b: Any, constant: Any) -> Parts:
    r""":math:`c - a \log(1 + e^{-u}) - b \log(1 + e^u)`."""
    share, rest = 1 / (1 + np.exp(-u)), 1 / (1 + np.exp(u))
    log_p = constant - a * np.logaddexp(0.0, -u) - b * np.logaddexp(0.0, u)
    return log_p, a * rest - b * share, -(a + b) * share * rest


def _logit_normal_of_logit(u: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma) + \log(1 + e^{-u}) + \log(1 + e^u)`."""
    log_p, first, second = _normal(u, mu, sigma)
    tail = np.exp(-np.abs(u))
    log_p += np.abs(u) + 2 * np.log1p(tail)
    return log_p, first + np.tanh(u / 2), second + 2 * tail / (1 + tail) ** 2


# --- arguments of the formulas, normalising constants among them ---------------------------------


def _of_student(nu: Any, mu: Any, sigma: Any, times: float = 1.0) -> tuple[Any, ...]:
    """Arguments of :func:`_student`, for a density multiplied by ``times``."""
    width = sigma * np.sqrt(nu)
    constant = special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * LOG_PI
    return nu, mu, width, constant - np.log(width) + math.log(times)


def _of_gamma(a: Any, b: Any, s: Any) -> tuple[Any, ...]:
    """Arguments of :func:`_gamma`: those of Stacy's distribution with scale ``s``."""
    log_s = np.log(s)
    return a, b, log_s, np.log(np.abs(b)) - log_s - special.gammaln((a + 1) / b)


def _of_beta(alpha: Any, beta: Any) -> tuple[Any, ...]:
    """Arguments of :func:`_beta`."""
    return alpha - 1, beta - 1, -special.betaln(alpha, beta)


# --- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Density:
    """Density of a distribution: formulas by value and by its coordinate, and their arguments.

    The coordinate (:mod:`bayes_moe.priors.coordinates`) is the logarithm of a positive value, and
    the log odds of a probability; that of real values is the value, and needs no other formula.
    ``arguments`` maps the distribution's arguments, by name, to those of the formulas. ``kink``
    names the argument at which the density has a kink.
    """

    arguments: Callable[..., tuple[Any, ...]]
    of_value: Callable[..., Parts]
    of_coordinate: Callable[..., Parts] | None = None
    kink: str | None = None


DENSITIES: dict[str, Density] = {
    "Normal": Density(lambda mu, sigma: (mu, sigma), _normal),
    "StudentT": Density(_of_student, _student),
    "Laplace": Density(lambda mu, b: (mu, b), _laplace, kink="mu"),
    "Cauchy": Density(lambda alpha, beta: _of_student(1.0, alpha, beta), _student),
    "Logistic": Density(lambda mu, s: (mu, s), _logistic),
    "ZeroSumNormal": Density(lambda sigma: (0.0, sigma), _normal),  # of an orthonormal coordinate
    "LogNormal": Density(lambda mu, sigma: (mu, sigma), _log_normal, _log_normal_of_log),
    "HalfNormal": Density(lambda sigma: (sigma,), _half_normal, _half_normal_of_log),
    "HalfStudentT": Density(
        lambda nu, sigma: _of_student(nu, 0.0, sigma, 2.0), _student, _half_student_of_log
    ),
    "HalfCauchy": Density(
        lambda beta: _of_student(1.0, 0.0, beta, 2.0), _student, _half_student_of_log
    ),
    "Exponential": Density(lambda lam: _of_gamma(0.0, 1.0, 1 / lam), _gamma, _gamma_of_log),
    "Gamma": Density(
        lambda alpha, beta: _of_gamma(alpha - 1, 1.0, 1 / beta), _gamma, _gamma_of_log
    ),
    "InverseGamma": Density(
        lambda alpha, beta: _of_gamma(-alpha - 1, -1.0, beta), _gamma, _gamma_of_log
    ),
    "Weibull": Density(
        lambda alpha, beta: _of_gamma(alpha - 1, alpha, beta), _gamma, _gamma_of_log
    ),
    "Beta": Density(_of_beta, _beta, _beta_of_logit),
    "LogitNormal": Density(lambda mu, sigma: (mu, sigma), _logit_normal, _logit_normal_of_logit),
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

    The supports of positive distributions and of those of probabilities are open intervals;
    outside ``log_p`` is minus infinity and the derivatives are 0. PyMC's densities differ from
    this only at the ends, where some are finite.

    Values beyond the range of doubles are infinite, without a warning, such as the second
    derivative of a ``Gamma`` density at 1e-300.
    """
    density = DENSITIES[prior.distribution]
    x = np.asarray(value, dtype=float)
    if density.of_coordinate is None:
        return _evaluate(density.of_value, prior, x)
    outside = (x <= 0) | (x >= (1.0 if prior.kind.support == "unit" else np.inf))
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
        probabilities, and real values themselves.

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
