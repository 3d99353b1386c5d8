"""Floors of parameters that collapse, and experts of few rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_moe.em.parameter_vector import ParameterVector

ROWS_PER_COEFFICIENT = 3
"""Rows per coefficient of an expert up to which it is said to have few rows."""


def within_floors(vector: ParameterVector, theta: np.ndarray) -> np.ndarray:
    """Points (point, coordinate) whose constants are not beyond their floors."""
    theta = theta.copy()
    for block in vector.blocks:
        if block.scaling is None:
            theta[:, block.where] = block.bounded(theta[:, block.where])
    return theta


def without_floors(vector: ParameterVector) -> ParameterVector:
    """Return the vector without floors, which a sampler's density does not have."""
    blocks = (replace(block, floor=-np.inf, narrow=-np.inf) for block in vector.blocks)
    return replace(vector, blocks=tuple(blocks))


def few_rows(vector: ParameterVector) -> np.ndarray:
    """Rows (expert,) up to which an expert with a narrow spread has collapsed onto them."""
    count = np.zeros(vector.spec.n_experts)
    for block in vector.blocks:
        if block.factor is not None:
            np.add.at(count, list(block.experts), block.terms)
    return ROWS_PER_COEFFICIENT * count
