"""Consecutive experts of one family, as the fused mixture takes them."""

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
        """The family, looked up once: a gradient reads it thousands of times in a fit."""
        return by_name(self.family_name)

    @property
    def width(self) -> int:
        """Number of inputs: predictors, what is known of rows, and the log base."""
        return len(self.family.PARAMS) + len(self.family.KNOWN) + 1

    def named(self, etas: Sequence[Any], known: Sequence[Any], xp: Arrays) -> dict[str, Any]:
        """Parameters as the family's formulas take them."""
        params = self.family.PARAMS
        found = {p.name: p.link.inverse(eta, xp) for p, eta in zip(params, etas, strict=True)}
        return found | dict(zip(self.family.KNOWN, known, strict=True))


def predictor_inputs(groups: Sequence[FamilyGroup]) -> list[int]:
    """Positions of the linear predictors among the inputs: y, logits, then the groups."""
    positions: list[int] = []
    at = 2
    for group in groups:
        positions += range(at, at + len(group.family.PARAMS))
        at += group.width
    return positions
