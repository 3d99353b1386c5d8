"""Interface of response distributions: parameters, log density with derivatives, moments, draws.

The log density takes an :class:`~bayes_moe.core.arrays.Arrays` namespace: the PyMC graph and NumPy
prediction share its formula.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.core.errors import DataError
from bayes_moe.data.tables import ROUNDING, check_size
from bayes_moe.families.links import Link

Parameters = Mapping[str, Any]
"""Parameters and known counts of a family by name, as its formulas take them."""

NOTHING: Parameters = MappingProxyType({})


@dataclass(frozen=True)
class Parameter:
    """A parameter of a family: name, link and role. The first one is the location.

    ``role`` determines how priors are scaled to data: a ``"location"`` has the response's origin
    and units, a ``"scale"`` its units, a ``"shape"`` none; a ``"rate"`` is the log of a mean, a
    ``"precision"`` an inverse squared coefficient of variation, and ``"odds"`` are a logit.
    """

    name: str
    link: Link
    role: str


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of a log density by the predictors ``eta_a`` of its parameters.

    ``eta_a`` is parameter ``a`` on its link scale. Arrays broadcast against (..., expert, obs);
    those without dependence on the row may be (..., expert, 1).

    Attributes
    ----------
    score : tuple of array
        ``d log f / d eta_a``, in the order of the family's ``PARAMS``.
    second : tuple of tuple of array
        ``d2 log f / d eta_a d eta_b``; symmetric, with one array for both orders.
    expected_information : tuple of array
        Non-negative curvature for weighted least squares: an expectation of ``-second[a][a]``,
        over the response or over the latent scale of a scale mixture.
    """

    score: tuple[np.ndarray, ...]
    second: tuple[tuple[np.ndarray, ...], ...]
    expected_information: tuple[np.ndarray, ...]


class Family(ABC):
    """A response distribution without state. All arrays broadcast against each other.

    ``params`` hold each parameter of ``PARAMS`` (..., expert, obs), as its link's ``inverse`` gives
    it, and each known count of ``KNOWN``, such as the number of trials, (obs,) or (1,).
    """

    PARAMS: ClassVar[tuple[Parameter, ...]]
    KNOWN: ClassVar[tuple[str, ...]] = ()
    discrete: ClassVar[bool] = False
    lower: ClassVar[float] = -np.inf
    """Lower end of the support."""

    @classmethod
    def parameter(cls, name: str) -> Parameter:
        """Parameter of the family called ``name``."""
        return next(p for p in cls.PARAMS if p.name == name)

    @abstractmethod
    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Log density (..., expert, obs) of ``y`` (obs,), in arrays of NumPy or PyTensor."""

    @abstractmethod
    def log_base(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Summand (obs,) of the log density without parameters, of ``y`` and known counts only.

        Minus infinity outside the support. Samplers compute it once for all points.
        """

    @abstractmethod
    def derivatives(self, y: Any, params: Parameters) -> Derivatives:
        """Derivatives (..., expert, obs) of :meth:`log_density` by the parameters' predictors."""

    @abstractmethod
    def dist(self, params: Parameters) -> Any:
        """PyMC distribution, for symbolic draws."""

    def location(self, params: Parameters) -> np.ndarray:
        """Centre (..., expert, obs) in the response's units; it is always defined."""
        return params[self.PARAMS[0].name]

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        """Finite predictor (obs,) of the location, each from one response alone."""
        return y

    @abstractmethod
    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        """Cumulative probability (..., expert, obs) of ``y``."""

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        """Probability (..., expert, obs) above ``y``, with small relative error in the tail."""
        return 1 - self.cdf(y, params)

    @abstractmethod
    def mean(self, params: Parameters) -> np.ndarray:
        """Mean (..., expert, obs); NaN where it is undefined."""

    @abstractmethod
    def variance(self, params: Parameters) -> np.ndarray:
        """Variance (..., expert, obs); infinite or NaN where it is undefined."""

    @abstractmethod
    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        """Draws of shape ``size`` from the distribution."""

    @abstractmethod
    def scale(self, params: Parameters) -> np.ndarray:
        """Finite positive width (..., expert, obs) in the response's units."""

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        """Raise :class:`DataError` if ``y`` (obs,) cannot be a response of this family.

        ``obs_id`` (obs,) are the positions of the rows in the user's table.
        """
        check_size(y, f"response {name!r}")
        check_varied(y, f"response {name!r}")


def check_varied(values: np.ndarray, what: str) -> None:
    """Raise :class:`DataError` for numbers (obs,) that are all equal up to rounding."""
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        raise DataError(
            f"The {what} has zero variance up to rounding: all {values.size} values are "
            f"{values[0]:g}. There is nothing to model."
        )
