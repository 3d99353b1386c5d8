"""Location-scale families of real responses: normal and Student's t."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import Arrays
from bayes_moe.families.base import Derivatives, Family, Parameter, Parameters
from bayes_moe.families.links import IDENTITY, LOG
from bayes_moe.families.student_t import Normaliser, log_excess

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Normal(Family):
    """Normal distribution with mean ``mu`` and standard deviation ``sigma``.

    ``log f(y) = -z^2 / 2 - log sigma - log(2 pi) / 2`` with ``z = (y - mu) / sigma``.
    """

    PARAMS = (Parameter("mu", IDENTITY, "location"), Parameter("sigma", LOG, "scale"))

    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        z = (y - params["mu"]) / params["sigma"]
        return self.log_base(y, params, xp) - 0.5 * z * z - xp.log(params["sigma"])

    def log_base(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return -HALF_LOG_2PI

    def derivatives(self, y: Any, params: Parameters) -> Derivatives:
        inverse = 1 / np.asarray(params["sigma"])
        z = (y - params["mu"]) * inverse
        z2 = z * z
        slope = z * inverse
        precision = inverse * inverse
        cross = -2 * slope
        return Derivatives(
            score=(slope, z2 - 1),
            second=((-precision, cross), (cross, -2 * z2)),
            expected_information=(precision, np.full_like(precision, 2.0)),
        )

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

    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        return rng.normal(params["mu"], params["sigma"], size)

    def scale(self, params: Parameters) -> np.ndarray:
        return params["sigma"]


class StudentT(Family):
    """Student's t with location ``mu``, scale ``sigma`` and ``nu`` degrees of freedom.

    ``log f(y) = log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2 - log sigma
    - (nu + 1) / 2 log(1 + z^2 / nu)`` with ``z = (y - mu) / sigma``.
    """

    PARAMS = (
        Parameter("mu", IDENTITY, "location"),
        Parameter("sigma", LOG, "scale"),
        Parameter("nu", LOG, "shape"),
    )

    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        nu, sigma = params["nu"], params["sigma"]
        z = (y - params["mu"]) / sigma
        gap = xp.gammaln(0.5 * (nu + 1)) - xp.gammaln(0.5 * nu) - 0.5 * xp.log(0.5 * nu)
        # For large nu the difference cancels; two terms of its series are then exact.
        gap = xp.where(nu > 1e3, (1 / (6 * nu * nu) - 1) / (4 * nu), gap)
        return (
            gap
            + self.log_base(y, params, xp)
            - xp.log(sigma)
            - 0.5 * (nu + 1) * xp.log1p(z * z / nu)
        )

    def log_base(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return -HALF_LOG_2PI

    def derivatives(self, y: Any, params: Parameters) -> Derivatives:
        nu = np.asarray(params["nu"])
        inverse = 1 / np.asarray(params["sigma"])
        z = (y - params["mu"]) * inverse
        z2 = z * z
        total = nu + z2
        weight = (nu + 1) / total  # expected precision of the row in the scale mixture of normals
        tail = z2 / total
        core = nu / total
        slope = weight * z * inverse
        pull = weight * z2
        excess = nu * log_excess(z2 / nu, tail)
        turn = core * (z2 - 1)  # total * d weight / d log nu
        normaliser = Normaliser.at(nu)
        mu_mu = weight * (2 * tail - 1) * (inverse * inverse)
        mu_sigma = -2 * core * slope
        mu_nu = turn * z * inverse / total
        sigma_nu = turn * tail
        return Derivatives(
            score=(slope, pull - 1, 0.5 * (normaliser.score + tail - excess)),
            second=(
                (mu_mu, mu_sigma, mu_nu),
                (mu_sigma, -2 * core * pull, sigma_nu),
                (mu_nu, sigma_nu, 0.5 * (normaliser.second + sigma_nu - excess)),
            ),
            # Student's observed information is negative in the tails; these are its expectations
            # over the latent scale (mu), and over the response (sigma, nu).
            expected_information=(
                weight * (inverse * inverse),
                2 * nu / (nu + 3),
                normaliser.information,
            ),
        )

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

    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        return params["mu"] + params["sigma"] * rng.standard_t(params["nu"], size)

    def scale(self, params: Parameters) -> np.ndarray:
        return params["sigma"]
