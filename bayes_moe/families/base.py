"""What every response distribution can do: parameters, log density and its derivatives, moments.

The log density is written once against an :class:`~bayes_moe.core.arrays.Arrays` namespace: the
PyMC graph and NumPy prediction share it.
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
NOTHING: Parameters = MappingProxyType({})


@dataclass(frozen=True)
class Parameter:
    """A row of a family's table. The first one is the location, which always has a formula.

    ``role`` says how priors are scaled to data: ``"location"`` moves with the response,
    ``"scale"`` is in its units, ``"shape"`` has no units, ``"rate"`` is a logarithm of the
    response, and ``"odds"`` a logit.
    """

    name: str
    link: Link
    role: str


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of a log density by the linear predictors ``eta_a`` of its parameters.

    ``eta_a`` is parameter ``a`` on its link scale. Arrays broadcast against (..., expert, obs); one
    that is the same for every row may be (..., expert, 1).

    Attributes
    ----------
    score : tuple of array
        ``d log f / d eta_a``, in the order of the family's ``PARAMS``.
    second : tuple of tuple of array
        ``d2 log f / d eta_a d eta_b``; symmetric, with one array for both orders.
    working : tuple of array
        Curvature that is never negative, for weighted least squares: an expectation of
        ``-second[a][a]``, by the family's own choice.
    """

    score: tuple[np.ndarray, ...]
    second: tuple[tuple[np.ndarray, ...], ...]
    expected_information: tuple[np.ndarray, ...]


class Family(ABC):
    """A response distribution. All arrays broadcast against each other.

    ``KNOWN`` names the counts that a family must know of each row, such as the number of trials;
    they stand among ``params`` with shape (obs,), or (1,) if all rows have the same.
    """

    PARAMS: ClassVar[tuple[Parameter, ...]]
    KNOWN: ClassVar[tuple[str, ...]] = ()
    discrete: ClassVar[bool] = False

    @classmethod
    def parameter(cls, name: str) -> Parameter:
        """Return the table's row of the parameter called ``name``."""
        return next(p for p in cls.PARAMS if p.name == name)

    @abstractmethod
    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Log density of ``y``; written once for NumPy and PyTensor."""

    @abstractmethod
    def log_base(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Summand of the log density in which no parameter stands, only what is known of a row.

        Minus infinity where ``y`` is impossible. It is computed once for all points of a sampler.
        """

    @abstractmethod
    def derivatives(self, y: Any, params: Parameters) -> Derivatives:
        """Derivatives of :meth:`log_density` by the linear predictors of the parameters."""

    @abstractmethod
    def dist(self, params: Parameters) -> Any:
        """Return the PyMC distribution, for symbolic draws."""

    def location(self, params: Parameters) -> np.ndarray:
        """Centre of the distribution in the response's units; it exists where a mean does not."""
        return params[self.PARAMS[0].name]

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        """Predictor of the location that a row alone suggests; finite."""
        return y

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

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        """Raise :class:`DataError` if ``y`` cannot be a response of this family.

        ``obs_id`` (obs,) are the positions of the rows in the user's table.
        """
        check_size(y, f"response {name!r}")
        check_varied(y, f"response {name!r}")


def check_varied(values: np.ndarray, what: str) -> None:
    """Raise :class:`DataError` for numbers that are all the same."""
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        raise DataError(
            f"The {what} has zero variance up to rounding: all {values.size} values are "
            f"{values[0]:g}. There is nothing to model."
        )
