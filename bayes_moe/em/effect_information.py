"""Information of random effects and fixed coordinates: sums over rows, by group.

The matrices are those of :mod:`bayes_moe.em.effect_matrices`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.em.effect_matrices import EffectMatrices
from bayes_moe.em.grouped_rows import Effects, GroupedRows


@dataclass(frozen=True)
class Derivatives:
    """Log likelihood at one point, with derivatives by fixed coordinates and effects.

    ``within`` (fixed, fixed) and ``across`` (fixed, effect) are minus second derivatives, and so is
    ``inner``: see :meth:`EffectInformation.inner`.
    """

    value: float
    by_fixed: np.ndarray
    by_effect: np.ndarray
    within: np.ndarray
    across: np.ndarray
    inner: np.ndarray


class EffectInformation:
    """Derivatives of the log likelihood by fixed coordinates and effects."""

    def __init__(self, rows: GroupedRows) -> None:
        self.rows, self.matrices = rows, EffectMatrices(rows)
        self._tables = dict[tuple[int, int, int], Any]()

    def inner(
        self, fixed: np.ndarray, effects: np.ndarray, *, complete: bool = False
    ) -> list[np.ndarray]:
        """Information of effects: (point, group, position, position), or (point, effect, effect).

        ``fixed`` and ``effects`` are (point, ...); with ``complete``, followed by that of rows of
        known experts.
        """
        total: Any = None
        for where in self.rows.chunks(len(fixed)):
            second = self.rows.by_random(fixed, effects, where, complete=complete)
            own = [self._inner(each, where) for each in second]
            total = own if total is None else [a + b for a, b in zip(total, own, strict=True)]
        return list(total)

    def derivatives(self, fixed: np.ndarray, effects: np.ndarray) -> Derivatives:
        """Log likelihood with derivatives at one point (coordinate,), (effect,)."""
        sums: list[Any] = [0.0] * 6
        for where in self.rows.chunks(1):
            value, first, second = self.rows.by_direction(fixed[None], effects[None], where)
            slopes = first[0]
            parts = (
                float(value.sum()),
                self._by_fixed(slopes, where),
                self._by_effect(slopes, where),
                self._within(second[0], where),
                self._across(second[0], where),
                self._inner(second[:, self.rows.random][:, :, self.rows.random], where)[0],
            )
            sums = [a + b for a, b in zip(sums, parts, strict=True)]
        return Derivatives(*sums)

    # --- sums over a chunk of rows ----------------------------------------------------------------

    def _by_group(self, e: Effects, values: np.ndarray, where: slice) -> np.ndarray:
        """Sums (..., group) of values (..., obs) over the rows of each group."""
        from scipy.sparse import csr_array

        key = (e.first, where.start, where.stop)
        if key not in self._tables:
            codes = e.columns.codes[where]
            place = (codes, np.arange(len(codes)))
            self._tables[key] = csr_array((np.ones(len(codes)), place), (e.shape[1], len(codes)))
        flat = values.reshape(-1, values.shape[-1])
        return np.asarray((self._tables[key] @ flat.T).T).reshape(*values.shape[:-1], e.shape[1])

    def _by_fixed(self, slopes: np.ndarray, where: slice) -> np.ndarray:
        parts = [x @ slopes[d] for d, x in self._fixed_features(where)]
        return np.concatenate(parts)

    def _fixed_features(self, where: slice) -> list[tuple[int, np.ndarray]]:
        starts, blocks = self.rows.starts, self.rows.fixed.blocks
        return [
            (d, self.rows.features(j, where))
            for j in range(len(blocks))
            for d in range(starts[j], starts[j + 1])
        ]

    def _direction(self, e: Effects, d: int) -> int:
        return int(self.rows.starts[e.block]) + d

    def _place(self, e: Effects, d: int) -> int:
        """Position of a direction among those that have effects."""
        return int(np.searchsorted(self.rows.random, self._direction(e, d)))

    def _by_effect(self, slopes: np.ndarray, where: slice) -> np.ndarray:
        total = np.empty(self.rows.size)
        for e in self.rows.effects:
            design = self.rows.design(e, where)
            own = slopes[self._direction(e, 0) : self._direction(e, e.shape[0])]
            sums = self._by_group(e, own[:, None] * design, where)  # (direction, column, group)
            total[e.where] = sums.transpose(0, 2, 1).ravel()
        return total

    def _within(self, second: np.ndarray, where: slice) -> np.ndarray:
        features = self._fixed_features(where)
        return np.block([[(x * second[d, f]) @ y.T for f, y in features] for d, x in features])

    def _across(self, second: np.ndarray, where: slice) -> np.ndarray:
        features, parts = self._fixed_features(where), []
        for e in self.rows.effects:
            design = self.rows.design(e, where)
            of_directions = []
            for k in range(e.shape[0]):
                d = self._direction(e, k)
                weighted = np.concatenate([x * second[f, d] for f, x in features])
                sums = self._by_group(e, weighted[:, None] * design, where)
                of_directions.append(sums.transpose(0, 2, 1))  # (fixed, group, column)
            stacked = np.stack(of_directions, axis=1)
            parts.append(stacked.reshape(len(stacked), -1))
        return np.concatenate(parts, axis=1)

    def _inner(self, second: np.ndarray, where: slice) -> np.ndarray:
        return (
            self._of_blocks(second, where) if self.matrices.blocked else self._of_all(second, where)
        )

    def _of_blocks(self, second: np.ndarray, where: slice) -> np.ndarray:
        designs = [self.rows.design(e, where)[q] for e, _, q in self.matrices.columns]
        places = [self._place(e, d) for e, d, _ in self.matrices.columns]
        size, e = len(self.matrices.columns), self.matrices.columns[0][0]
        blocks = np.empty((len(second), e.shape[1], size, size))
        for a in range(size):
            for b in range(a, size):
                weighted = second[:, places[a], places[b]] * (designs[a] * designs[b])
                blocks[:, :, a, b] = self._by_group(e, weighted, where)
                blocks[:, :, b, a] = blocks[:, :, a, b]
        return blocks

    def _of_all(self, second: np.ndarray, where: slice) -> np.ndarray:
        total = np.zeros((len(second), self.rows.size, self.rows.size))
        flat = total.reshape(len(second), -1)
        for a, (e, d, q) in enumerate(self.matrices.columns):
            one = e.first + (d * e.shape[1] + e.columns.codes[where]) * e.shape[2] + q
            for f, k, r in self.matrices.columns[a:]:
                other = f.first + (k * f.shape[1] + f.columns.codes[where]) * f.shape[2] + r
                product = self.rows.design(e, where)[q] * self.rows.design(f, where)[r]
                weights = second[:, self._place(e, d), self._place(f, k)] * product
                for p in range(len(second)):
                    np.add.at(flat[p], one * self.rows.size + other, weights[p])
                    if (e.first, d, q) != (f.first, k, r):
                        np.add.at(flat[p], other * self.rows.size + one, weights[p])
        return total
