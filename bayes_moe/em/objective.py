"""The log posterior (or log likelihood) of many points at once, with its derivatives.

With ``r`` a row's responsibilities, ``g_vc`` the probability of branch ``c`` at split ``v`` of the
gate, ``R_vc`` and ``H_v`` the responsibility of all experts below the branch and the split, and
``s_a``, ``h_ab`` the first and second derivatives of an expert's log density by its linear
predictors, the derivatives of ``log p(y | x) = logsumexp_k(log w_k + log f_k)`` are

* gradient: ``l_vc = R_vc - H_v g_vc`` for the gate, ``l_ka = r_k s_ka`` for parameter ``a`` of
  expert ``k``;
* Hessian, less ``- l l'``: ``delta_cd l_c - l_c g_d - g_c l_d`` between branches ``c`` and ``d`` of
  one split; ``l_vc (delta_de - g_ud)`` between a split ``v`` below branch ``e`` of ``u`` and ``u``;
  ``l_ka (delta_ce - g_vc)`` between a split ``v`` and an expert below its branch ``e``; and
  ``delta_jk r_k (h_kab + s_ka s_kb)`` between experts.

At the root of the gate ``H = 1`` and all experts are below: with ``R`` in the place of ``l`` in the
product, the terms in ``g`` cancel but for ``g_c g_d`` at the root itself. A flat softmax is that.

The complete-data information, by which EM moves, is ``H_v (delta_cd g_c - g_c g_d)`` for the gate
and ``r_k`` times the family's working curvature for an expert: block diagonal, never negative.

The linear predictors of all experts are stacked: those of the gate, then those of each parameter.
A sum over rows of products of features is a matrix product of weights (pair of predictors, obs)
with products of features (product, obs). Rows come in chunks, which threads may share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, reduce
from itertools import pairwise

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.matrix import Rows
from bayes_moe.em.cross_products import Features, Plan
from bayes_moe.em.gate_pairs import Links, links
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.families import Derivatives
from bayes_moe.gates.splits import Split
from bayes_moe.model.likelihood import allocate, log_components

CHUNK_ELEMENTS = 2**18
"""Elements of a chunk's largest array: 2 MiB, for caches."""

LEAST_ROWS = 256
"""Rows of a chunk for which points are taken few at a time."""

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
    gate: tuple[np.ndarray, np.ndarray] | None  # probability of branches; of those with a row
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

    def __init__(
        self, coordinates: ParameterVector, rows: Rows | None = None, cores: int = 1
    ) -> None:
        self.coordinates = coordinates
        self.rows = coordinates.design.rows if rows is None else rows
        self.y = self.rows.observed
        self.cores = cores
        self._parts = coordinates.spec.parts
        self._blocks = [part.block for part in self._parts]
        self._y = [part.response(self.rows) for part in self._parts]
        self._features = Features.of_slots(coordinates.slots, self.rows)
        heights = [len(s.experts) for s in coordinates.slots]
        tops = np.cumsum([0, *heights])
        self._stack = [np.arange(a, b) for a, b in pairwise(tops)]
        terms = np.repeat([s.terms for s in coordinates.slots], heights)
        self._starts = np.cumsum([0, *terms])
        self._unit = np.repeat(np.repeat([s.unit for s in coordinates.slots], heights), terms)
        self._tables = np.repeat(self._features.of, heights)

    def under(self, own: Mapping[str, np.ndarray]) -> Objective:
        """Return the objective under other values of the parameters of learned priors."""
        found = copy(self)
        found.coordinates = self.coordinates.under(own)
        return found

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
        """Sum over rows of the value (point,); with a curvature also of :meth:`_derivatives`.

        Few points at a time, so that chunks have rows enough for products of matrices.
        """
        pairs = 0 if curvature is None else len(self._plans[curvature].first)
        many = max(1, CHUNK_ELEMENTS // (min(LEAST_ROWS, self.y.size) * self._width(pairs)))
        parts = []
        for start in range(0, len(theta), many):
            some = slice(start, start + many)
            own = None if allocation is None else allocation[some]
            parts.append(self._sum_of(theta[some], curvature, own, pairs))
        if len(parts) == 1:
            return parts[0]
        return tuple(np.concatenate(figures) for figures in zip(*parts, strict=True))

    def _sum_of(
        self,
        theta: np.ndarray,
        curvature: Curvature | None,
        allocation: np.ndarray | None,
        pairs: int,
    ) -> tuple[np.ndarray, ...]:
        coefs = self._coefs(theta)

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
        step = max(16, CHUNK_ELEMENTS // (points * self._width(pairs)))
        for start in range(0, self.y.size, step):
            yield slice(start, min(start + step, self.y.size))

    def _width(self, pairs: int) -> int:
        """Numbers of a row in a chunk's largest array."""
        return pairs + 2 * len(self._starts)

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
        rows: list[np.ndarray] = []
        log_weights = np.zeros((len(coefs[0]), self.coordinates.spec.n_experts, 1))
        gate = None
        for slot, coef, table in zip(slots, coefs, self._features.of, strict=True):
            eta = np.matmul(coef, self._features.take(table, where))
            above.append(None)
            if slot.block is None:
                rows.append(eta)
                if sum(r.shape[1] for r in rows) == self._gate_rows:
                    log_weights, gate = self._weigh(rows)
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
        own = [j for j, part in enumerate(self._parts) if part.column is None]
        blocks, given = [self._blocks[j] for j in own], [params[j] for j in own]
        joint = log_weights + log_components(self.y[where], blocks, given, NUMERIC)
        for j, part in enumerate(self._parts):
            if part.column is not None:
                joint += part.block.family.log_density(self._y[j][where], params[j], NUMERIC)
        value, r = allocate(joint)
        return _Chunk(where, gate, params, tuple(above), r, value)

    def _weigh(self, rows: list[np.ndarray]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Log weights, and probabilities of the gate's branches, from its predictors."""
        branching = self.coordinates.branching
        assert branching is not None
        full = [np.broadcast_to(r, (*r.shape[:2], max(x.shape[2] for x in rows))) for r in rows]
        eta = full[0] if len(full) == 1 else np.concatenate(full, axis=1)
        parts = branching.log_branches(eta, NUMERIC)
        if branching.is_single_softmax:
            branches = np.exp(parts[0])
            return parts[0], (branches, branches)
        whole = np.concatenate(parts, axis=1)
        branches = np.exp(whole)
        return np.matmul(branching.paths, whole), (branches, branches[:, self._with_row])

    def _derivatives(
        self, chunk: _Chunk, curvature: Curvature, allocation: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        """Rows of experts, rows at a floor, gradient and sums of pairs over a chunk."""
        r = chunk.r if allocation is None else allocation[..., chunk.where]
        each = [
            b.family.derivatives(y[chunk.where], p)
            for b, y, p in zip(self._blocks, self._y, chunk.params, strict=True)
        ]
        lead = np.empty((r.shape[0], len(self._starts) - 1, r.shape[2]))
        at_floor = np.zeros(len(r))
        held = self._held(r)  # by the gate's rows: responsibility of the branch, and of the split
        if chunk.gate is not None:
            gate = slice(0, self._gate_rows)
            lead[:, gate] = held[0]
            if self._deep.size:
                lead[:, self._deep] -= held[1][:, self._deep] * chunk.gate[1][:, self._deep]
        for slot, rows, above in zip(self.coordinates.slots, self._stack, chunk.above, strict=True):
            if slot.block is None:
                continue
            score = each[slot.block].score[slot.parameter]
            lead[:, rows] = r[:, slot.experts] * (score if above is None else score * above)
            if above is not None:
                at_floor += np.where(above, 0.0, r[:, slot.experts]).sum(axis=(1, 2))
        if curvature is Curvature.OBSERVED:
            weights = self._observed(chunk, each, r, lead)
        else:
            weights = self._complete(chunk, each, r, held[1])
        if chunk.gate is not None:
            lead[:, self._root] -= chunk.gate[1][:, self._root]
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

    def _held(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Responsibility (point, row, obs) of each gate row's branch, and of its split."""
        branching = self.coordinates.branching
        if branching is None or branching.is_single_softmax:
            return r, np.ones((1, 1, 1))
        return np.matmul(self._branch_of.T, r), np.matmul(self._split_of.T, r)

    def _observed(
        self, chunk: _Chunk, each: list[Derivatives], r: np.ndarray, lead: np.ndarray
    ) -> np.ndarray:
        """Weights (point, pair, obs) of minus the second derivatives.

        ``lead`` holds ``R`` for rows of the gate's root, and ``l`` for all others.
        """
        plan = self._plans[Curvature.OBSERVED]
        weights = np.empty((len(r), len(plan.first), r.shape[2]))
        for first, second, positions in plan.runs:
            np.multiply(lead[:, first], lead[:, second], out=weights[:, positions])
        if chunk.gate is not None:
            self._observed_gate(weights, chunk.gate[1], lead)
        for (a, b), pairs in self._diagonal_pairs.items():
            one, other = self.coordinates.slots[a], self.coordinates.slots[b]
            assert one.block is not None
            assert other.block is not None
            mine, theirs = self._common(one, other)
            score = each[other.block].score[other.parameter]
            if chunk.above[b] is not None:
                score = score * chunk.above[b]
            score = score[:, theirs] if score.shape[1] > len(theirs) else score
            weights[:, pairs] -= lead[:, self._stack[a][mine]] * score
            if one.block != other.block:
                continue
            second = r[:, one.experts] * each[one.block].second[one.parameter][other.parameter]
            for above in (chunk.above[a], chunk.above[b]):
                if above is not None:
                    second = second * above
            weights[:, pairs] -= second
        return weights

    def _observed_gate(self, weights: np.ndarray, g: np.ndarray, lead: np.ndarray) -> None:
        """Add what involves the gate; ``g`` (point, row, obs)."""
        links = self._links
        at, one, other = links.root
        weights[:, at] -= g[:, one] * g[:, other]
        at, row = links.root_own
        weights[:, at] -= lead[:, row] - g[:, row]
        at, one, other = links.split
        if at.size:
            weights[:, at] += lead[:, one] * g[:, other] + g[:, one] * lead[:, other]
        at, row = links.split_own
        if at.size:
            weights[:, at] -= lead[:, row]
        at, _, lower = links.under
        weights[:, at] -= lead[:, lower]
        at, upper, lower = links.beside
        if at.size:
            weights[:, at] += lead[:, lower] * g[:, upper]

    def _complete(
        self, chunk: _Chunk, each: list[Derivatives], r: np.ndarray, held: np.ndarray
    ) -> np.ndarray:
        """Weights (point, pair, obs) of the complete-data information.

        ``held`` is the responsibility of each gate row's split.
        """
        plan = self._plans[Curvature.COMPLETE]
        weights = np.empty((len(r), len(plan.first), r.shape[2]))
        if chunk.gate is not None:
            g = chunk.gate[1]
            full = held * g
            for first, second, positions in plan.runs:
                if second.stop <= self._gate_rows:
                    np.multiply(full[:, first], -g[:, second], out=weights[:, positions])
        for slot, above, rows, own in zip(
            self.coordinates.slots, chunk.above, self._stack, self._own_pairs, strict=True
        ):
            if slot.block is None:
                weights[:, own] += full[:, rows]
                continue
            working = r[:, slot.experts] * each[slot.block].expected_information[slot.parameter]
            weights[:, own] = working if above is None else working * above
        return weights

    # --- the gate's rows ----------------------------------------------------------------------

    @cached_property
    def _gate_rows(self) -> int:
        """Number of rows of the gate, which are the first."""
        return sum(len(s.experts) for s in self.coordinates.slots if s.block is None)

    @cached_property
    def _splits(self) -> tuple[Split, ...]:
        branching = self.coordinates.branching
        return () if branching is None else branching.splits

    @cached_property
    def _with_row(self) -> np.ndarray:
        """Which of all branches have a row: not the last ones of pinned splits."""
        branching = self.coordinates.branching
        assert branching is not None
        pairs = zip(branching.splits, branching.places, strict=True)
        kept = [
            np.arange(place.start, place.start + split.rows.stop - split.rows.start)
            for split, place in pairs
        ]
        return np.concatenate(kept)

    @cached_property
    def _branch_of(self) -> np.ndarray:
        """Whether an expert is below a row's branch (expert, row), as numbers."""
        branching = self.coordinates.branching
        assert branching is not None
        return branching.paths[:, self._with_row]

    @cached_property
    def _split_of(self) -> np.ndarray:
        """Whether an expert is below a row's split (expert, row), as numbers."""
        found = np.zeros((self.coordinates.spec.n_experts, self._gate_rows))
        for split in self._splits:
            found[list(split.below), split.rows] = 1.0
        return found

    @cached_property
    def _root(self) -> slice:
        """Rows of the gate's root."""
        return next(split.rows for split in self._splits if split.depth == 0)

    @cached_property
    def _deep(self) -> np.ndarray:
        """Rows of all other splits."""
        rows = np.arange(self._gate_rows)
        return rows if not self._splits else np.delete(rows, np.r_[self._root])

    @cached_property
    def _links(self) -> Links:
        """Pairs of a gate's row with another, by how they stand."""
        experts = {
            int(row): k
            for slot, rows in zip(self.coordinates.slots, self._stack, strict=True)
            if slot.block is not None
            for row, k in zip(rows, slot.experts, strict=True)
        }
        return links(self._plans[Curvature.OBSERVED], self._splits, self._gate_rows, experts)

    # --- pairs of predictors ------------------------------------------------------------------

    @cached_property
    def _own_pairs(self) -> list[np.ndarray]:
        """Positions of every slot's predictors paired with themselves, in the complete plan."""
        plan = self._plans[Curvature.COMPLETE]
        return [plan.pair(rows, rows) for rows in self._stack]

    @cached_property
    def _diagonal_pairs(self) -> dict[tuple[int, int], np.ndarray]:
        """Pairs of predictors of the same expert, by pair of slots that share experts."""
        slots, plan = self.coordinates.slots, self._plans[Curvature.OBSERVED]
        found = {}
        for a, one in enumerate(slots):
            for b, other in enumerate(slots[a:], start=a):
                if one.block is None:
                    continue
                mine, theirs = self._common(one, other)
                if mine.size:
                    found[a, b] = plan.pair(self._stack[a][mine], self._stack[b][theirs])
        return found

    @staticmethod
    def _common(one: ParameterBlock, other: ParameterBlock) -> tuple[np.ndarray, np.ndarray]:
        """Places of the experts that two slots share, in each."""
        places = {k: j for j, k in enumerate(other.experts)}
        shared = [(j, places[k]) for j, k in enumerate(one.experts) if k in places]
        found = np.array(shared, dtype=np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    @cached_property
    def _plans(self) -> dict[Curvature, Plan]:
        height = len(self._starts) - 1
        first, second = [], []
        for split in self._splits:
            i, j = np.triu_indices(split.rows.stop - split.rows.start)
            first.append(i + split.rows.start)
            second.append(j + split.rows.start)
        for slot, rows in zip(self.coordinates.slots, self._stack, strict=True):
            if slot.block is not None:
                first.append(rows)
                second.append(rows)
        return {
            Curvature.COMPLETE: self._plan(np.concatenate(first), np.concatenate(second)),
            Curvature.OBSERVED: self._plan(*np.triu_indices(height)),
        }

    def _plan(self, first: np.ndarray, second: np.ndarray) -> Plan:
        return Plan.of_pairs(first, second, self._tables, self._starts)

    # --- coordinates --------------------------------------------------------------------------

    def _free(self, full: np.ndarray) -> np.ndarray:
        """Take derivatives (point, full, ...) by internal coefficients to those by coordinates."""
        parts, at = [], 0
        for slot in self.coordinates.slots:
            width = len(slot.experts) * slot.terms
            if slot.basis is not None:
                own = full[:, at : at + width].reshape(len(full), len(slot.experts), -1)
                free = np.matmul(slot.basis, own)
                parts.append(free.reshape(len(full), -1, *full.shape[2:]))
            elif parts and slot.block is not None:
                break
            else:
                parts.append(full[:, at : at + width])
            at += width
        return np.concatenate([*parts, full[:, at:]], axis=1)


def _add(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _finite(value: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(value), value, -np.inf)
