"""Interface of families that may have censored and truncated responses: their tails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.families.description import Support
from bayes_moe.families.formula import Parameters, RowData


class Intervals(Support):
    """Tails of a distribution, of which :mod:`bayes_moe.families.censored` makes intervals.

    A family states ``tails``, one without parameters also ``log_interval``.
    """

    is_censored = False
    """Whether the numbers of a row are what is known of its response, which may be an interval."""
    truncation: Any = None
    """The probability that a row was recorded, of a truncated response: see
    :class:`bayes_moe.families.censored.Truncation`."""

    def tails(self, m: Any) -> Callable[..., Any]:
        """Logs of the probabilities up to a response and above it, over a namespace ``m``.

        ``(t, u, eta_1, ..., eta_P)`` -> the two, with ``t`` and ``u`` of the family's ``data`` at a
        response in the support.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tails: see has_tails.")

    def log_interval(self, lower: Any, upper: Any, xp: Arrays) -> Any:
        """Log probability (obs,) of intervals, both ends included, of one without parameters."""
        raise NotImplementedError(f"{type(self).__name__} has parameters, so `tails` are asked.")

    @property
    def has_tails(self) -> bool:
        """Whether probabilities of intervals have a formula."""
        return type(self).tails is not Intervals.tails

    def support_ends(self, known: Parameters) -> tuple[Any, Any]:
        """Ends of the support of each row: numbers, (obs,) or (1,)."""
        return self.lower, self.upper

    def plain(self, y: np.ndarray) -> np.ndarray:
        """Responses as numbers, of which one stands for an interval."""
        return y

    def is_exact(self, data: RowData) -> np.ndarray:
        """Whether responses of rows (obs,), or (1,), were observed."""
        return np.ones(1, dtype=bool)
