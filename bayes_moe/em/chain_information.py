"""Observed information of rows whose experts are a Markov chain, exactly.

Minus the second derivatives of the log likelihood are the expectation, given all rows, of those of
the log density of rows and states, less the covariance of its gradient ``S`` (Louis 1982). The
latter is a sum over rows, ``S = sum_t s_t(z_t-1, z_t)``. Given all rows the states are a Markov
chain with moves ``q_t(k | j) = xi_jk / r_j``, so that with the expected sums of later scores

``W_t(j) = sum_k q_t(k | j) (s_t(j, k) + W_t+1(k))``

the differences ``d_t(j, k) = s_t(j, k) + W_t+1(k) - W_t(j)`` are uncorrelated in time, and

``Cov(S) = sum_t sum_jk xi_t,jk d_t(j, k) d_t(j, k)'``.

Since ``sum_k q_t(k | j) d_t(j, k) = 0``, with ``s_t(j, k) = e_t(k) + g_t(j, k)`` of a row's density
and of the gate, the sum over ``jk`` is ``sum_k r_k a_k a_k' - sum_j r_j W_j W_j'``, with ``a_k =
e_k + W_t+1(k)``, and products of ``g``, which has one split's coefficients, with ``a`` and ``g``.

The first row of a series has a state, and no move: there ``s`` is ``d log pi_k`` and the score of
the row. No derivative is found by differences, and the work is linear in the rows.

References
----------
Louis, T. A. (1982). Finding the observed information matrix when using the EM algorithm. Journal of
the Royal Statistical Society B, 44(2), 226-233.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from bayes_moe.em.chain_mixture import ChainTerms
from bayes_moe.em.cross_products import Features
from bayes_moe.em.information import ObservedInformation, PredictorStack, RowTerms
from bayes_moe.model.allocation import Allocation

ELEMENTS = 2**20
"""Elements of the largest array of some rows."""


class ChainInformation(ObservedInformation):
    """Observed information of rows whose experts are a Markov chain."""

    def __init__(self, stack: PredictorStack) -> None:
        self.stack = stack
        first: list[np.ndarray] = []
        second: list[np.ndarray] = []
        for split in stack.gate.splits:
            i, j = np.triu_indices(split.rows.stop - split.rows.start)
            first.append(i + split.rows.start)
            second.append(j + split.rows.start)
        for at, one in enumerate(stack.parts):
            for other in stack.parts[at:]:
                both = sorted({*one.members} & {*other.members})
                first.append(one.outputs[[one.members.index(k) for k in both]])
                second.append(other.outputs[[other.members.index(k) for k in both]])
        self.plan = stack.plan(np.concatenate(first), np.concatenate(second))
        self.same_expert = self._same_expert_pairs()
        moves = self.plan.second < stack.gate.size
        self._moves = np.flatnonzero(moves)
        self._staying = np.flatnonzero(moves & (self.plan.first == self.plan.second))

    def weights(self, terms: RowTerms) -> np.ndarray:
        """Weights of the information of rows and states, without that of first states.

        Those of the gate are less what products of its own scores have in the covariance.
        """
        assert isinstance(terms, ChainTerms)
        assert terms.gate is not None
        weights = np.zeros((len(terms.r), len(self.plan.first), terms.r.shape[2]))
        joint = terms.split * terms.gate
        joint[..., terms.starts] = 0.0
        first, second = self.plan.first[self._moves], self.plan.second[self._moves]
        gate, moves, same = terms.gate, terms.moves, self.plan.first[self._staying]
        weights[:, self._moves] = (moves[:, first] - joint[:, first]) * gate[:, second]
        weights[:, self._moves] += gate[:, first] * (moves[:, second] - joint[:, second])
        weights[:, self._staying] += joint[:, same] - moves[:, same]
        self.subtract_seconds(weights, terms)
        return weights

    def of_groups(
        self,
        terms: RowTerms,
        features: Features,
        where: slice,
        shared: Allocation,
        weights: np.ndarray | None,
    ) -> tuple[np.ndarray, ...]:
        """Information of first states, less the covariance of scores given all rows."""
        assert isinstance(terms, ChainTerms)
        sums = _ScoreSums(self.stack, terms, features)
        matrix = sums.first_information()
        later = np.zeros((len(terms.r), terms.r.shape[1], sums.size))
        for part in sums.parts():
            covariance, later = sums.covariance(part, later)
            matrix -= covariance
        return (matrix,)

    def matrix(self, sums: Sequence[np.ndarray], size: int) -> np.ndarray:
        *by_row, by_group = sums
        return super().matrix(by_row, size) + by_group


class _ScoreSums:
    """Scores of rows and states by coefficients, at some points."""

    def __init__(self, stack: PredictorStack, terms: ChainTerms, features: Features) -> None:
        self.stack, self.terms, self.features = stack, terms, features
        self.points, self.experts, self.rows = terms.r.shape
        self.size = len(stack.units)
        self.square = (self.experts, self.experts)

    def parts(self) -> Iterator[slice]:
        """Rows, some at a time, the last ones first."""
        step = max(1, ELEMENTS // (self.points * self.experts * self.size))
        for stop in range(self.rows, 0, -step):
            yield slice(max(0, stop - step), stop)

    def first_information(self) -> np.ndarray:
        """Minus the expected second derivatives (point, size, size) of first states."""
        terms, stack = self.terms, self.stack
        by_output = terms.initial.information(np.moveaxis(terms.r[..., terms.starts], -1, 1))
        matrix = np.zeros((self.points, self.size, self.size))
        gate = range(stack.gate.size)
        x = [self._features(o, terms.starts) for o in gate]
        for one, other in product(gate, gate):
            found = np.einsum("bs,us,vs->buv", by_output[:, :, one, other], x[one], x[other])
            matrix[:, self._coefs(one), self._coefs(other)] = found
        return matrix

    def covariance(self, part: slice, later: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Terms (point, size, size) of rows in the covariance of all scores, and their sums.

        ``later`` (point, expert, size) are expected sums of the scores after these rows, given the
        state of the last; returned are those of these rows and all after, given the state before.
        """
        of_state, chance = self._of_states(part), self._chances(part)
        sums = self._expected(part, of_state, chance, later)
        after = np.concatenate([sums[:, 1:], later[:, None]], axis=1)
        reached, first = of_state + after, sums[:, 0].copy()
        moves, gate = self._by_state(self.terms.moves, part), self._by_state(self.terms.gate, part)
        before, here = moves.sum(axis=3), moves.sum(axis=2)
        starts = self.terms.starts
        at = np.flatnonzero((starts >= part.start) & (starts < part.stop))
        covariance = np.zeros((self.points, self.size, self.size))
        if at.size:
            covariance += self._of_first(at, reached[:, starts[at] - part.start])
        mean = (before[..., None] * sums).sum(axis=2, keepdims=True)  # sums may be large
        sums -= mean
        reached -= mean
        covariance += _products(reached, here) - _products(sums, before)
        joint = np.matmul(moves, reached)
        for j, k in product(range(self.experts), range(self.experts)):
            x = self._features(j * self.experts + k, part)
            one = np.matmul(moves[:, None, :, j, k] * x, reached[:, :, k])
            both = one - np.matmul(gate[:, None, :, j, k] * x, joint[:, :, j])
            where = self._coefs(j * self.experts + k)
            covariance[:, where] += both
            covariance[:, :, where] += np.swapaxes(both, 1, 2)
        return covariance, first

    def _of_first(self, here: np.ndarray, reached: np.ndarray) -> np.ndarray:
        """Terms (point, size, size) of first rows; ``reached`` (point, series, expert, size)."""
        terms = self.terms
        at = terms.starts[here]
        reached = reached.copy()
        for output in range(self.stack.gate.size):
            x = self._features(output, at).T
            scores = terms.initial.scores[:, here, output]  # (point, series, state)
            reached[..., self._coefs(output)] += scores[..., None] * x[:, None]
        share = np.moveaxis(terms.r[..., at], -1, 1)[..., None]
        away = np.sqrt(share) * (reached - (share * reached).sum(axis=2, keepdims=True))
        flat = away.reshape(self.points, -1, self.size)
        return np.matmul(np.swapaxes(flat, 1, 2), flat)

    def _of_states(self, part: slice) -> np.ndarray:
        """Scores (point, obs, expert, size) of rows by the coefficients of each expert."""
        scores = np.zeros((self.points, part.stop - part.start, self.experts, self.size))
        for one in self.stack.parts:
            above = self.terms.above[one.block]
            found = self.terms.factors[one.factor].score[one.slot]
            found = found if above is None else found * above
            shape = (self.points, len(one.members), self.rows)
            found = np.broadcast_to(found, shape)[..., part]
            for j, (output, expert) in enumerate(zip(one.outputs, one.members, strict=True)):
                x = self._features(output, part).T
                scores[:, :, expert, self._coefs(output)] = found[:, j, :, None] * x
        return scores

    def _chances(self, part: slice) -> np.ndarray:
        """Probabilities (point, obs, from, to) of moves, given the state before and all rows."""
        moves = self._by_state(self.terms.moves, part)
        total = moves.sum(axis=-1, keepdims=True)
        return np.where(total > 0.0, moves / np.where(total > 0.0, total, 1.0), 0.0)

    def _expected(
        self, part: slice, of_state: np.ndarray, chance: np.ndarray, later: np.ndarray
    ) -> np.ndarray:
        """Expected sums (point, obs, expert, size) of scores, given the state before each row."""
        from bayes_moe.kernels import chain_points

        own = np.matmul(chance, of_state)
        gate = self._by_state(self.terms.gate, part)
        begins = np.isin(np.arange(part.start, part.stop), self.terms.starts)
        away = np.where(begins[:, None, None], 0.0, chance - gate)
        for j, k in product(range(self.experts), range(self.experts)):
            output = j * self.experts + k
            x = self._features(output, part).T
            own[:, :, j, self._coefs(output)] += away[:, :, j, k, None] * x
        sizes = np.array([self.points, len(begins), self.experts, self.size], dtype=np.int64)
        arrays = (sizes, np.ascontiguousarray(later), own, np.ascontiguousarray(chance))
        chain_points.expected_sums()(*(a.ctypes.data for a in arrays))
        return own

    def _by_state(self, values: np.ndarray | None, part: slice) -> np.ndarray:
        """Values (point, obs, from, to) of rows from those (point, from * to, obs) of outputs."""
        assert values is not None
        found = np.moveaxis(values[..., part], -1, 1)
        return found.reshape(self.points, -1, *self.square)

    def _features(self, output: int, where: slice | np.ndarray) -> np.ndarray:
        """Features (term, obs) of an output on rows, or (term, 1) of a constant."""
        table = self.features.take(self.stack.tables[output], slice(None))
        return table if table.shape[1] == 1 else table[:, where]

    def _coefs(self, output: int) -> slice:
        """Positions of the coefficients of an output."""
        return slice(int(self.stack.starts[output]), int(self.stack.starts[output + 1]))


def _products(sums: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Products (point, size, size) of sums (point, obs, expert, size), by shares of experts."""
    flat = (sums * np.sqrt(shares)[..., None]).reshape(len(sums), -1, sums.shape[-1])
    return np.matmul(np.swapaxes(flat, 1, 2), flat)
