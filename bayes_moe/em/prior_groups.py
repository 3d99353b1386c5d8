"""Log prior of a parameter vector, for all coordinates with the same distribution at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bayes_moe.priors.densities import Parts, formula, formula_arguments
from bayes_moe.priors.prior import Prior


class PriorTerm(NamedTuple):
    """The prior of some coordinates.

    It is that of coefficients in a unit, which are coordinates themselves, or of constants, of
    which they are coordinates; arguments and units broadcast to ``shape``.
    """

    prior: Prior
    shape: tuple[int, int]
    unit: float | np.ndarray
    where: slice | np.ndarray


@dataclass(frozen=True)
class PriorGroup:
    """Coordinates of parameters whose priors are of one distribution.

    Attributes
    ----------
    where : slice or array of int
        The coordinates.
    density : callable
        Log density with its first two derivatives, from values and arguments.
    arguments : tuple of array (coordinate,)
        Arguments of the distribution.
    unit : array (coordinate,) or None
        Unit in which the prior takes the coordinates, if that is not 1 for all.
    """

    where: slice | np.ndarray
    density: Callable[..., Parts]
    arguments: tuple[np.ndarray, ...]
    unit: np.ndarray | None

    def add(self, theta: np.ndarray, value: np.ndarray, slopes: tuple[np.ndarray, ...]) -> None:
        """Add the log densities at points (point, coordinate) to values (point,).

        Their derivatives are filled into the first and second ones (point, coordinate).
        """
        x = theta[:, self.where]
        with np.errstate(over="ignore", under="ignore"):
            parts = self.density(x if self.unit is None else x / self.unit, *self.arguments)
        value += parts[0].sum(axis=1)
        if self.unit is not None:
            parts = parts[0], parts[1] / self.unit, parts[2] / self.unit**2
        slopes[0][:, self.where], slopes[1][:, self.where] = parts[1:]


def prior_groups(terms: Sequence[PriorTerm]) -> list[PriorGroup]:
    """Groups of coordinates that are evaluated together."""
    parts: dict[str, list[PriorTerm]] = {}
    for term in terms:
        parts.setdefault(term.prior.distribution, []).append(term)
    return [_group(same) for same in parts.values()]


def _group(terms: list[PriorTerm]) -> PriorGroup:
    """The group of all coordinates of some terms, whose priors differ in their arguments only."""

    def joined(values: Sequence[Any]) -> np.ndarray:
        pairs = zip(values, terms, strict=True)
        return np.concatenate([np.broadcast_to(v, term.shape).ravel() for v, term in pairs])

    arguments = zip(*(formula_arguments(term.prior) for term in terms), strict=True)
    places = np.concatenate([np.r_[term.where] for term in terms])
    start, stop = int(places[0]), int(places[0]) + len(places)
    unit = joined([term.unit for term in terms])
    return PriorGroup(
        slice(start, stop) if np.array_equal(places, np.arange(start, stop)) else places,
        formula(terms[0].prior),
        tuple(joined(values) for values in arguments),
        None if (unit == 1.0).all() else unit,
    )
