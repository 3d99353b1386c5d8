"""The compiled log density of a model with linear predictors: value and gradient at a point.

The density is that of the unconstrained values (logarithms of positive constants, orthonormal
coordinates of zero-sum priors), with its normalising constants and the Jacobian.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayes_moe.em.cross_products import Features
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.kernels import linear_layout as layout
from bayes_moe.kernels import linear_model
from bayes_moe.model.compiled_table import CompiledDensity, CompiledTable, record
from bayes_moe.model.log_density import has_kernels
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Linear


class Native(CompiledDensity):
    """The compiled log density of the coordinates of a linear model."""

    @classmethod
    def of(cls, parameters: ParameterVector) -> Native:
        """Compiled log density of a model with priors for which :func:`supports` is true.

        The density has no floor under scale parameters, unlike that of EM.
        """
        return LinearTable(parameters).native()


class LinearTable(CompiledTable):
    """The table of a model with linear predictors."""

    def __init__(self, parameters: ParameterVector) -> None:
        super().__init__(parameters.spec, parameters.design.rows)
        self.parameters = parameters
        features = Features.of_blocks(parameters.blocks, self.rows)
        self.features = [_spread(t) for t in features.tables]
        order = np.argsort(features.of, kind="stable")
        self.table_of = {s.variable: j for s, j in zip(parameters.blocks, features.of, strict=True)}
        self.shared = {v for v, j in self.table_of.items() if self.features[j].shape[1] == 1}
        # Rows of predictors with the same table of features are consecutive: one product for all.
        self.first_coef = {}
        row = coef = 0
        for slot in (parameters.blocks[j] for j in order):
            self.first_row[slot.variable], self.first_coef[slot.variable] = row, coef
            row += len(slot.experts)
            coef += len(slot.experts) * slot.terms
        self.predictors, self.coefs = row, coef

    def native(self) -> Native:
        """The compiled log density of the model."""
        slots, blocks = self.parameters.blocks, self.blocks()
        splits, ways = self.gate()
        tables = [self.table(j) for j, f in enumerate(self.features) if f.shape[1] > 1]
        head = self.head(self.parameters.size, self.coefs) | {
            layout.TABLES: len(tables),
            layout.SLOTS: len(slots),
            layout.BLOCKS: len(blocks),
            layout.SPLITS: len(splits),
            layout.BRANCHES: len(ways),
        }
        records = [
            record(layout.HEAD, head),
            *tables,
            *map(self.slot, slots),
            *blocks,
            *splits,
            *ways,
        ]
        table = np.array([number for numbers in records for number in numbers], dtype=np.int64)
        size, function = self.parameters.size, linear_model.log_density()
        return Native(size, function, table, tuple(self.arrays))

    def table(self, j: int) -> list[int]:
        """Record of a table of features."""
        reading = [s for s in self.parameters.blocks if self.table_of[s.variable] == j]
        first = min(reading, key=lambda s: self.first_row[s.variable])
        last = max(reading, key=lambda s: self.first_row[s.variable])
        return record(
            layout.TABLE,
            {
                layout.FEATURES: self.of_rows(self.features[j]),
                layout.TERMS: first.terms,
                layout.FIRST: self.first_row[first.variable],
                layout.LAST: self.first_row[last.variable] + len(last.experts),
                layout.AT: self.first_coef[first.variable],
            },
        )

    def slot(self, slot: ParameterBlock) -> list[int]:
        """Record of a block of parameters."""
        if slot.prior is None:
            raise ValueError("A sampler needs priors: coordinates(..., likelihood=False).")
        shape, shared = (slot.directions, slot.terms), slot.variable in self.shared
        feature = self.features[self.table_of[slot.variable]][0, 0] if shared else 1.0
        numbers = np.array([slot.offset, *[slot.unit * feature] * slot.terms])
        return record(
            layout.SLOT,
            {
                layout.WHERE: slot.where.start,
                layout.COUNT: slot.directions * slot.terms,
                layout.ACROSS: slot.terms,
                layout.ALONG: 1,
                layout.DIRECTIONS: slot.directions,
                layout.OF: len(slot.experts),
                layout.WIDE: slot.terms,
                layout.ROW: self.first_row[slot.variable],
                layout.COEF: self.first_coef[slot.variable],
                layout.NUMBERS: self.address(numbers),
                layout.SCALE: -1,
                layout.BASIS: 0 if slot.basis is None else self.address(slot.basis),
                layout.JACOBIAN: int(self.parameters.jacobian and slot.scaling is None),
                layout.SHARED: int(shared),
                **self.prior(slot.prior, shape, of_log=slot.scaling is None),
            },
        )

    def blocks(self) -> list[list[int]]:
        """Records of the factors of the experts' densities."""
        records = []
        for b, part in enumerate(self.parameters.spec.structure.factors):
            response = part.response(self.rows)
            added = part.column is not None
            records.append(self.block(part.block, self.variables(b), response, add=added))
        return records

    def variables(self, factor: int) -> Sequence[str]:
        """Variables of the parameters of a factor."""
        return [s.variable for s in self.parameters.blocks if s.factor == factor]


def _spread(table: np.ndarray) -> np.ndarray:
    """Table of features (term, obs); (1, 1) if it is one constant feature."""
    return table[:, :1] if len(table) == 1 and np.ptp(table) == 0 else table


def supports(spec: MixtureOfExperts) -> bool:
    """Whether a model has a compiled density: softmax gates, linear predictors, known kernels."""
    return has_kernels(spec) and all(type(p) is Linear for _, p in spec.structure.sites)
