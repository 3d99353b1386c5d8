"""Records of random effects of groups in the table of a model's compiled log density."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bayes_moe.data.group_terms import GroupColumns
from bayes_moe.kernels import linear_layout as layout
from bayes_moe.model.compiled_table import CompiledTable, record
from bayes_moe.model.internal_values import Part
from bayes_moe.optimize.free_variables import FreeVariables
from bayes_moe.predictors.group_effects import GroupEffects
from bayes_moe.predictors.random_effects import RandomEffects


@dataclass(frozen=True)
class PlacedEffects:
    """Effects of a group term of a part of a model.

    ``first`` is the first of their coefficients (output, group, column): ``size`` in units of their
    standard deviations, then as many effects.
    """

    part: Part
    of: GroupEffects
    columns: GroupColumns
    first: int

    @property
    def size(self) -> int:
        """Number of effects of all outputs."""
        return self.part.outputs * len(self.columns.labels) * len(self.columns.terms)

    @property
    def internal(self) -> str:
        """Name of the sampler's variable."""
        (name,) = self.of.internal_dims
        return name

    def record(self, table: CompiledTable, free: FreeVariables) -> list[int]:
        """Record of the effects."""
        of, columns = self.of, self.columns
        partial = free[of.corr].where.start if of.term.has_correlations else -1
        entries = {
            layout.CODES: table.of_rows(columns.codes.astype(float)),
            layout.DESIGN: table.of_rows(self.part.gain * columns.values.T),
            layout.COLUMNS: len(columns.terms),
            layout.GROUPS: len(columns.labels),
            layout.TO: table.first_row[self.part.variable],
            layout.OUTPUTS: self.part.outputs,
            layout.UNIT: self.first,
            layout.EFFECT: self.first + self.size,
            layout.LOG_SCALE: free[of.sd].where.start,
            layout.PARTIAL: partial,
            layout.OWN: int(of.site.each),
        }
        return record(layout.EFFECTS_SIZE, entries)


def placed_effects(part: Part, first: int) -> Iterator[PlacedEffects]:
    """Effects of a part's group terms, whose coefficients start at ``first``."""
    if part.placed is None:
        return
    predictor, b = part.placed
    if isinstance(predictor, RandomEffects):
        for of, columns in zip(predictor.groups(b.site), b.matrix.groups, strict=True):
            placed = PlacedEffects(part, of, columns, first)
            yield placed
            first += 2 * placed.size
