"""The mixture of many points on rows whose experts are a Markov chain, and its derivatives.

With ``r_k`` the probability, given all rows of a series, that a row has expert ``k``, ``xi_jk``
that of a move from ``j`` at the row before to ``k``, and ``P_jk`` the gate's probability of the
move, the gradient of the log likelihood by outputs of the gate is ``xi_jk - xi_j. P_jk``, and by
parameter ``a`` of expert ``k`` it is ``r_k s_ka``: each expert that a move comes from is a split of
its own, with ``xi`` in the place of the responsibilities of branches. At the first row of a series
it is ``sum_k r_k d log pi_k``, with ``pi`` the distribution of the first state.

Probabilities given all rows need whole series, so that there is one chunk of all rows. With a fixed
allocation, as at a start, moves have the products of the allocations of two rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Rows
from bayes_moe.data.sequences import Sequences
from bayes_moe.em.information import RowTerms
from bayes_moe.em.initial_states import InitialStates
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.row_mixture import Chunk, RowMixture
from bayes_moe.families import Derivatives
from bayes_moe.model.likelihood import concatenated


def has_chain(vector: ParameterVector) -> bool:
    """Whether the experts of a model are a Markov chain."""
    return vector.spec.structure.gate.chain is not None


def in_series_order(rows: Rows) -> tuple[Rows, np.ndarray | None]:
    """Rows one series after the other, and their positions; None where they are so already."""
    order = Sequences.of(rows.observation.series, rows.size).order
    return (rows, None) if order is None else (rows.pick(order), order)


@dataclass(frozen=True)
class ChainChunk(Chunk):
    """The mixture of some points on all rows, which are a chain.

    ``moves`` (point, from * to, obs) are the probabilities given all rows of moves to each row.
    """

    moves: np.ndarray | None = None
    initial: InitialStates | None = None


@dataclass(frozen=True)
class ChainTerms(RowTerms):
    """Derivatives of the log density of a chain of rows.

    Attributes
    ----------
    moves : array (point, from * to, obs)
        Probabilities given all rows of the moves to each row.
    initial : InitialStates
        Distributions of first states.
    starts : array (series,)
        First rows of series.
    """

    moves: np.ndarray
    initial: InitialStates
    starts: np.ndarray


class ChainMixture(RowMixture):
    """The mixture of a model with a Markov gate, on whole series in the order of time.

    Parameters
    ----------
    vector, rows
        As for :class:`RowMixture`; rows one series after the other.
    """

    def __init__(self, vector: ParameterVector, rows: Rows) -> None:
        super().__init__(vector, rows)
        chain = vector.spec.structure.gate.chain
        assert chain is not None
        self.transitions, self.n_rows = chain, rows.size
        scaling = self.blocks[0].scaling
        constant = scaling is not None and scaling.matrix.terms == (INTERCEPT,)
        self._homogeneous = constant and self.offsets[0] is None
        self.starts = Sequences.of(rows.observation.series, rows.size).starts

    def of_predictors(self, eta: list[np.ndarray], where: slice) -> ChainChunk:
        rows = self.n_rows
        gate = self._moves(eta[0])
        etas, above, narrow = self._predictors(eta)
        data = tuple(of_rows.at(where) for of_rows in self.data)
        densities = [
            experts.family.log_density_at(of_rows, own, NUMERIC)
            for experts, of_rows, own in zip(self.experts, data, etas, strict=True)
        ]
        first = np.moveaxis(gate[..., self.starts], -1, 1)
        initial = InitialStates(first, self.transitions.initial == "stationary")
        shared, branches = self._sharing(where), gate.reshape(len(gate), -1, rows)
        log_densities = shared.possible(concatenated(densities, NUMERIC))
        value, r, moves = states(initial.probabilities, branches, log_densities, self.starts)
        return ChainChunk(
            where, branches, data, etas, above, narrow, r, value, None, shared,
            moves=moves, initial=initial,
        )  # fmt: skip

    def _moves(self, eta: np.ndarray) -> np.ndarray:
        """Probabilities (point, from, to, obs) of moves, from outputs of the gate."""
        same = eta[..., :1] if self._homogeneous else eta
        square, stay = (self.n_experts,) * 2, self.transitions.sticky * np.eye(self.n_experts)
        moves = same.reshape(len(eta), *square, -1) + stay[..., None]
        moves -= moves.max(axis=2, keepdims=True)
        np.exp(moves, out=moves)
        moves /= moves.sum(axis=2, keepdims=True)
        return np.ascontiguousarray(np.broadcast_to(moves, (len(eta), *square, self.n_rows)))

    def _terms(
        self, chunk: Chunk, factors: list[Derivatives], r: np.ndarray
    ) -> tuple[RowTerms, np.ndarray, np.ndarray]:
        assert isinstance(chunk, ChainChunk)
        initial, moves, size = chunk.initial, chunk.moves, self.stack.gate.size
        assert chunk.gate is not None
        assert initial is not None
        assert moves is not None
        before = np.empty_like(r)
        before[..., 1:] = r[..., :-1]
        # As if each series had a row before, with the stationary distribution.
        before[..., self.starts] = np.swapaxes(initial.probabilities, 1, 2)
        split = np.repeat(before, self.n_experts, axis=1)
        if r is not chunk.r:
            moves = (before[:, :, None] * r[:, None]).reshape(split.shape)
        scores, at_floor, narrow = self._scores(chunk, factors, r)
        scores[:, :size] = moves - split * chunk.gate
        of_first = np.einsum("bsok,bks->bos", initial.scores, r[..., self.starts])
        scores[:, :size, self.starts] = of_first
        terms = ChainTerms(
            r, scores, split, chunk.gate, factors, chunk.above, moves, initial, self.starts
        )
        return terms, at_floor, narrow


def states(
    initial: np.ndarray, moves: np.ndarray, log_densities: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log densities of rows, and probabilities given all rows of states and of moves.

    Parameters
    ----------
    initial : array (point, series, expert)
        Probabilities of first states.
    moves : array (point, from * to, obs)
        Probabilities of moves.
    log_densities : array (point, expert, obs)
        Of rows under each expert.
    starts : array (series,)
        First rows of series.

    Returns
    -------
    tuple of array
        Log densities (point, obs) given the rows before, and probabilities (point, expert, obs) and
        (point, from * to, obs), the latter zero at first rows.
    """
    from bayes_moe.kernels import chain_points  # numba is imported where it is used

    points, _, rows = moves.shape
    experts = initial.shape[-1]
    densities = np.empty((points, experts, rows))
    densities[:] = log_densities
    initial, moves = np.ascontiguousarray(initial), np.ascontiguousarray(moves)
    value, r, pairs = np.empty((points, rows)), np.empty_like(densities), np.empty_like(moves)
    layout = np.array([points, experts, rows, len(starts), *starts], dtype=np.int64)
    arrays = (layout, initial, moves, densities, value, r, pairs)
    chain_points.states()(*(a.ctypes.data for a in arrays))
    return value, r, pairs
