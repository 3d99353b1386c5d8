"""Families without parameters, whose distribution is all settings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.families.base import Family, Parameter, Parameters


class WithoutParameters(Family):
    """A distribution without parameters, for an expert beside others."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return ()

    def row(self, m: Any) -> Callable[..., Any]:
        return lambda t, u, base, eta: base + 0.0 * eta

    def tails(self, m: Any) -> Callable[..., Any]:
        return lambda t, u, eta: (0.0 * eta, 0.0 * eta)

    @abstractmethod
    def log_interval(self, lower: Any, upper: Any, xp: Arrays) -> Any:
        """Log probability (obs,) of intervals, both ends included."""

    def check_variation(self, y: np.ndarray, name: str, known: Parameters) -> None:
        """Nothing: one row, or one number, may be all that the expert has."""
