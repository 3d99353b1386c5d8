"""Consecutive experts of one family: a group of inputs of the fused mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bayes_moe.core.arrays import Arrays
from bayes_moe.families import Family, by_name


@dataclass(frozen=True)
class FamilyGroup:
    """Experts of one family: its name, and the first and one past the last of its experts."""

    family_name: str
    start: int
    stop: int

    @cached_property
    def family(self) -> Family:
        """The family, resolved once: every evaluation of a gradient reads it several times."""
        return by_name(self.family_name)

    @property
    def width(self) -> int:
        """Number of inputs: linear predictors, known counts of rows, and the log base."""
        return len(self.family.PARAMS) + len(self.family.KNOWN) + 1

    def named(self, etas: Sequence[Any], known: Sequence[Any], xp: Arrays) -> dict[str, Any]:
        """Parameters and known counts by name, as arguments of the family's formulas."""
        pairs = zip(self.family.PARAMS, etas, strict=True)
        params = {p.name: p.link.inverse(eta, xp) for p, eta in pairs}
        return params | dict(zip(self.family.KNOWN, known, strict=True))


def predictor_inputs(groups: Sequence[FamilyGroup]) -> list[int]:
    """Positions of the linear predictors among the inputs: y, logits, then the groups."""
    positions: list[int] = []
    start = 2
    for group in groups:
        positions += range(start, start + len(group.family.PARAMS))
        start += group.width
    return positions
