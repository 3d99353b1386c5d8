"""Internal units and default priors of predictors and constant parameters, by role.

Default priors (``s_y``, ``m_y``: standard deviation and mean of the response; ``s_j``: standard
deviation of feature ``j``; intercepts refer to the centre of the features):

=============================  =======================================================
location coefficients (``mu``) intercept ``Normal(m_y, 2.5 s_y)``, slopes
                               ``Normal(0, 2.5 s_y / s_j)``
log means (Poisson, gamma)     intercept ``Normal(log m_y, 2.5 u)``, slopes
                               ``Normal(0, 2.5 u / s_j)``, with ``u^2 = log(1 + s_y^2 / m_y^2)``
                               and ``u`` at most 1
roots of means (Poisson)       as location coefficients, of the root of the response
log odds (``p``)               intercept ``Normal(0, 2.5)``, slopes
                               ``Normal(0, 2.5 / s_j)``
gate, class coefficients       intercept ``ZeroSumNormal(1.5)``, slopes
                               ``ZeroSumNormal(2.5 / s_j)``
scale (``sigma``)              ``LogNormal(log(s_y / 2), 1)``; with a formula, on the log
                               link: the same prior for the intercept,
                               ``Normal(0, 1 / s_j)`` for slopes
scale of logs (``sigma`` of    ``LogNormal(log(s / 2), 1)`` with ``s^2 = log(1 + s_y^2 / m_y^2)``;
log-normal)                    with a formula as ``sigma``
precision (``lam`` of inverse  that of ``alpha`` times ``m_y``
Gaussian)
precision (``nu`` of beta)     that of ``alpha`` with ``m_y (1 - m_y) / s_y^2`` for
                               ``m_y^2 / s_y^2``
directions (``mu`` of von      intercept ``Normal(0, 2.5)``, slopes ``Normal(0, 2.5 / s_j)``,
Mises)                         of the tangent of half the angle
concentration of angles        that of ``alpha`` with ``1 / (2 - 2 R)`` for ``m_y^2 / s_y^2``,
(``kappa``)                    where ``R`` is the length of the mean of the unit vectors
shape (``alpha`` of Weibull)   ``Gamma(2, 0.3 s_y / m_y)``; with a formula, on the log
                               link: ``Normal(log(5.5 m_y / s_y), 1)``, slopes
                               ``Normal(0, 0.5 / s_j)``
shape (``nu``)                 ``Gamma(2, 0.1)``; with a formula, on the log link:
                               ``Normal(log 15, 1)``, slopes ``Normal(0, 0.5 / s_j)``
precision (``alpha``)          ``Gamma(1.5, 0.01 s_y^2 / m_y^2)``; with a formula, on the log
                               link: ``Normal(log(30 m_y^2 / s_y^2), 2)``, slopes
                               ``Normal(0, 1 / s_j)``
probability (``psi``)          ``Beta(2, 2)``; with a formula, on the logit link:
                               ``Normal(0, 1.5)``, slopes ``Normal(0, 1 / s_j)``
concentration of counts        ``LogNormal(1, 1.5)``; with a formula, on the log link: the
                               same prior for the intercept, slopes ``Normal(0, 0.5 / s_j)``
correlation (``rho``)          ``FisherNormal(0, 0.91)``, or ``LKJ``: see
                               :class:`bayes_moe.families.multivariate.MvNormal`; with a
                               formula, on the link ``2 artanh``: ``Normal(0, 1.8)``, slopes
                               ``Normal(0, 1 / s_j)``
power less one (``excess``)    ``LogNormal(0, 1)``; with a formula, on the log link: the same prior
                               for the intercept, slopes ``Normal(0, 0.5 / s_j)``
asymmetry                      ``Normal(0, 3)``; with a formula the same prior for the
                               intercept, slopes ``Normal(0, 1 / s_j)``
=============================  =======================================================

``u`` is the standard deviation of the log of a log-normal with the moments of the response, which
may be zero in some rows. With it, means of a response that varies little vary as those of a
location do.

Without an intercept, features are not centred, ``s_j`` is the root mean square of the feature,
``s_y`` in the prior of location coefficients that of the response, and ``u`` is 1.

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
from typing import Any

import numpy as np

from bayes_moe.core.checks import check_one_of
from bayes_moe.core.samples import Sample, sample_of
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


def _precision(y: Sample) -> float:
    """Inverse squared coefficient of variation of the response."""
    return (y.mean / y.sd) ** 2


@dataclass(frozen=True)
class Role:
    """What a predictor stands for: its default priors, and whether it can collapse.

    Attributes
    ----------
    intercept, slope : float
        Standard deviations of the intercept and of slopes, in internal units.
    level : callable or None
        Response -> level of the predictor where the features are at their centre; 0 if None.
    constant : callable or None
        Response -> default prior of a parameter that is constant for each expert.
    unit : callable or None
        Response and whether there is an intercept -> internal unit of the predictor; 1 if
        None.
    scale : callable or None
        Values (obs,) of the response -> the same on the scale of the predictor; itself if None.
    spread : float
        Derivative of the log of the spread by the predictor, of a parameter by which an expert
        collapses onto rows that it fits exactly; 0 for others.
    log_unit : callable or None
        Response -> log of the unit of that spread; None if it is relative, such as a
        coefficient of variation.
    neutral : float
        Predictor of a constant before anything is known of it.
    without : callable or None
        Response (obs,) and an offset of the predictor -> response of a model without it; None where
        units do not depend on the level of the response, or the level is that of another parameter.
    zero_sum : bool
        Whether only differences of its outputs count, so that the default prior is zero-sum.
    of_form : bool
        Whether residuals of a bad fit carry no information on it, as on degrees of freedom.
    both_ends : bool
        Whether an expert collapses as the predictor grows in either direction, as a correlation.
    signed : bool
        Whether its neutral value may have either sign, which residuals of symmetric experts say.
    """

    intercept: float
    slope: float
    level: Callable[[Sample], float] | None = None
    constant: Callable[[Sample], Prior] | None = None
    unit: Callable[[Sample, bool], float] | None = None
    scale: Callable[[np.ndarray], np.ndarray] | None = None
    without: Callable[[np.ndarray, Any], np.ndarray] | None = None
    spread: float = 0.0
    log_unit: Callable[[Sample], float] | None = None
    neutral: float = 2.0
    of_form: bool = False
    zero_sum: bool = False
    both_ends: bool = False
    signed: bool = False

    @property
    def collapses(self) -> bool:
        """Whether an expert can collapse by the parameter."""
        return self.spread != 0.0

    def log_spread(self, eta: np.ndarray) -> np.ndarray:
        """Logarithm of the spread that a predictor means: of sigma, or of ``1 / sqrt(alpha)``.

        That of a correlation ``rho = tanh(eta / 2)`` is ``log sqrt(1 - rho^2)``.
        """
        if self.both_ends:
            size = np.abs(eta)
            return np.asarray(math.log(2.0) + self.spread * size - np.log1p(np.exp(-size)))
        return eta if self.spread == 1.0 else self.spread * eta

    def bounded(self, eta: np.ndarray, floor: float) -> np.ndarray:
        """Predictors whose log spread is at least the floor."""
        if floor == -np.inf:
            return eta
        if self.both_ends:
            most = (floor - math.log(2.0)) / self.spread
            return np.clip(eta, -most, most)
        bound = np.minimum if self.spread < 0 else np.maximum
        return np.asarray(bound(eta, floor / self.spread))

    def log_spread_unit(self, response: Sample | np.ndarray) -> float:
        """Log of the unit of the spread, for a response."""
        return 0.0 if self.log_unit is None else self.log_unit(sample_of(response))


def _mean(y: Sample) -> float:
    return y.mean


def _share_precision(y: Sample) -> float:
    """``m (1 - m) / s^2`` of responses between zero and one."""
    return y.mean * (1.0 - y.mean) / y.variance


def _angular_precision(y: Sample) -> float:
    """``1 / (2 - 2 R)`` of angles, with ``R`` the length of their mean as unit vectors."""
    mean = math.atan2(y.map(np.sin).mean, y.map(np.cos).mean)
    return 0.25 / y.map(lambda x: np.sin(0.5 * (x - mean)) ** 2).mean


def _log_sd(y: Sample) -> float:
    return math.log(y.sd)


def _log_half_sd(y: Sample) -> float:
    return math.log(y.sd / 2)


def _sd_of_log(y: Sample) -> float:
    """Standard deviation of the log of a log-normal with the moments of the response."""
    return math.sqrt(math.log1p(1.0 / _precision(y)))


def _spread(y: Sample, has_intercept: bool) -> float:
    """Standard deviation, or without an intercept the root mean square."""
    return y.sd if has_intercept else math.sqrt(y.map(np.square).mean)


def _log_spread(y: Sample, has_intercept: bool) -> float:
    """Standard deviation of the log, at most one; without an intercept one."""
    return min(1.0, _sd_of_log(y)) if has_intercept else 1.0


ROLES: dict[str, Role] = {
    "gate": Role(1.5, 2.5, zero_sum=True),
    "class": Role(1.5, 2.5, zero_sum=True),
    "location": Role(2.5, 2.5, level=_mean, unit=_spread, without=np.subtract),
    "root": Role(
        2.5,
        2.5,
        level=_mean,
        unit=_spread,
        scale=np.sqrt,
        without=lambda y, offset: np.maximum(np.sqrt(y) - offset, 0.0) ** 2,
    ),
    "rate": Role(
        2.5,
        2.5,
        level=lambda y: math.log(_mean(y)),
        unit=_log_spread,
        without=lambda y, offset: y * np.exp(-offset),
    ),
    "odds": Role(2.5, 2.5),
    "scale": Role(
        1.0,
        1.0,
        level=_log_half_sd,
        constant=lambda y: Prior("LogNormal", mu=_log_half_sd(y), sigma=1.0),
        spread=1.0,
        log_unit=_log_sd,
    ),
    "log_scale": Role(
        1.0,
        1.0,
        level=lambda y: math.log(_sd_of_log(y) / 2),
        constant=lambda y: Prior("LogNormal", mu=math.log(_sd_of_log(y) / 2), sigma=1.0),
        spread=1.0,
        neutral=-0.7,
    ),
    "precision": Role(
        2.0,
        1.0,
        level=lambda y: math.log(30.0 * _precision(y)),
        constant=lambda y: Prior("Gamma", alpha=1.5, beta=0.01 / _precision(y)),
        spread=-0.5,
    ),
    "mean_precision": Role(
        2.0,
        1.0,
        level=lambda y: math.log(30.0 * _mean(y) * _precision(y)),
        constant=lambda y: Prior("Gamma", alpha=1.5, beta=0.01 / _precision(y) / _mean(y)),
        spread=-0.5,
        log_unit=lambda y: -0.5 * math.log(_mean(y)),
    ),
    "relative_precision": Role(
        1.0,
        0.5,
        level=lambda y: 0.5 * math.log(30.0 * _precision(y)),
        constant=lambda y: Prior("Gamma", alpha=2.0, beta=0.3 / math.sqrt(_precision(y))),
        spread=-1.0,
    ),
    "share_precision": Role(
        2.0,
        1.0,
        level=lambda y: math.log(30.0 * _share_precision(y)),
        constant=lambda y: Prior("Gamma", alpha=1.5, beta=0.01 / _share_precision(y)),
        spread=-0.5,
    ),
    "direction": Role(2.5, 2.5),
    "angular_precision": Role(
        2.0,
        1.0,
        level=lambda y: math.log(30.0 * _angular_precision(y)),
        constant=lambda y: Prior("Gamma", alpha=1.5, beta=0.01 / _angular_precision(y)),
        spread=-0.5,
        log_unit=lambda y: -0.5 * math.log(_angular_precision(y)),
    ),
    "shape": Role(
        1.0,
        0.5,
        level=lambda y: math.log(15.0),
        constant=lambda y: Prior("Gamma", alpha=2.0, beta=0.1),
        of_form=True,
    ),
    "power": Role(
        1.0,
        0.5,
        constant=lambda y: Prior("LogNormal", mu=0.0, sigma=1.0),
        neutral=0.0,
        of_form=True,
    ),
    "gap": Role(1.0, 0.5, constant=lambda y: Prior("LogNormal", mu=0.0, sigma=1.0), neutral=0.0),
    # Without overdispersion the concentration is infinite.
    "concentration": Role(
        1.5, 0.5, level=lambda y: 1.0, constant=lambda y: Prior("LogNormal", mu=1.0, sigma=1.5)
    ),
    "probability": Role(
        1.5, 1.0, constant=lambda y: Prior("Beta", alpha=2.0, beta=2.0), neutral=0.0
    ),
    # The spread of a response given the other is sqrt(1 - rho^2) of its own.
    "correlation": Role(1.8, 1.0, spread=-0.5, both_ends=True, neutral=0.0),
    # Where there is no asymmetry, a density may have a saddle by it and the location.
    "asymmetry": Role(
        3.0,
        1.0,
        constant=lambda y: Prior("Normal", mu=0.0, sigma=3.0),
        neutral=1.0,
        of_form=True,
        signed=True,
    ),
}
"""Roles of predictors by name."""


def role_of(name: str) -> Role:
    """Row of the table of roles.

    Raises
    ------
    SpecError
        For a role that is not in the table.
    """
    check_one_of("role", name, ROLES)
    return ROLES[name]


def units_of(
    role: str, response: Sample | np.ndarray, has_intercept: bool, shift: float = 0.0
) -> Units:
    """Internal units and default prior widths of a linear predictor by its role.

    Without an intercept the features are not centred, and units are those in which the prior
    covers the level of the response. ``shift`` is the mean of what is added to the predictor, from
    whose variation the response is free.

    Raises
    ------
    SpecError
        For a role that is not in the table.
    """
    row, response = role_of(role), sample_of(response)
    without = row.without
    if shift and without is not None:
        response = response.map(lambda y: without(y, shift))
        shift = 0.0
    response = response if row.scale is None else response.map(row.scale)
    level = row.level(response) - shift if has_intercept and row.level is not None else 0.0
    unit = 1.0 if row.unit is None else row.unit(response, has_intercept)
    return Units(level, unit, row.intercept, row.slope)


def default_constant(role: str, response: Sample | np.ndarray) -> Prior:
    """Default prior of a parameter that is constant for each expert, by its role.

    Raises
    ------
    SpecError
        For a role whose parameters cannot be constants.
    """
    check_one_of("role of a constant", role, [n for n, row in ROLES.items() if row.constant])
    constant = ROLES[role].constant
    assert constant is not None
    return constant(sample_of(response))
