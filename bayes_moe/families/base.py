"""Interface of response distributions: density, moments, cdf and draws."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.errors import DataError
from bayes_moe.data.tables import ROUNDING, check_size
from bayes_moe.families.description import Described, quoted
from bayes_moe.families.formula import (
    NOTHING,
    Derivatives,
    Formula,
    Parameter,
    Parameters,
    RowData,
    Slot,
)
from bayes_moe.families.intervals import Intervals

__all__ = [
    "NOTHING",
    "Derivatives",
    "Family",
    "Parameter",
    "Parameters",
    "RowData",
    "Slot",
    "quoted",
]


Size = tuple[int, ...]
"""Shape of an array of draws."""


@dataclass(frozen=True)
class Family(Described, Intervals, Formula):
    """A response distribution. All arrays broadcast against each other.

    Instances are frozen; their fields are the settings of the family, such as a link. For the
    arrays in ``params`` see :class:`bayes_moe.families.formula.Formula`; known counts are those
    of ``known_counts``. A family that depends on the labels of classes has a field ``levels``, by
    default None, which a description fills by :func:`bayes_moe.families.with_levels`.
    """

    takes_levels: ClassVar[str | None] = None
    """Number of classes of a response of classes, whose values are their codes 0, 1, ...:
    ``"two"`` or ``"any"``; None for a response of numbers."""
    ordered: ClassVar[bool] = False
    """Whether the order of the classes has a meaning."""
    kink: ClassVar[bool] = False
    """Whether the slope of the log density by the first parameter has a jump where it is ``y``."""
    normal_mixture: ClassVar[bool] = False
    """Whether, given a latent factor of the variance, a function of the response is normal with the
    first parameter as its mean and the second as its scale, and ``information`` of the first is the
    expected inverse variance given the response: EM then has the scale's maximum in closed form."""

    @property
    def locations(self) -> tuple[str, ...]:
        """Parameters that the formula of an expert predicts: the first, or all means."""
        return tuple(p.name for p in self.parameters[:1])

    @abstractmethod
    def dist(self, params: Parameters) -> Any:
        """PyMC distribution, for symbolic draws."""

    def location(self, params: Parameters) -> np.ndarray:
        """Centre (..., expert, obs) in the response's units; it is always defined."""
        return params[self.parameters[0].name]

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        """Finite predictor (obs,) of the location, each from one response alone."""
        return y

    def initial_location(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        """Predictors of the location from one response each: (1, obs), or (label, 1, obs)."""
        return np.asarray(self.initial_eta(y, known))[None]

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
    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
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
        if not self.discrete:
            self.check_variation(y, name, known)
        base = np.broadcast_to(np.asarray(self.data(y, known, NUMERIC).base), y.shape)
        invalid = np.flatnonzero(~(base > -np.inf))
        if invalid.size:
            at = int(invalid[0])
            row = at if obs_id is None else obs_id[at]
            raise DataError(
                f"The response {name!r} is {y[at]:g} at row {row}{self.beside(at, known)}; family "
                f"{self.kind!r} needs {self.support} ({invalid.size} row(s) are not)."
            )
        if self.discrete:
            self.check_variation(y, name, known)

    def check_variation(self, y: np.ndarray, name: str, known: Parameters) -> None:
        """Raise :class:`DataError` if responses (obs,) are all alike, or too large to square."""
        check_size(y, f"response {name!r}")
        check_varied(y, f"response {name!r}")

    def beside(self, at: int, known: Parameters) -> str:
        """Text on the known counts of the row at a position, for error messages."""
        return ""


def check_varied(values: np.ndarray, what: str) -> None:
    """Raise :class:`DataError` for numbers (obs,) that are all equal up to rounding."""
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        raise DataError(
            f"The {what} has zero variance up to rounding: all {values.size} values are "
            f"{values[0]:g}. There is nothing to model."
        )
