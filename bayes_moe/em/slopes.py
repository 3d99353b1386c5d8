"""The value and gradient of an objective without matrices of second derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayes_moe.em.cross_products import Plan
from bayes_moe.em.information import Information, PredictorStack, RowTerms
from bayes_moe.families.formula import SCORES

_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Slope:
    """The objective at some points, with its gradient.

    ``value`` (point,) and ``gradient`` (point, coordinate) include the log prior; ``rows`` (point,
    expert) are sums of responsibilities, and ``at_floor`` (point,) is that of
    :class:`bayes_moe.em.objective.Evaluation`.
    """

    value: np.ndarray
    gradient: np.ndarray
    rows: np.ndarray
    at_floor: np.ndarray


class NoInformation(Information):
    """No pairs of outputs: families are asked for first derivatives only."""

    asked: ClassVar[str] = SCORES

    def __init__(self, stack: PredictorStack) -> None:
        self.stack = stack
        self.plan = Plan(_NONE, _NONE, (), ())

    def weights(self, terms: RowTerms) -> np.ndarray:
        return np.empty((len(terms.r), 0, terms.r.shape[2]))

    def prior_curvature(self, second: np.ndarray) -> np.ndarray:
        return second
