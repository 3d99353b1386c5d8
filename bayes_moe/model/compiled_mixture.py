"""The mixture's arrays by compiled loops: the same values as in NumPy, several times as fast.

What has no kernel is computed by the formulas of the families in NumPy. Importing this module
imports numba: :mod:`bayes_moe.model.evaluation` decides when that is worth its time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Self

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.gates.softmax import single_softmax
from bayes_moe.gates.splits import SplitTree
from bayes_moe.kernels import evaluation as kernels
from bayes_moe.kernels import tail_tables
from bayes_moe.kernels import tails as tail_kernels
from bayes_moe.kernels.families import has_kernel
from bayes_moe.model.blocks import Block
from bayes_moe.model.mixture import Mixture, with_future

LARGEST_RESPONSE = 1e50
"""Largest response whose square, in scales of an expert, the kernels take for a number."""


MOST_SLOTS = 32
"""Most predictors of a family's compiled density; of more, the compiler takes minutes."""


@dataclass(frozen=True)
class CompiledMixture(Mixture):
    """A mixture whose sums over experts and log densities are compiled.

    ``gate_weights`` are the exponentials of ``log_weights``, where they are known already.
    """

    gate_weights: np.ndarray | None = None

    def with_log_weights(self, log_weights: np.ndarray) -> Self:
        return replace(self, log_weights=log_weights, gate_weights=None)

    @cached_property
    def weights(self) -> np.ndarray:
        if self.gate_weights is not None:
            return self.gate_weights
        return np.exp(self.log_weights)

    @cached_property
    def _parts(self) -> list[_Part]:
        """Blocks with what their kernels read."""
        samples, _, rows = self.log_weights.shape
        starts = np.cumsum([0, *(len(block.positions) for block in self.blocks)])
        parts = zip(self.blocks, self.params, starts[:-1], strict=True)
        return [_Part(b, p, int(start), samples, rows) for b, p, start in parts]

    def log_components(self, y: np.ndarray) -> np.ndarray:
        samples, experts, rows = self.log_weights.shape
        joint = np.empty((samples, experts, rows))
        y = np.ascontiguousarray(np.broadcast_to(y, (*np.shape(y)[:-1], rows)), dtype=float)
        moderate = bool((np.abs(y) <= LARGEST_RESPONSE).all())
        for part in self._parts:
            if moderate and part.has_kernel:
                part.fill_log_densities(y, joint)
            else:
                where = slice(part.start, part.start + len(part.block.positions))
                joint[:, where] = part.block.log_density(y, part.params, NUMERIC)
        return joint

    def log_density(self, y: np.ndarray) -> np.ndarray:
        joint = self.log_components(y)
        samples, experts, rows = joint.shape
        density = np.empty((samples, rows))
        log_w = np.ascontiguousarray(self.log_weights)
        kernels.log_mixtures()(*_addresses(log_w, joint, density), samples, experts, rows)
        return density - self.log_recorded(y)

    def responsibilities(self, y: np.ndarray) -> np.ndarray:
        shares = self.log_components(y)
        log_w = np.ascontiguousarray(with_future(self))
        kernels.responsibilities()(*_addresses(log_w, shares), *shares.shape)
        return shares

    def sum_over_experts(self, values: np.ndarray) -> np.ndarray:
        samples, experts, rows = self.log_weights.shape
        sums = np.empty((samples, rows))
        weights, values = np.ascontiguousarray(self.weights), np.ascontiguousarray(values)
        kernels.weighted_sums()(*_addresses(weights, values, sums), samples, experts, rows)
        return sums

    def tails(self, y: np.ndarray, above: np.ndarray, *, derivatives: bool = True) -> np.ndarray:
        sums = np.zeros((len(y), 3, y.shape[-1]))
        if not sums.size:
            return sums
        y = np.ascontiguousarray(y, dtype=float)
        weights = np.ascontiguousarray(self.weights)
        for part in self._parts:
            if part.has_tails(y):
                part.add_tails(y, above, weights, sums)
            else:
                part.add_tails_in_numpy(y, above, weights, sums, derivatives)
        return sums / len(weights)

    @cached_property
    def density_part(self) -> Self:
        part = super().density_part
        return part if part is self else replace(part, gate_weights=None)

    def recorded(self, limits: np.ndarray) -> Self:
        return replace(super().recorded(limits), gate_weights=None)

    def top(self, k: int) -> Self:
        kept = super().top(k)
        return self if kept is self else replace(kept, gate_weights=None)

    def take_samples(self, index: np.ndarray) -> Self:
        weights = None if self.gate_weights is None else self.gate_weights[index]
        return replace(super().take_samples(index), gate_weights=weights)

    def take_rows(self, index: np.ndarray) -> Self:
        weights = None if self.gate_weights is None else self.gate_weights[..., index]
        return replace(super().take_rows(index), gate_weights=weights)


@dataclass(frozen=True)
class _Part:
    """A block of experts, from position ``start`` among all experts."""

    block: Block
    params: dict[str, np.ndarray]
    start: int
    samples: int
    rows: int

    @property
    def has_kernel(self) -> bool:
        family = self.block.family
        if len(family.slots) > MOST_SLOTS:
            return False
        return has_kernel(family) and not (family.takes_responses or family.is_censored)

    @cached_property
    def shared(self) -> bool:
        """Whether all predictors but the first are the same for every row."""
        etas = self.block.family.etas(self.params, NUMERIC)
        return all(eta.shape[-1] == 1 for eta in etas[1:])

    @cached_property
    def etas(self) -> list[np.ndarray]:
        """Predictors (sample, expert, obs) of the parameters, or (sample, expert, 1)."""
        etas = []
        for j, eta in enumerate(self.block.family.etas(self.params, NUMERIC)):
            width = 1 if self.shared and j else self.rows
            shape = (self.samples, len(self.block.positions), width)
            etas.append(np.ascontiguousarray(np.broadcast_to(eta, shape)))
        return etas

    @cached_property
    def other_etas(self) -> np.ndarray:
        """Predictors after the first (predictor, sample, expert, obs or 1); none are zeros."""
        return np.stack(self.etas[1:]) if len(self.etas) > 1 else np.zeros_like(self.etas[0])

    def has_tails(self, y: np.ndarray) -> bool:
        """Whether the sums of tails at points (level, obs) are compiled.

        They are not where the shape varies by row.
        """
        family, name = self.block.family, self.block.family.kind
        if name not in tail_kernels.ADD or not (np.abs(y) <= LARGEST_RESPONSE).all():
            return False
        shapes = family.parameters[1:] if name == "gamma" else family.parameters[2:]
        if any(self.params[p.name].shape[-1] > 1 for p in shapes):
            return False
        if name == "gamma":
            alpha, (least, most) = self.params["alpha"], tail_tables.SHAPES
            return bool(
                (y >= np.finfo(float).tiny).all() and least <= alpha.min() and alpha.max() <= most
            )
        return name != "poisson" or bool((y >= 0).all() and (y < tail_tables.SHAPES[1]).all())

    @cached_property
    def inverse_scale(self) -> np.ndarray:
        """Inverse scale (sample, expert, obs), or (sample, expert, 1)."""
        scale = self.params.get("sigma", np.ones((1, 1, 1)))
        width = 1 if scale.shape[-1] == 1 else self.rows
        shape = (self.samples, len(self.block.positions), width)
        return np.ascontiguousarray(np.broadcast_to(1.0 / scale, shape))

    @cached_property
    def tail_table(self) -> np.ndarray:
        """Numbers (sample, expert, number) that the tails' kernel reads of an expert and draw."""
        shape = (self.samples, len(self.block.positions))
        name = self.block.family.kind
        if name == "studentt":
            return tail_tables.student_table(np.broadcast_to(self.params["nu"][..., 0], shape))
        if name == "gamma":
            return tail_tables.gamma_table(np.broadcast_to(self.params["alpha"][..., 0], shape))
        return np.zeros(1)

    def add_tails(
        self, y: np.ndarray, above: np.ndarray, weights: np.ndarray, sums: np.ndarray
    ) -> None:
        """Add the block's part to sums (level, 3, obs); see :meth:`Mixture.tails`."""
        sign, of_rows = np.where(above, -1.0, 1.0), np.zeros(1)
        if self.block.family.kind == "poisson":
            shape, place = np.unique(np.floor(y) + 1.0, return_inverse=True)
            table = tail_tables.gamma_table(shape)[place.reshape(y.shape)]
            of_rows, y = np.ascontiguousarray(np.swapaxes(table, 1, 2)), np.log(np.floor(y) + 1.0)
        own, scale = weights[:, self.start :], self.inverse_scale
        read = (y, sign, own, self.etas[0], scale, self.tail_table, of_rows)
        arrays = np.array(_addresses(*read))
        experts, stride = len(self.block.positions), weights.shape[1] * self.rows
        shared = int(scale.shape[-1] == 1)
        sizes = np.array([self.samples, experts, self.rows, stride, len(y), shared])
        tail_kernels.tails(self.block.family.kind)(*_addresses(arrays, sums, sizes))

    def add_tails_in_numpy(
        self,
        y: np.ndarray,
        above: np.ndarray,
        weights: np.ndarray,
        sums: np.ndarray,
        derivatives: bool,
    ) -> None:
        """As :meth:`add_tails`; slopes become NaN."""
        family = self.block.family
        own = weights[:, self.start : self.start + len(self.block.positions)]
        for total, point, beyond in zip(sums, y, above, strict=True):
            share = (family.sf if beyond else family.cdf)(point, self.params)
            total[0] += np.einsum("seo,seo->o", own, np.broadcast_to(share, own.shape))
            total[2] = np.nan
            if derivatives:
                height = np.exp(self.block.log_density(point, self.params, NUMERIC))
                total[1] += np.einsum("seo,seo->o", own, np.broadcast_to(height, own.shape))

    def of_rows(self, values: Any) -> np.ndarray:
        """Numbers (obs,)."""
        return np.ascontiguousarray(np.broadcast_to(values, (self.rows,)), dtype=float)

    def fill_log_densities(self, y: np.ndarray, joint: np.ndarray) -> None:
        """Fill in the log densities of the block's experts in those (sample, expert, obs) of all.

        ``y`` is (obs,).
        """
        data = self.block.data(y, self.params, NUMERIC)
        of_rows = [self.of_rows(values) for values in (data.t, data.u, data.base)]
        arrays = np.array(_addresses(*of_rows, self.etas[0], self.other_etas))
        stride = joint.shape[1] * self.rows
        sizes = [self.samples, len(self.block.positions), self.rows, stride, int(self.shared)]
        to = joint[:, self.start :]
        fill = kernels.log_densities(self.block.family)
        numbers = np.array(sizes)
        fill(*_addresses(arrays, to, numbers))


def log_weights(eta: np.ndarray, splits: SplitTree) -> tuple[np.ndarray, np.ndarray]:
    """Log weights and weights (sample, expert, obs) from a gate's outputs (sample, output, obs)."""
    eta = np.ascontiguousarray(eta)
    samples, outputs, rows = eta.shape
    log_w = np.empty((samples, splits.experts, rows))
    w = np.empty_like(log_w)
    most = max(s.branches for s in splits.splits)
    sizes = np.array([samples, outputs, splits.experts, rows, most])
    table = np.array(_table(splits), dtype=np.int64)
    eta_, table_, log_w_, w_, sizes_ = _addresses(eta, table, log_w, w, sizes)
    kernels.log_weights()(eta_, table_, len(table), log_w_, w_, sizes_)
    return log_w, w


@cache
def softmax_of(experts: int) -> SplitTree:
    """The splits of a single softmax."""
    return single_softmax(experts)


def _table(splits: SplitTree) -> list[int]:
    """Splits as whole numbers, in the order of :func:`kernels.split_weights`; none of a softmax."""
    if splits.is_single_softmax:
        return []
    table = [len(splits.splits)]
    for split in splits.splits:
        table += [split.rows.start, split.branches, int(split.pinned)]
        for leaves in split.leaves:
            table += [len(leaves), *leaves]
    return table


def _addresses(*arrays: np.ndarray) -> list[int]:
    """Addresses of arrays, which the caller keeps."""
    return [array.ctypes.data for array in arrays]
