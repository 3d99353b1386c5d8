"""Formulas of the log densities of priors, each with two derivatives.

They are arithmetic in NumPy's functions alone, and take their normalising constants as an argument.
So they run on arrays, and :mod:`bayes_moe.kernels.priors` compiles the same functions for numbers.
See :mod:`bayes_moe.priors.densities`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Parts = tuple[Any, Any, Any]
"""Log density and its first two derivatives."""

LOG_2 = math.log(2.0)
LOG_PI = math.log(math.pi)


# --- as functions of the value ---------------------------------------------------------------


def normal(x: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log\sigma - \log\sqrt{2\pi}` with :math:`z = (x - \mu) / \sigma`."""
    z = (x - mu) / sigma
    log_p = -0.5 * z * z - np.log(sigma) - 0.5 * (LOG_2 + LOG_PI)
    return log_p, -z / sigma, -1.0 / sigma / sigma


def student(x: np.ndarray, nu: Any, mu: Any, width: Any, constant: Any) -> Parts:
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


def laplace(x: np.ndarray, mu: Any, b: Any) -> Parts:
    r""":math:`-|x - \mu| / b - \log(2b)`; at the kink both derivatives are 0."""
    return -np.abs(x - mu) / b - np.log(b) - LOG_2, -np.sign(x - mu) / b, 0.0


def logistic(x: np.ndarray, mu: Any, s: Any) -> Parts:
    r""":math:`-|z| - \log s - 2 \log(1 + e^{-|z|})` with :math:`z = (x - \mu) / s`."""
    z = (x - mu) / s
    tail = np.exp(-np.abs(z))  # cannot overflow
    log_p = -np.abs(z) - np.log(s) - 2 * np.log1p(tail)
    return log_p, -np.tanh(z / 2) / s, -2 * tail / (1 + tail) ** 2 / s / s


def half_normal(x: np.ndarray, sigma: Any) -> Parts:
    """Twice the density of ``Normal(0, sigma)``."""
    log_p, first, second = normal(x, 0.0, sigma)
    return log_p + LOG_2, first, second


def log_normal(x: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma) - \log x` with :math:`z=(\log x - \mu)/\sigma`."""
    log_p, first, second = log_normal_of_log(np.log(x), mu, sigma)
    return log_p, first / x, (second - first) / x / x


def gamma(x: np.ndarray, a: Any, b: Any, log_s: Any, constant: Any) -> Parts:
    r"""Stacy's generalised gamma density, as in :func:`gamma_of_log` with :math:`u = \log x`.

    .. math:: \log p' = (a - b w) / x, \quad \log p'' = -(a + b (b - 1) w) / x^2.
    """
    u = np.log(x)
    w = np.exp(b * (u - log_s))
    curve = b * (b - 1)
    bend = curve * np.where(curve == 0, 0.0, w)  # w may be infinite
    return gamma_of_log(u, a, b, log_s, constant)[0], (a - b * w) / x, -(a + bend) / x / x


def beta(x: np.ndarray, a: Any, b: Any, constant: Any) -> Parts:
    r""":math:`a \log x + b \log(1 - x) + c`, of shapes :math:`a + 1` and :math:`b + 1`."""
    rest = 1 - x
    log_p = constant + a * np.log(x) + b * np.log1p(-x)
    return log_p, a / x - b / rest, -a / x / x - b / rest / rest


def logit_normal(x: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma x (1 - x))`, :math:`z` of the log odds."""
    rest = 1 - x
    log_p, first, second = normal(np.log(x) - np.log1p(-x), mu, sigma)
    slope = first - rest + x
    bend = second + 2 * x * rest + slope * (x - rest)
    return log_p - np.log(x) - np.log1p(-x), slope / x / rest, bend / x / rest / x / rest


def lkj(x: np.ndarray, power: Any, constant: Any) -> Parts:
    r""":math:`(\eta - 1) \log(1 - x^2) + c` with ``power`` :math:`\eta - 1`."""
    rest = (1 - x) * (1 + x)
    first = -2 * power * x / rest
    return constant + power * np.log(rest), first, -2 * power * (1 + x * x) / rest / rest


def fisher_normal(x: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma (1 - x^2))`, :math:`z` of :math:`\artanh x`."""
    rest = (1 - x) * (1 + x)
    log_p, first, second = normal(0.5 * (np.log1p(x) - np.log1p(-x)), mu, sigma)
    bend = second + 2 * rest + 2 * x * (first + 2 * x)
    return log_p - np.log(rest), (first + 2 * x) / rest, bend / rest / rest


# --- as functions of the logarithm of the value, without a Jacobian ------------------------------


def half_normal_of_log(u: np.ndarray, sigma: Any) -> Parts:
    r""":math:`\log\sqrt{2/\pi} - \log\sigma - w/2` with :math:`w = e^{2(u - \log\sigma)}`."""
    w = np.exp(2 * (u - np.log(sigma)))
    return 0.5 * (LOG_2 - LOG_PI) - np.log(sigma) - w / 2, -w, -2 * w


def half_student_of_log(u: np.ndarray, nu: Any, mu: Any, width: Any, constant: Any) -> Parts:
    r""":math:`c - \frac{\nu+1}{2} \log(1 + e^t)` with :math:`t = 2 (u - \log(\sigma\sqrt\nu))`.

    With the logistic function :math:`\ell`, the derivatives are :math:`-(\nu+1)\,\ell(t)` and
    :math:`-2(\nu+1)\,\ell(t)\,\ell(-t)`. ``mu`` is 0.
    """
    t = 2 * (u - np.log(width))
    log_p = constant - (nu + 1) / 2 * np.logaddexp(0.0, t)
    first = -(nu + 1) / (1 + np.exp(-t))
    return log_p, first, 2 * first / (1 + np.exp(t))


def log_normal_of_log(u: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma) - u` with :math:`z = (u - \mu) / \sigma`."""
    log_p, first, second = normal(u, mu, sigma)
    return log_p - u, first - 1.0, second


def gamma_of_log(u: np.ndarray, a: Any, b: Any, log_s: Any, constant: Any) -> Parts:
    r"""Stacy's generalised gamma density.

    .. math:: \log|b| - \log s - \log\Gamma((a + 1) / b) + a (u - \log s) - w, \quad
              w = e^{b (u - \log s)},

    with derivatives :math:`a - b w` and :math:`-b^2 w`.
    """
    t = u - log_s
    w = np.exp(b * t)
    return constant + a * t - w, a - b * w, -b * b * w


# --- as functions of the log odds of the value, without a Jacobian -------------------------------


def beta_of_logit(u: np.ndarray, a: Any, b: Any, constant: Any) -> Parts:
    r""":math:`c - a \log(1 + e^{-u}) - b \log(1 + e^u)`."""
    share, rest = 1 / (1 + np.exp(-u)), 1 / (1 + np.exp(u))
    log_p = constant - a * np.logaddexp(0.0, -u) - b * np.logaddexp(0.0, u)
    return log_p, a * rest - b * share, -(a + b) * share * rest


def logit_normal_of_logit(u: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma) + \log(1 + e^{-u}) + \log(1 + e^u)`."""
    log_p, first, second = normal(u, mu, sigma)
    tail = np.exp(-np.abs(u))
    log_p += np.abs(u) + 2 * np.log1p(tail)
    return log_p, first + np.tanh(u / 2), second + 2 * tail / (1 + tail) ** 2


# --- as functions of twice the inverse hyperbolic tangent of the value, without a Jacobian --------


def log_complement(u: np.ndarray) -> Parts:
    r""":math:`\log(1 - x^2)` of :math:`x = \tanh(u / 2)`."""
    tail = np.exp(-np.abs(u))
    log_rest = 2 * LOG_2 - np.abs(u) - 2 * np.log1p(tail)
    return log_rest, -np.tanh(u / 2), -2 * tail / (1 + tail) ** 2


def lkj_of_artanh(u: np.ndarray, power: Any, constant: Any) -> Parts:
    r""":math:`(\eta - 1) \log(1 - x^2) + c` of :math:`x = \tanh(u / 2)`."""
    log_rest, first, second = log_complement(u)
    return constant + power * log_rest, power * first, power * second


def fisher_normal_of_artanh(u: np.ndarray, mu: Any, sigma: Any) -> Parts:
    r""":math:`-z^2/2 - \log(\sqrt{2\pi}\sigma) - \log(1 - x^2)`, :math:`z` of :math:`u / 2`."""
    log_rest, slope, bend = log_complement(u)
    log_p, first, second = normal(u / 2, mu, sigma)
    return log_p - log_rest, first / 2 - slope, second / 4 - bend
