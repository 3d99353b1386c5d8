"""The measure of the responses of a model, by which densities of its experts are compared.

Counts have probabilities, other responses densities, and some numbers (atoms) a probability
beside densities elsewhere. Densities of experts are comparable if they are all by one measure: the
counting measure, or the length of intervals plus a unit of mass at each atom. By the latter a
density is the probability at an atom. There, an expert without that atom has the density zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.families import Family, quoted

NEAR_END, NEARER_END = (1e-100, 1e4), (1e-200, 1.0)
"""Distances from an end of the support at which the limit of the density there is seen: at least
so much, and so many spacings of doubles."""

TINY = float(np.finfo(float).tiny)
"""Least distance of points on both sides of a number at which the density may jump."""


@dataclass(frozen=True)
class Measure:
    """The measure by which a model's densities are taken, and the support of its responses.

    Attributes
    ----------
    discrete : bool
        Whether the responses are whole numbers, and densities probabilities.
    lower, upper : float
        Ends of the union of the experts' supports.
    atoms : tuple of float
        In increasing order, responses of positive probability of a model that is not discrete.
    edges : tuple of float
        Ends of supports of some experts that are inside the union, where the density may jump.
    """

    discrete: bool
    lower: float
    upper: float
    atoms: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def ends(self) -> list[tuple[float, float]]:
        """Finite ends of the support, each with the direction to its inside."""
        ends = ((self.lower, math.inf), (self.upper, -math.inf))
        return [(end, inwards) for end, inwards in ends if math.isfinite(end)]

    @property
    def beside_edges(self) -> np.ndarray:
        """Points (point,) on both sides of the edges."""
        edges = np.array(self.edges)
        step = _step(edges)
        return np.concatenate([edges - step, edges + step])

    def beside_atoms(self, y: np.ndarray) -> np.ndarray:
        """Responses, those that are atoms replaced by points beside them in the support."""
        step = _step(y)
        beside = np.where(y < self.upper, y + step, y - step)
        return np.where(np.isin(y, self.atoms), beside, y)


def _step(y: np.ndarray) -> np.ndarray:
    return np.maximum(TINY, np.spacing(np.abs(y)))


def inside_end(end: float, inwards: float, distance: tuple[float, float] = NEARER_END) -> float:
    """Return the point at a distance from an end of the support, on its inside."""
    least, spacings = distance
    step = max(least, spacings * float(np.spacing(abs(end))) if end else 0.0)
    return end + np.copysign(step, inwards)


def measure_of(families: Sequence[Family]) -> Measure:
    """The measure by which the densities of some families are comparable.

    Raises
    ------
    SpecError
        If there is none, or none of the families with a density or counts has parameters or given
        densities.
    """
    return _measure(tuple(dict.fromkeys(families)))


@cache
def _measure(families: tuple[Family, ...]) -> Measure:
    counts = [f for f in families if f.discrete]
    dense = [f for f in families if f.has_density]
    if counts and dense:
        raise SpecError(
            f"Experts must be all discrete or all continuous: the probabilities of "
            f"{quoted(counts[0])} cannot be compared with the density of {quoted(dense[0])}. Only "
            "'pointmass' goes with both."
        )
    if not any(f.parameters or f.stands_alone for f in (*counts, *dense)):
        raise SpecError(
            f"The family {quoted(families[0])} is for experts beside others: add one of counts or "
            "with a density that has parameters."
        )
    atoms = tuple(sorted({atom for f in families for atom in f.atoms}))
    lower, upper = min(f.lower for f in families), max(f.upper for f in families)
    if counts:
        _check_whole(families, counts[0])
        return Measure(True, lower, upper)
    ends = {end for f in dense for end in (f.lower, f.upper) if math.isfinite(end)}
    return Measure(False, lower, upper, atoms, tuple(sorted(ends - {lower, upper})))


def _check_whole(families: Sequence[Family], counts: Family) -> None:
    for family in families:
        for atom in family.atoms:
            if not family.discrete and not float(atom).is_integer():
                raise SpecError(
                    f"{quoted(family)} has the response {atom:g}, which the counts of "
                    f"{quoted(counts)} cannot be: its number must be whole."
                )


def foreign_atoms(measure: Measure, family: Family) -> tuple[float, ...]:
    """Atoms of a measure that a family does not have: its density there is zero."""
    if measure.discrete:
        return ()
    return tuple(atom for atom in measure.atoms if atom not in family.atoms)


def equals_any(y: Any, numbers: Sequence[float]) -> Any:
    """Whether each response is one of some numbers, of which there is at least one."""
    equal = [(y >= number) & (y <= number) for number in numbers]  # tensors have no `==`
    return reduce(or_, equal)
