"""Location-scale families of real responses: normal and Student's t."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import Arrays
from bayes_moe.families import student_t
from bayes_moe.families.base import Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.links import IDENTITY, LOG

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def normal_row(m: Any) -> Callable[..., Any]:
    """The log density of a normal ``t`` over the functions of ``m``, less its constant."""

    def row(t: Any, u: Any, base: Any, mu: Any, log_sigma: Any) -> Any:
        z = (t - mu) * m.exp(-log_sigma)
        return base - log_sigma - 0.5 * (z * z)

    return row


def normal_tails(m: Any) -> Callable[..., Any]:
    """Logs of the tails of a normal ``t`` over the functions of ``m``."""

    def tails(t: Any, u: Any, mu: Any, log_sigma: Any) -> Any:
        z = (t - mu) * m.exp(-log_sigma)
        return m.log_ndtr(z), m.log_ndtr(-z)

    return tails


def normal_information(etas: Sequence[np.ndarray]) -> Sequence[Any]:
    """Expected information of a normal mean and of the log of the standard deviation."""
    return np.exp(-2 * etas[1]), 2.0


class Normal(Family):
    """Normal distribution with mean ``mu`` and standard deviation ``sigma``.

    ``log f(y) = -z^2 / 2 - log sigma - log(2 pi) / 2`` with ``z = (y - mu) / sigma``.
    """

    kind = "normal"
    normal_mixture = True
    parameters = (Parameter("mu", IDENTITY, "location"), Parameter("sigma", LOG, "scale"))

    def row(self, m: Any) -> Callable[..., Any]:
        return normal_row(m)

    def tails(self, m: Any) -> Callable[..., Any]:
        return normal_tails(m)

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        return RowData(y, 0.0, -HALF_LOG_2PI)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        return normal_information(etas)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Normal.dist(**params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.ndtr((y - params["mu"]) / params["sigma"])

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.ndtr((params["mu"] - y) / params["sigma"])

    def mean(self, params: Parameters) -> np.ndarray:
        return params["mu"]

    def variance(self, params: Parameters) -> np.ndarray:
        return params["sigma"] ** 2

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return rng.normal(params["mu"], params["sigma"], size)

    def scale(self, params: Parameters) -> np.ndarray:
        return params["sigma"]


class StudentT(Family):
    """Student's t with location ``mu``, scale ``sigma`` and ``nu`` degrees of freedom.

    ``log f(y) = log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2 - log sigma
    - (nu + 1) / 2 log(1 + z^2 / nu)`` with ``z = (y - mu) / sigma``.
    """

    kind = "studentt"
    normal_mixture = True
    parameters = (
        Parameter("mu", IDENTITY, "location"),
        Parameter("sigma", LOG, "scale"),
        Parameter("nu", LOG, "shape"),
    )

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, mu: Any, log_sigma: Any, log_nu: Any) -> Any:
            z = (t - mu) * m.exp(-log_sigma)
            value = base - log_sigma + m.student_normaliser(log_nu)
            return value - m.student_tail(z * z, log_nu)

        return row

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, mu: Any, log_sigma: Any, log_nu: Any) -> Any:
            z = (t - mu) * m.exp(-log_sigma)
            return m.log_student_below(z, log_nu), m.log_student_below(-z, log_nu)

        return tails

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        return RowData(y, 0.0, -HALF_LOG_2PI)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        # Student's observed information is negative in the tails; these are its expectations
        # over the latent scale (mu), and over the response (sigma, nu).
        inverse, nu = np.exp(-etas[1]), np.exp(etas[2])
        z = (data.t - etas[0]) * inverse
        weight = (nu + 1) / (nu + z * z)
        information = student_t.Normaliser.at(nu).information
        return weight * (inverse * inverse), 2 * nu / (nu + 3), information

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.StudentT.dist(**params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.stdtr(params["nu"], (y - params["mu"]) / params["sigma"])

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.stdtr(params["nu"], (params["mu"] - y) / params["sigma"])

    def mean(self, params: Parameters) -> np.ndarray:
        return np.where(params["nu"] > 1, params["mu"], np.nan)

    def variance(self, params: Parameters) -> np.ndarray:
        nu = np.asarray(params["nu"])
        with np.errstate(divide="ignore", invalid="ignore"):
            finite = params["sigma"] ** 2 * nu / (nu - 2)
        return np.where(nu > 2, finite, np.where(nu > 1, np.inf, np.nan))

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return params["mu"] + params["sigma"] * rng.standard_t(params["nu"], size)

    def scale(self, params: Parameters) -> np.ndarray:
        return params["sigma"]
