"""Consecutive experts of one family: a group of inputs of the fused mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bayes_moe.families import Family


@dataclass(frozen=True)
class FamilyGroup:
    """Experts of one family: the family, and the first and one past the last of its experts."""

    family: Family
    start: int
    stop: int

    @property
    def predictors(self) -> int:
        """Number of linear predictors."""
        return len(self.family.slots)

    @property
    def width(self) -> int:
        """Number of inputs: linear predictors, then those of the rows' data."""
        return self.predictors + 3 + self.family.more_data


def predictor_inputs(groups: Sequence[FamilyGroup]) -> list[int]:
    """Positions of the linear predictors among the inputs: y, logits, then the groups."""
    positions: list[int] = []
    start = 2
    for group in groups:
        positions += range(start, start + group.predictors)
        start += group.width
    return positions
