"""A gate for a given number of experts: heads, splits, shapes and densities of features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.predictors import Predictor, Site
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class Head:
    """One predictor of a gate, with several rows.

    Attributes
    ----------
    stem : str
        Its formula's name.
    predictor : Predictor
        Features -> rows.
    dim : str
        Dimension over the rows of its coefficients.
    labels : tuple or None
        Along that dimension; None for the dimension over experts.
    places : slice
        Its rows among those of all the gate's predictors.
    basis : array (direction, row) or None
        With a zero-sum prior, the rows are ``basis.T @ directions``; None where PyMC's own
        zero-sum variable serves. Rows of the basis are orthogonal.
    spread : array (row,) or None
        With other priors, a factor of each row.
    directions : tuple of str
        Labels of the directions.
    zero_sum : bool
        Whether only differences between rows count, so that a prior may be zero-sum.
    """

    stem: str
    predictor: Predictor
    dim: str
    labels: tuple[Any, ...] | None
    places: slice
    basis: np.ndarray | None = None
    spread: np.ndarray | None = None
    directions: tuple[str, ...] = ()
    zero_sum: bool = True

    @property
    def rows(self) -> int:
        """How many rows it has."""
        found: int = self.places.stop - self.places.start
        return found

    @property
    def place(self) -> Site:
        """Where its predictor stands."""
        return Site(self.stem, names.GATE, self.dim, self.rows)

    def placed(self, prior: Prior) -> tuple[Site, Prior]:
        """Where its predictor stands under a prior of its rows, and the internal rows' prior."""
        mixing, dim, inner = self.mixing(prior)
        return replace(self.place, mixing=mixing, raw_dim=dim), inner

    def mixing(self, prior: Prior) -> tuple[np.ndarray | None, str, Prior]:
        """Matrix from internal rows to rows, the internal rows' dimension, and their prior."""
        if prior.kind.support == "zero-sum" and self.basis is not None:
            return self.basis, names.split(self.stem), Prior("Normal", **prior.arguments)
        spread = None if self.spread is None else np.diag(self.spread)
        return spread, self.dim, prior


@dataclass(frozen=True)
class FeatureDensity:
    """A feature whose normal density is a factor of every expert's.

    ``name`` is the prefix of its variables, ``term`` the feature, which is the column ``column`` of
    the matrix ``stem``; ``formula`` are the features that its mean depends on.
    """

    name: str
    term: str
    stem: str
    column: int
    formula: str
