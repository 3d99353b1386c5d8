r"""Densities of groups whose rows share an expert, with the effects of the groups integrated out.

The density of a group ``g`` is

.. math:: p(y_g) = \sum_k w_k(x_g) \int \prod_{i \in g} f_k(y_i \mid \eta_{ik} + z_i' u)
          \, N(u; 0, D_k) \, du,

with an integral of its own for each group and expert. Each is found by Laplace's method, at the
mode of ``u`` given the expert, from the observed information there: exactly for normal responses
with effects on the mean, and well for others. The sum over experts is exact.

References
----------
Muthén, B., & Shedden, K. (1999). Finite mixture modeling with mixture outcomes using the EM
algorithm. Biometrics, 55(2), 463-469.

Proust-Lima, C., Philipps, V., & Liquet, B. (2017). Estimation of extended mixed models using latent
classes and latent processes: the R package lcmm. Journal of Statistical Software, 78(2), 1-56.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Values
from bayes_moe.data.matrix import Rows
from bayes_moe.families import Derivatives, Family, RowData
from bayes_moe.families.formula import OBSERVED
from bayes_moe.model.allocation import Allocation, allocation_of
from bayes_moe.model.blocks import Block
from bayes_moe.model.shared_effects import SharedEffects, predictors_without

STEPS = 60
"""Most Newton steps of the effects."""
HALVINGS = 30
SETTLED = 1e-15
"""Relative gain of a Newton step at which it is the last."""


@dataclass(frozen=True)
class Integrals:
    """Integrals over the effects of units, for each expert of a block.

    Attributes
    ----------
    log : array (sample, expert, unit)
        Logarithms of the integrals.
    modes : array (sample, expert, unit, position)
        Modes of the effects, on the user's scale.
    information : array (sample, expert, unit, position, position)
        Their information at these, with that of their distribution.
    etas : list of array (sample, expert, obs or 1)
        Predictors of the slots at the modes.
    """

    log: np.ndarray
    modes: np.ndarray
    information: np.ndarray
    etas: list[np.ndarray]


class BlockIntegrals:
    """Integrals of a block's experts on some rows, as functions of predictors and covariances.

    Parameters
    ----------
    family : Family
        Family of the experts.
    data : RowData
        What its formula reads of the rows.
    effects : SharedEffects
        Effects within the units.
    shared : Allocation
        Units of the rows.
    """

    def __init__(
        self, family: Family, data: RowData, effects: SharedEffects, shared: Allocation
    ) -> None:
        self.family, self.data, self.effects, self.shared = family, data, effects, shared
        self.unit = shared.spread(np.arange(len(shared.totals(effects.design[0]))))

    def at(self, etas: Sequence[np.ndarray], factor: np.ndarray, first: Any = None) -> Integrals:
        """Integrals from predictors without the effects, and the factor of their covariance.

        ``first`` (sample, expert, unit, position) is a guess of the modes.
        """
        inverse = np.linalg.inv(factor)
        precision = np.swapaxes(inverse, -1, -2) @ inverse  # (sample, expert, position, position)
        shape = (*factor.shape[:2], self.unit.max() + 1, self.effects.size)
        u = np.zeros(shape) if first is None else first
        with np.errstate(all="ignore"):
            joint = self._joint(etas, u, precision)
            for _ in range(STEPS):
                moved = self.moved(etas, u)
                own = self.family.derivatives_at(self.data, moved, OBSERVED)
                information = self.information(own) + precision[:, :, None]
                slope = self.sums(own.score) - np.einsum("sepq,seuq->seup", precision, u)
                step = _solved(information, slope)
                gain = (slope * step).sum(axis=-1)
                if not (np.abs(gain) > SETTLED * (1.0 + np.abs(joint))).any():
                    break
                u, joint = self._stepped(etas, u, step, precision, joint)
            logs = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
            log = joint - logs[..., None] - 0.5 * np.linalg.slogdet(information)[1]
        return Integrals(np.where(np.isfinite(joint), log, -np.inf), u, information, moved)

    def moved(self, etas: Sequence[np.ndarray], u: np.ndarray) -> list[np.ndarray]:
        """Predictors of the slots with effects (sample, expert, unit, position) added."""
        found = list(etas)
        for j, slot in enumerate(self.effects.slots):
            found[slot] = found[slot] + self.effects.design[j] * u[..., j][..., self.unit]
        return found

    def sums(self, by_slot: Sequence[np.ndarray]) -> np.ndarray:
        """Sums over units (sample, expert, unit, position) of values of slots times the design."""
        pairs = zip(self.effects.slots, self.effects.design, strict=True)
        return np.stack([self.shared.totals(by_slot[a] * z) for a, z in pairs], axis=-1)

    def information(self, own: Derivatives) -> np.ndarray:
        """Information (sample, expert, unit, position, position) that the rows give of effects."""
        slots, design = self.effects.slots, self.effects.design
        size = len(slots)
        found: np.ndarray | None = None
        for a in range(size):
            for b in range(a, size):
                product = design[a] * design[b]
                total = self.shared.totals(-own.second[slots[a]][slots[b]] * product)
                if found is None:
                    found = np.empty((*total.shape, size, size))
                found[..., a, b] = found[..., b, a] = total
        assert found is not None
        return found

    def _joint(
        self, etas: Sequence[np.ndarray], u: np.ndarray, precision: np.ndarray
    ) -> np.ndarray:
        """Log density (sample, expert, unit) of rows and effects, but for constants of these."""
        density = self.family.log_density_at(self.data, self.moved(etas, u), NUMERIC)
        square = np.einsum("seup,sepq,seuq->seu", u, precision, u, optimize=True)
        total: np.ndarray = self.shared.totals(density) - 0.5 * square
        return total

    def _stepped(
        self,
        etas: Sequence[np.ndarray],
        u: np.ndarray,
        step: np.ndarray,
        precision: np.ndarray,
        joint: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Effects after a step that is halved where the density falls, and the density there."""
        length = np.ones(joint.shape)
        for _ in range(HALVINGS):
            tried = u + length[..., None] * step
            value = self._joint(etas, tried, precision)
            worse = ~(value >= joint - SETTLED * (1.0 + np.abs(joint))) & np.isfinite(joint)
            if not worse.any():
                break
            length = np.where(worse, 0.5 * length, length)
        else:
            tried = np.where(worse[..., None], u, tried)
            value = np.where(worse, joint, value)
        return tried, value


@dataclass(frozen=True)
class GroupIntegrals:
    """Densities of groups under the draws of a model, their effects integrated out.

    Attributes
    ----------
    group : str
        The column of groups whose rows share an expert.
    draws : mapping of str to array (sample, ...)
        Reported variables.
    """

    group: str
    draws: Values

    def take(self, index: np.ndarray) -> GroupIntegrals:
        """Those under some of the draws."""
        return replace(self, draws={name: v[index] for name, v in self.draws.items()})

    def at_first(self, mixture: Any, rows: Rows) -> np.ndarray:
        """Log densities (sample, expert, obs) of groups under each expert.

        That of a group stands at its first row, and zero at its others.
        """
        shared, samples = allocation_of(rows.observation), len(mixture.log_weights)
        found, plain = [], None
        for block in mixture.blocks:
            of_block = self._of_block(block, rows, shared)
            if of_block is None:
                plain = mixture.log_components(rows.observed) if plain is None else plain
                own = shared.totals(plain[:, list(block.positions)])
                of_block = np.broadcast_to(own, (samples, *own.shape[1:]))
            found.append(of_block)
        return shared.at_first(np.concatenate(found, axis=1))

    def _of_block(self, block: Block, rows: Rows, shared: Allocation) -> np.ndarray | None:
        """Log densities (sample, expert, unit) under a block's experts; None without effects."""
        effects = SharedEffects.of(block, rows.matrices, shared, self.group)
        if not effects.size:
            return None
        data = block.data(rows.observed, block.known(rows.matrices), NUMERIC)
        etas = predictors_without(block, self.draws, rows.matrices, self.group)
        factor = effects.factor(self.draws, len(block.positions))
        return BlockIntegrals(block.family, data, effects, shared).at(etas, factor).log


def _solved(information: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Newton steps of effects; where the information is not definite, of its absolute."""
    if information.shape[-1] == 1:
        size = np.abs(information[..., 0])
        return slope / np.where(size > 0, size, 1.0)
    finite = np.where(np.isfinite(information), information, 0.0)
    try:
        np.linalg.cholesky(finite)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(finite)
        least = 1e-6 * np.abs(values).max(axis=-1, keepdims=True)
        size = np.maximum(np.maximum(np.abs(values), least), 1e-300)
        half = np.einsum("...pq,...p->...q", vectors, slope) / size
        return np.einsum("...pq,...q->...p", vectors, half)
    solved: np.ndarray = np.linalg.solve(finite, slope[..., None])[..., 0]
    return solved
