"""The log posterior (or log likelihood) of many points at once, with its derivatives.

With ``r`` a row's responsibilities, ``w`` its gate weights, and ``s_a``, ``h_ab`` the first and
second derivatives of an expert's log density by its linear predictors, the derivatives of
``log p(y | x) = logsumexp_k(log w_k + log f_k)`` are

* gradient: ``r_k - w_k`` for the gate, ``r_k s_ka`` for parameter ``a`` of expert ``k``;
* Hessian: ``delta_jk (r_k - w_k) + w_j w_k - r_j r_k`` for the gate, ``r_k s_ka (delta_jk - r_j)``
  between gate and expert, ``delta_jk r_k (h_kab + s_ka s_kb) - r_j s_ja r_k s_kb`` between experts.

The complete-data information, by which EM moves, is ``delta_jk w_k - w_j w_k`` for the gate and
``r_k`` times the family's working curvature for an expert: block diagonal and never negative.

The linear predictors of all experts are stacked: those of the gate, then those of each parameter.
A sum over rows of products of features is a matrix product of weights (pair of predictors, obs)
with products of features (product, obs). Rows come in chunks, which threads may share.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, reduce
from itertools import pairwise

import numpy as np

from bayes_moe.arrays import NUMERIC, log_softmax
from bayes_moe.coordinates import Coordinates
from bayes_moe.design import Rows
from bayes_moe.families import Derivatives
from bayes_moe.features import Features, Plan
from bayes_moe.likelihood import allocate, log_components

CHUNK_ELEMENTS = 2**18
"""Elements of a chunk's largest array: 2 MiB, for caches."""

LARGEST_LOG = 300.0
"""Largest logarithm of a parameter: beyond it nothing has a density, and derivatives overflow."""


class Curvature(Enum):
    """Which matrix of second derivatives an evaluation returns."""

    NONE = "none"
    COMPLETE = "complete"
    OBSERVED = "observed"


@dataclass(frozen=True)
class Evaluation:
    """The objective at some points.

    ``value`` (point,), ``gradient`` (point, coordinate) and ``curvature`` (point, coordinate,
    coordinate), which is minus the second derivatives, hold the log prior. ``own_gradient`` and
    ``own_curvature`` are of the likelihood alone.
    """

    value: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    own_gradient: np.ndarray
    own_curvature: np.ndarray
    rows: np.ndarray
    at_floor: np.ndarray


@dataclass(frozen=True)
class _Chunk:
    """The mixture of some points on some rows, each array (point, expert, obs)."""

    where: slice
    log_weights: np.ndarray
    params: tuple[dict[str, np.ndarray], ...]
    above: tuple[np.ndarray | None, ...]  # by slot: where eta is not at its floor
    r: np.ndarray
    value: np.ndarray  # (point, obs)


class Objective:
    """The log posterior of a model's coordinates on rows, for many points at once.

    Parameters
    ----------
    coordinates : Coordinates
        What moves. Without priors, this is the log likelihood.
    rows : Rows, optional
        Rows with a response; by default the fitted ones.
    cores : int
        Threads that share the chunks of rows; the result does not depend on it.
    """

    def __init__(self, coordinates: Coordinates, rows: Rows | None = None, cores: int = 1) -> None:
        self.coordinates = coordinates
        self.rows = coordinates.design.rows if rows is None else rows
        self.y = self.rows.observed
        self.cores = cores
        self._blocks = coordinates.spec.blocks
        self._features = Features.of_slots(coordinates.slots, self.rows)
        heights = [len(s.experts) for s in coordinates.slots]
        tops = np.cumsum([0, *heights])
        self._stack = [np.arange(a, b) for a, b in pairwise(tops)]
        terms = np.repeat([s.terms for s in coordinates.slots], heights)
        self._starts = np.cumsum([0, *terms])
        self._unit = np.repeat(np.repeat([s.unit for s in coordinates.slots], heights), terms)
        self._tables = np.repeat(self._features.of, heights)

    # --- what callers ask ---------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.coordinates.size

    def value(self, theta: np.ndarray) -> np.ndarray:
        """Return the objective (point,) at points (point, coordinate); -inf if it is not finite."""
        (value,) = self._sum(theta, None, None)
        return _finite(value + self.coordinates.log_prior(theta)[0])

    def evaluate(
        self, theta: np.ndarray, curvature: Curvature, allocation: np.ndarray | None = None
    ) -> Evaluation:
        """Return the objective with its gradient and a curvature.

        ``allocation`` (point, expert, obs) replaces the responsibilities, for a first step from
        a split of the rows.
        """
        prior, first, second = self.coordinates.log_prior(theta)
        plan = self._plans[curvature]
        value, owned, at_floor, slope, *sums = self._sum(theta, curvature, allocation)
        full = len(self._unit)
        matrix = np.zeros((len(theta), full * full))
        for group, total in zip(plan.groups, sums, strict=True):
            matrix[:, group.places] = total
            matrix[:, group.places % full * full + group.places // full] = total
        scaled = matrix.reshape(-1, full, full) * np.multiply.outer(self._unit, self._unit)
        own_gradient = self._free(slope * self._unit)
        half = self._free(scaled)  # (point, coordinate, full)
        own_curvature = self._free(np.swapaxes(half, 1, 2))
        whole = own_curvature.copy()
        diagonal = np.arange(self.size)
        bend = second if curvature is Curvature.OBSERVED else np.minimum(second, 0.0)
        whole[:, diagonal, diagonal] -= bend
        return Evaluation(
            _finite(value + prior),
            own_gradient + first,
            whole,
            own_gradient,
            own_curvature,
            owned,
            at_floor,
        )

    def eta_size(self, theta: np.ndarray) -> np.ndarray:
        """Root mean square of the linear predictors, less their offsets (point, slot).

        The largest over the experts of a slot; a location's in internal units.
        """
        found = []
        for slot, table in zip(self.coordinates.slots, self._features.of, strict=True):
            raw = slot.raw(theta)
            square = np.einsum("bki,ij,bkj->bk", raw, self._features.moments[table], raw)
            found.append(np.sqrt(np.maximum(square, 0.0)).max(axis=1))
        return np.stack(found, axis=1)

    # --- sums over rows -----------------------------------------------------------------------

    def _sum(
        self, theta: np.ndarray, curvature: Curvature | None, allocation: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        """Sum over rows of the value (point,); with a curvature also of :meth:`_derivatives`."""
        coefs = self._coefs(theta)
        pairs = 0 if curvature is None else len(self._plans[curvature].first)

        def part(where: slice) -> tuple[np.ndarray, ...]:
            with np.errstate(all="ignore"):
                chunk = self._chunk(coefs, where)
                total = chunk.value.sum(axis=-1)
                if curvature is None:
                    return (total,)
                return (total, *self._derivatives(chunk, curvature, allocation))

        places = list(self._places(len(theta), pairs))
        if self.cores > 1 and len(places) > 1:
            with ThreadPoolExecutor(self.cores) as pool:
                return reduce(_add, pool.map(part, places))
        return reduce(_add, map(part, places))

    def _places(self, points: int, pairs: int) -> Iterator[slice]:
        """Chunks of rows, so that the largest array has about ``CHUNK_ELEMENTS``."""
        step = max(16, CHUNK_ELEMENTS // (points * (pairs + 2 * len(self._starts))))
        for start in range(0, self.y.size, step):
            yield slice(start, min(start + step, self.y.size))

    def _coefs(self, theta: np.ndarray) -> list[np.ndarray]:
        """Coefficients (point, expert, term) of every slot, in eta's own units."""
        found = []
        for slot in self.coordinates.slots:
            coef = slot.raw(theta) * slot.unit
            if slot.offset != 0.0:
                assert slot.scaling is not None
                coef[..., slot.scaling.matrix.intercept] += slot.offset
            found.append(coef)
        return found

    def _chunk(self, coefs: list[np.ndarray], where: slice) -> _Chunk:
        slots = self.coordinates.slots
        params: tuple[dict[str, np.ndarray], ...] = tuple(
            b.known(self.rows.matrices, where) for b in self._blocks
        )
        above: list[np.ndarray | None] = []
        log_weights = np.zeros((len(coefs[0]), self.coordinates.spec.n_experts, 1))
        for slot, coef, table in zip(slots, coefs, self._features.of, strict=True):
            eta = np.matmul(coef, self._features.take(table, where))
            above.append(None)
            if slot.block is None:
                log_weights = log_softmax(eta, NUMERIC)
                continue
            if slot.floor > -np.inf:
                free = eta > slot.floor
                if not free.all():
                    above[-1] = free
                    eta = np.maximum(eta, slot.floor)
            if slot.link.name == "log":
                eta = np.clip(eta, -LARGEST_LOG, LARGEST_LOG)
            name = self._blocks[slot.block].family.PARAMS[slot.parameter].name
            params[slot.block][name] = slot.link.inverse(eta, NUMERIC)
        joint = log_weights + log_components(self.y[where], self._blocks, params, NUMERIC)
        value, r = allocate(joint)
        return _Chunk(where, log_weights, params, tuple(above), r, value)

    def _derivatives(
        self, chunk: _Chunk, curvature: Curvature, allocation: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        """Rows of experts, rows at a floor, gradient and sums of pairs over a chunk."""
        r = chunk.r if allocation is None else allocation[..., chunk.where]
        w = np.exp(chunk.log_weights)
        each = [
            b.family.derivatives(self.y[chunk.where], p)
            for b, p in zip(self._blocks, chunk.params, strict=True)
        ]
        lead = np.empty((r.shape[0], len(self._starts) - 1, r.shape[2]))
        at_floor = np.zeros(len(r))
        for slot, rows, above in zip(self.coordinates.slots, self._stack, chunk.above, strict=True):
            if slot.block is None:
                lead[:, rows] = r
                continue
            score = each[slot.block].score[slot.parameter]
            lead[:, rows] = r[:, slot.experts] * (score if above is None else score * above)
            if above is not None:
                at_floor += np.where(above, 0.0, r[:, slot.experts]).sum(axis=(1, 2))
        if curvature is Curvature.OBSERVED:
            weights = self._observed(chunk, each, r, w, lead)
        else:
            weights = self._complete(chunk, each, r, w)
        if self.coordinates.gated:
            lead[:, self._stack[0]] -= w
        slopes = [
            self._features.sums(lead[:, rows], t, chunk.where)
            for rows, t in zip(self._stack, self._features.of, strict=True)
        ]
        gradient = np.concatenate([s.reshape(len(r), -1) for s in slopes], axis=1)
        plan = self._plans[curvature]
        return (
            r.sum(axis=-1),
            at_floor,
            gradient,
            *(
                self._features.products(weights[:, g.pairs], g.tables, chunk.where)
                for g in plan.groups
            ),
        )

    def _observed(
        self,
        chunk: _Chunk,
        each: list[Derivatives],
        r: np.ndarray,
        w: np.ndarray,
        lead: np.ndarray,
    ) -> np.ndarray:
        """Weights (point, pair, obs) of minus the second derivatives."""
        plan = self._plans[Curvature.OBSERVED]
        weights = np.empty((len(r), len(plan.first), r.shape[2]))
        for first, second, positions in plan.runs:
            np.multiply(lead[:, first], lead[:, second], out=weights[:, positions])
        for (a, b), pairs in self._diagonal_pairs.items():
            one, other = self.coordinates.slots[a], self.coordinates.slots[b]
            if one.block is None and other.block is None:
                gate = self._gate_pairs
                weights[:, gate] -= w[:, plan.first[gate]] * w[:, plan.second[gate]]
                weights[:, pairs] -= r - w
            elif one.block is None:
                weights[:, pairs] -= lead[:, self._stack[b]]
            else:
                assert one.block is not None
                second = r[:, one.experts] * each[one.block].second[one.parameter][other.parameter]
                for above in (chunk.above[a], chunk.above[b]):
                    if above is not None:
                        second = second * above
                score = each[one.block].score[other.parameter]
                weights[:, pairs] -= second + lead[:, self._stack[a]] * (
                    score if chunk.above[b] is None else score * chunk.above[b]
                )
        return weights

    def _complete(
        self, chunk: _Chunk, each: list[Derivatives], r: np.ndarray, w: np.ndarray
    ) -> np.ndarray:
        """Weights (point, pair, obs) of the complete-data information."""
        plan = self._plans[Curvature.COMPLETE]
        weights = np.empty((len(r), len(plan.first), r.shape[2]))
        if self.coordinates.gated:
            for first, second, positions in plan.runs:
                if second.stop <= len(self._stack[0]):
                    np.multiply(w[:, first], -w[:, second], out=weights[:, positions])
        for slot, above, own in zip(
            self.coordinates.slots, chunk.above, self._own_pairs, strict=True
        ):
            if slot.block is None:
                weights[:, own] += w
                continue
            working = r[:, slot.experts] * each[slot.block].working[slot.parameter]
            weights[:, own] = working if above is None else working * above
        return weights

    # --- pairs of predictors ------------------------------------------------------------------

    @cached_property
    def _own_pairs(self) -> list[np.ndarray]:
        """Positions of every slot's predictors paired with themselves, in the complete plan."""
        plan = self._plans[Curvature.COMPLETE]
        return [plan.pair(rows, rows) for rows in self._stack]

    @cached_property
    def _gate_pairs(self) -> np.ndarray:
        """Positions of pairs of gate predictors in the observed plan."""
        plan = self._plans[Curvature.OBSERVED]
        experts = len(self._stack[0])
        return np.flatnonzero((plan.first < experts) & (plan.second < experts))

    @cached_property
    def _diagonal_pairs(self) -> dict[tuple[int, int], np.ndarray]:
        """Pairs of predictors of the same expert, by pair of slots that share experts."""
        slots, plan = self.coordinates.slots, self._plans[Curvature.OBSERVED]
        found = {}
        for a, one in enumerate(slots):
            for b, other in enumerate(slots[a:], start=a):
                if one.block is None or one.block == other.block:
                    first = (
                        self._stack[a][list(other.experts)]
                        if one.block is None
                        else (self._stack[a])
                    )
                    found[a, b] = plan.pair(first, self._stack[b])
        return found

    @cached_property
    def _plans(self) -> dict[Curvature, Plan]:
        height = len(self._starts) - 1
        first, second = [], []
        for slot, rows in zip(self.coordinates.slots, self._stack, strict=True):
            i, j = np.triu_indices(len(rows)) if slot.block is None else 2 * (np.arange(len(rows)),)
            first.append(rows[i])
            second.append(rows[j])
        return {
            Curvature.COMPLETE: self._plan(np.concatenate(first), np.concatenate(second)),
            Curvature.OBSERVED: self._plan(*np.triu_indices(height)),
        }

    def _plan(self, first: np.ndarray, second: np.ndarray) -> Plan:
        return Plan.of_pairs(first, second, self._tables, self._starts)

    # --- coordinates --------------------------------------------------------------------------

    def _free(self, full: np.ndarray) -> np.ndarray:
        """Take derivatives (point, full, ...) by internal coefficients to those by coordinates."""
        slot = self.coordinates.slots[0]
        if slot.basis is None:
            return full
        width = len(slot.experts) * slot.terms
        gate = full[:, :width].reshape(len(full), len(slot.experts), -1)
        free = np.matmul(slot.basis, gate).reshape(len(full), -1, *full.shape[2:])
        return np.concatenate([free, full[:, width:]], axis=1)


def _add(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _finite(value: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(value), value, -np.inf)
