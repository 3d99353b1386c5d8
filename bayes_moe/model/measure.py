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
from functools import cache
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.families import Family, quoted


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

    def is_atom(self, y: np.ndarray) -> np.ndarray:
        """Whether each response is an atom."""
        return np.isin(y, self.atoms)


def measure_of(families: Sequence[Family]) -> Measure:
    """The measure by which the densities of some families are comparable.

    Raises
    ------
    SpecError
        If there is none, or none of the families has a density or counts.
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
    if not counts and not dense:
        raise SpecError(
            f"The family {quoted(families[0])} is for experts beside others: add one of counts or "
            "with a density."
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
    found = y == numbers[0]
    for number in numbers[1:]:
        found = found | (y == number)
    return found
