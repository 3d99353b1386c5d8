"""The compiled log density of a model with linear predictors: value and gradient at a point.

The density is that of the unconstrained values (logarithms of positive constants, orthonormal
coordinates of zero-sum priors), with its normalising constants and the Jacobian.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bayes_moe.em.cross_products import Features
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.em.prior_groups import PriorTerm
from bayes_moe.kernels import linear_layout as layout
from bayes_moe.kernels import linear_model
from bayes_moe.model.compiled_table import CompiledTable, record
from bayes_moe.model.log_density import has_kernels
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Linear
from bayes_moe.predictors.random_effects import RandomEffects
from bayes_moe.priors.prior import Prior


class LinearTable(CompiledTable):
    """The table of a model with priors for which :func:`supports` is true.

    The density has no floor under scale parameters, unlike that of EM.
    """

    def __init__(self, parameters: ParameterVector) -> None:
        super().__init__(parameters.spec, parameters.design.rows, parameters.size)
        self.parameters = parameters
        features = Features.of_blocks(parameters.blocks, self.rows)
        added = {
            j
            for block, j in zip(parameters.blocks, features.of, strict=True)
            if block.offset_of(self.rows) is not None
        }
        # Predictors with an offset differ by row, though their only feature be a constant.
        self.features = [t if j in added else _spread(t) for j, t in enumerate(features.arrays)]
        order = np.argsort(features.of, kind="stable")
        self.table_of = {s.variable: j for s, j in zip(parameters.blocks, features.of, strict=True)}
        self.shared = {v for v, j in self.table_of.items() if self.features[j].shape[1] == 1}
        # Rows of predictors with the same table of features are consecutive: one product for all.
        row = coef = 0
        for slot in (parameters.blocks[j] for j in order):
            self.first_row[slot.variable], self.first_coef[slot.variable] = row, coef
            row += len(slot.experts)
            coef += len(slot.experts) * slot.terms
        self.predictors, self.coefs = row, coef

    def function(self) -> Any:
        return linear_model.log_density()

    def tables(self) -> list[list[int]]:
        return [self.table(j) for j, f in enumerate(self.features) if f.shape[1] > 1]

    def slots(self) -> list[list[int]]:
        slots = [self.slot(block) for block in self.parameters.blocks]
        constraint = self.parameters.constraint
        if constraint is not None:
            slots += [s for term in constraint.prior_terms for s in self.priors_of(term)]
        return slots

    def priors_of(self, term: PriorTerm) -> Iterator[list[int]]:
        """Records of the priors of coordinates whose block has none of its own.

        They are slots without coefficients, one of each run of consecutive coordinates.
        """
        where = np.r_[term.where]
        for run in np.split(np.arange(len(where)), np.flatnonzero(np.diff(where) != 1) + 1):
            arguments = {
                n: np.broadcast_to(np.asarray(v), term.shape).ravel()[run]
                for n, v in term.prior.arguments.items()
            }
            prior = Prior(term.prior.distribution, **arguments)
            yield record(
                layout.SLOT,
                {
                    layout.WHERE: int(where[run[0]]),
                    layout.COUNT: len(run),
                    layout.ROW: -1,
                    layout.NUMBERS: self.address(np.zeros(1)),
                    layout.SCALE: -1,
                    **self.prior(prior, (len(run),), jacobian=self.parameters.jacobian),
                },
            )

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
        constraint = self.parameters.constraint
        without_prior = constraint is not None and slot.variable in constraint.variables
        shape, shared = (slot.directions, slot.terms), slot.variable in self.shared
        feature = self.features[self.table_of[slot.variable]][0, 0] if shared else 1.0
        numbers = np.array([slot.offset, *[slot.unit * feature] * slot.terms])
        return record(
            layout.SLOT,
            {
                layout.WHERE: slot.where.start,
                layout.COUNT: 0 if without_prior else slot.directions * slot.terms,
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
                layout.SHARED: int(shared),
                **self.prior(slot.prior, shape, jacobian=self.parameters.jacobian),
            },
        )


def _spread(table: np.ndarray) -> np.ndarray:
    """Table of features (term, obs); (1, 1) if it is one constant feature."""
    return table[:, :1] if len(table) == 1 and np.ptp(table) == 0 else table


def supports(spec: MixtureOfExperts) -> bool:
    """Whether a linear model has a compiled density: softmax gates and families with a kernel.

    That of a model with random effects is another table's,
    :class:`bayes_moe.optimize.network_table.GroupedTable`.
    """
    known = (Linear, RandomEffects)
    return has_kernels(spec) and all(type(p) in known for _, p in spec.structure.sites)
