r"""Derivatives of integrals over the effects of groups whose rows share an expert.

With the information :math:`H = \sum_i z_i W_i z_i' + P` of the effects at their mode ``u``, where
``W`` are minus the second derivatives of a row's log density by the predictors of its slots and
``P`` is the precision of the effects, the log integral is

.. math:: A = \sum_i \log f(y_i) - \tfrac12 u' P u + \tfrac12 \log |P| - \tfrac12 \log |H|.

A change of predictors changes ``u`` and ``W``: with :math:`v_a(i) = \sum_{bc} z_b' H^{-1} z_c \,
\partial W_{bc} / \partial \eta_a` and :math:`q = H^{-1} \sum_i z v`, the derivative by the
predictor of slot ``a`` at a row is :math:`s_a - \tfrac12 v_a + \tfrac12 \sum_b (z_b' q) W_{ba}`
with the plain score ``s``. The third derivatives of ``f`` in ``v`` are differences of the second
along one slot; all else is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayes_moe.families.formula import OBSERVED
from bayes_moe.model.group_integrals import BlockIntegrals, Integrals

STEP = 1e-4
"""Step of the differences of second derivatives, in units of a predictor."""


@dataclass(frozen=True)
class IntegralSlopes:
    """Derivatives of the log integrals of a block's experts, at one point.

    Attributes
    ----------
    scores : list of array (1, expert, obs)
        By the predictor of each slot at each row.
    second : list of list of array (1, expert, obs)
        Minus second derivatives of the log densities of rows, by pairs of slots.
    inverse : array (1, expert, unit, position, position)
        Inverse information of the effects.
    by_precision : array (1, expert, unit, position, position)
        Twice the derivative by the precision of the effects.
    """

    scores: list[np.ndarray]
    second: list[list[np.ndarray]]
    inverse: np.ndarray
    by_precision: np.ndarray

    @classmethod
    def of(
        cls,
        block: BlockIntegrals,
        found: Integrals,
        factor: np.ndarray,
        units: Sequence[float],
    ) -> IntegralSlopes:
        """Derivatives at integrals, under effects whose covariance has a lower ``factor``.

        ``units`` are those of the predictors of the slots.
        """
        own = block.family.derivatives_at(block.data, found.etas, OBSERVED)
        count = len(own.score)
        second = [[-own.second[a][b] for b in range(count)] for a in range(count)]
        inverse = np.linalg.inv(found.information)
        change = _changes(block, found, _weights(block, inverse, count), units)
        q = np.einsum("seupq,seuq->seup", inverse, block.sums(change))
        moved = [np.zeros((1, 1, 1))] * count
        moved = block.moved(moved, q)
        absorbed = [sum(moved[b] * second[b][a] for b in range(count)) for a in range(count)]
        scores = [
            score + 0.5 * (more - less)
            for score, more, less in zip(own.score, absorbed, change, strict=True)
        ]
        u = found.modes
        crossed = q[..., :, None] * u[..., None, :]
        covariance = factor @ np.swapaxes(factor, -1, -2)
        by_precision = covariance[:, :, None] - u[..., :, None] * u[..., None, :] - inverse
        by_precision = by_precision + 0.5 * (crossed + np.swapaxes(crossed, -1, -2))
        return cls(scores, second, inverse, by_precision)


def _weights(
    block: BlockIntegrals, inverse: np.ndarray, count: int
) -> dict[tuple[int, int], np.ndarray]:
    """Factors (1, expert, obs) of rows' second derivatives by pairs of slots in ``log |H|``."""
    found: dict[tuple[int, int], np.ndarray] = {}
    slots, design = block.effects.slots, block.effects.design
    for p, a in enumerate(slots):
        for r, b in enumerate(slots):
            own = design[p] * design[r] * inverse[..., p, r][..., block.unit]
            found[a, b] = found[a, b] + own if (a, b) in found else own
    return found


def _changes(
    block: BlockIntegrals,
    found: Integrals,
    weights: dict[tuple[int, int], np.ndarray],
    units: Sequence[float],
) -> list[np.ndarray]:
    """Derivatives (1, expert, obs) of ``log |H|`` by the predictor of each slot at each row."""
    changes = []
    for a, unit in enumerate(units):
        ends = []
        for sign in (1.0, -1.0):
            etas = list(found.etas)
            etas[a] = etas[a] + sign * STEP * unit
            second = block.family.derivatives_at(block.data, etas, OBSERVED).second
            ends.append(sum(w * second[b][c] for (b, c), w in weights.items()))
        changes.append((ends[1] - ends[0]) / (2 * STEP * unit))
    return changes
