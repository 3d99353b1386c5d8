"""Response distributions: parameters, log density, moments, cdf, draws, and what is a bad response.

Each family is a class-level table of parameters plus its formulas. The log density is written
once against an :class:`~bayes_moe.arrays.Arrays` namespace: the PyMC graph and NumPy
prediction share it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special

from bayes_moe import registry
from bayes_moe.arrays import Arrays
from bayes_moe.errors import DataError
from bayes_moe.tables import ROUNDING, check_size

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Link:
    """A link function and its inverse, by name."""

    name: str

    def inverse(self, eta: Any, xp: Arrays) -> Any:
        """Map a predictor to the parameter's scale."""
        return xp.exp(eta) if self.name == "log" else eta

    def __call__(self, value: Any, xp: Arrays) -> Any:
        """Map a parameter to the predictor's scale."""
        return xp.log(value) if self.name == "log" else value


IDENTITY = Link("identity")
LOG = Link("log")


@dataclass(frozen=True)
class Parameter:
    """A row of a family's table.

    ``role`` says how priors are scaled to data: ``"location"`` moves with the response,
    ``"scale"`` is in its units, ``"shape"`` has no units.
    """

    name: str
    link: Link
    role: str


class Family(ABC):
    """A response distribution. All arrays broadcast against each other."""

    PARAMS: ClassVar[tuple[Parameter, ...]]

    @classmethod
    def parameter(cls, name: str) -> Parameter:
        """Return the table's row of the parameter called ``name``."""
        return next(p for p in cls.PARAMS if p.name == name)

    @abstractmethod
    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Log density of ``y``; written once for NumPy and PyTensor."""

    @abstractmethod
    def dist(self, params: Parameters) -> Any:
        """Return the PyMC distribution, for symbolic draws."""

    @abstractmethod
    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        """Cumulative probability of ``y``."""

    @abstractmethod
    def mean(self, params: Parameters) -> np.ndarray:
        """Mean of the distribution (NaN where it does not exist)."""

    @abstractmethod
    def variance(self, params: Parameters) -> np.ndarray:
        """Variance of the distribution (infinite or NaN where it does not exist)."""

    @abstractmethod
    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        """Draw from the distribution."""

    @abstractmethod
    def scale(self, params: Parameters) -> np.ndarray:
        """Positive width of the distribution in the response's units; always finite."""

    def check_response(self, y: np.ndarray, name: str) -> None:
        """Raise :class:`DataError` if ``y`` cannot be a response of this family."""
        check_size(y, f"response {name!r}")
        if np.ptp(y) <= ROUNDING * np.abs(y).max():
            raise DataError(
                f"The response {name!r} has zero variance up to rounding: all {y.size} values are "
                f"{y[0]:g}. There is nothing to model."
            )


class Normal(Family):
    """Normal distribution with mean ``mu`` and standard deviation ``sigma``."""

    PARAMS = (Parameter("mu", IDENTITY, "location"), Parameter("sigma", LOG, "scale"))

    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        z = (y - params["mu"]) / params["sigma"]
        return -0.5 * z * z - xp.log(params["sigma"]) - 0.5 * math.log(2 * math.pi)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Normal.dist(**params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.ndtr((y - params["mu"]) / params["sigma"])

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
    """Student's t with location ``mu``, scale ``sigma`` and ``nu`` degrees of freedom."""

    PARAMS = (
        Parameter("mu", IDENTITY, "location"),
        Parameter("sigma", LOG, "scale"),
        Parameter("nu", LOG, "shape"),
    )

    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        nu, sigma = params["nu"], params["sigma"]
        z = (y - params["mu"]) / sigma
        return (
            xp.gammaln(0.5 * (nu + 1))
            - xp.gammaln(0.5 * nu)
            - 0.5 * xp.log(nu * math.pi)
            - xp.log(sigma)
            - 0.5 * (nu + 1) * xp.log1p(z * z / nu)
        )

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.StudentT.dist(**params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.stdtr(params["nu"], (y - params["mu"]) / params["sigma"])

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


def by_name(name: str) -> Family:
    """Return the family registered as ``name``."""
    instance: Family = registry.resolve("family", name)()
    return instance
