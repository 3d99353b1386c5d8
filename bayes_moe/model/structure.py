"""What a description implies: blocks, density factors, variables, dimensions, coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.gates.structure import FeatureDensity
from bayes_moe.model.blocks import Block
from bayes_moe.model.expert import Expert

if TYPE_CHECKING:
    from bayes_moe.model.spec import MixtureOfExperts


@dataclass(frozen=True)
class DensityFactor:
    """A factor of the density of some experts.

    ``column`` is the matrix and the column of its response, None for the model's own.
    """

    block: Block
    column: tuple[str, int] | None = None

    def response(self, rows: Rows) -> np.ndarray:
        """What the factor is a density of (obs,)."""
        if self.column is None:
            return rows.observed
        stem, j = self.column
        return rows.matrices[stem].values[:, j]


@lru_cache(maxsize=256)
def feature_factors(
    modelled: tuple[FeatureDensity, ...], experts: int
) -> tuple[DensityFactor, ...]:
    """Normal densities of features, one for each expert."""
    everyone = tuple(range(experts))
    return tuple(
        DensityFactor(
            Block(Expert(f"feature {m.formula}", "normal"), everyone, m.name, names.EXPERT),
            (m.stem, m.column),
        )
        for m in modelled
    )


def coords(spec: MixtureOfExperts, design: Design) -> dict[str, Any]:
    """Return the coordinates of every dimension of the model."""
    labels = spec.expert_labels
    named = {names.OBS: design.rows.obs_id, names.EXPERT: labels}
    for block in spec.blocks:
        named[block.dim] = [labels[k] for k in block.positions]
    named |= spec.gate.coords(spec.n_experts, design.rows.matrices)
    named |= spec.gate.derived_coords()
    hidden = {*spec.known_formulas, *(spec.gate.formulas if spec.n_experts == 1 else ())}
    for stem, matrix in design.rows.matrices.items():
        if stem not in hidden:
            named[names.term(stem)] = list(matrix.terms)
    for place, predictor in spec.placed:
        named |= predictor.coords(place, design.rows.matrices[place.stem])
    return named
