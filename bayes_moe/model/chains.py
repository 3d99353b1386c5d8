"""Chains of experts along all series of some rows: filters and smoothers of many points.

Arrays are (point, ..., obs) as everywhere: outputs of the gate (point, from * to, obs), log
densities (point, expert, obs). Small work is done in NumPy (:mod:`bayes_moe.model.markov_chain`),
large work by compiled loops (:mod:`bayes_moe.kernels.markov`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.sequences import Sequences
from bayes_moe.gates.transitions import Transitions
from bayes_moe.model import markov_chain


@dataclass(frozen=True)
class Filters:
    """Filters of all series.

    Attributes
    ----------
    log_density : array (point, obs)
        ``log p(y_t | y_1, ..., y_{t-1})``.
    log_predicted : array (point, expert, obs)
        ``log P(z_t = k | y_1, ..., y_{t-1})``.
    log_future : array (point, expert, obs)
        What the rows after each one say of its expert: smoothed probabilities are proportional to
        ``exp(log_predicted + log_f + log_future)``.
    log_last : array (point, series, expert)
        Log filtered probabilities of the last row of each series.
    """

    log_density: np.ndarray
    log_predicted: np.ndarray
    log_future: np.ndarray
    log_last: np.ndarray


@dataclass(frozen=True)
class Smoothers:
    """Smoothed probabilities of all series.

    Attributes
    ----------
    log_density : array (point, obs)
        ``log p(y_t | y_1, ..., y_{t-1})``.
    shares : array (point, expert, obs)
        ``P(z_t = k | y_1, ..., y_n)``: the derivative of the log likelihood by ``log_f``.
    moves : array (point, from * to, obs)
        ``P(z_{t-1} = j, z_t = k | y_1, ..., y_n)``, zero at first rows.
    slopes : array (point, from * to, obs)
        Derivative of the log likelihood by the outputs of the gate.
    """

    log_density: np.ndarray
    shares: np.ndarray
    moves: np.ndarray
    slopes: np.ndarray


def filters(
    chain: Transitions,
    eta: np.ndarray,
    log_densities: np.ndarray,
    sequences: Sequences,
    before: np.ndarray | None = None,
    *,
    compiled: bool = False,
) -> Filters:
    """Filter all series.

    ``before`` (point, series, expert) are probabilities of the expert of the row before the first
    of each series, NaN where there is none.
    """
    arrays = _Arrays.of(chain, eta, log_densities, sequences, before)
    return arrays.compiled_filters() if compiled else arrays.filters()


def smoothers(
    chain: Transitions,
    eta: np.ndarray,
    log_densities: np.ndarray,
    sequences: Sequences,
) -> Smoothers:
    """Smooth all series, with the derivatives of the log likelihood, in NumPy."""
    return _Arrays.of(chain, eta, log_densities, sequences, None).smoothers()


@dataclass(frozen=True)
class _Arrays:
    """Arrays of all points, of full shape."""

    chain: Transitions
    eta: np.ndarray
    log_f: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    before: np.ndarray

    @classmethod
    def of(
        cls,
        chain: Transitions,
        eta: np.ndarray,
        log_densities: np.ndarray,
        sequences: Sequences,
        before: np.ndarray | None,
    ) -> _Arrays:
        points, rows = max(len(eta), len(log_densities)), len(sequences.code)
        experts, series = chain.n_experts, len(sequences.starts)
        order = np.arange(rows) if sequences.order is None else sequences.order
        if before is None:
            before = np.full((points, series, experts), np.nan)
        return cls(
            chain,
            _whole(eta, (points, chain.outputs, rows)),
            _whole(log_densities, (points, experts, rows)),
            np.ascontiguousarray(order, dtype=np.int64),
            np.ascontiguousarray(sequences.starts, dtype=np.int64),
            _whole(before, (points, series, experts)),
        )

    @property
    def sizes(self) -> np.ndarray:
        """Points, experts, rows and series."""
        return np.array([*self.log_f.shape, len(self.starts)])

    def series(self) -> Any:
        """Positions of the rows of each series."""
        return np.split(self.order, self.starts[1:])

    def log_transitions(self) -> np.ndarray:
        """Log probabilities (point, from, to, obs) of moves."""
        found: np.ndarray = self.chain.log_transitions(self.eta, NUMERIC)
        return found

    def begin(self, q: int, log_moves: np.ndarray) -> np.ndarray:
        """Log probabilities (point, expert) of the expert of the first row of a series."""
        at_first = log_moves[..., 0, :, :]
        first = markov_chain.log_initial(self.chain.initial, at_first)
        with np.errstate(divide="ignore", invalid="ignore"):
            on = np.log(self.before[:, q])
            going_on = NUMERIC.logsumexp(on[..., None] + at_first, axis=-2)
        return np.where(np.isnan(self.before[:, q]), first, going_on)

    def filters(self) -> Filters:
        points, _, rows = self.log_f.shape
        log_density = np.empty((points, rows))
        predicted, future = np.empty_like(self.log_f), np.empty_like(self.log_f)
        last = np.empty_like(self.before)
        moves = self.log_transitions()
        for q, at in enumerate(self.series()):
            log_moves, log_f = _by_time(moves[..., at]), np.swapaxes(self.log_f[..., at], -1, -2)
            found = markov_chain.filtered(self.begin(q, log_moves), log_moves, log_f)
            log_density[:, at] = found.log_likelihood
            predicted[..., at] = np.swapaxes(found.log_predicted, -1, -2)
            future[..., at] = np.swapaxes(markov_chain.log_futures(found, log_moves), -1, -2)
            last[:, q] = found.log_filtered[:, -1]
        return Filters(log_density, predicted, future, last)

    def smoothers(self) -> Smoothers:
        points, _, rows = self.log_f.shape
        log_density, shares = np.empty((points, rows)), np.empty_like(self.log_f)
        pairs, slopes = np.zeros_like(self.eta), np.zeros_like(self.eta)
        moves = self.log_transitions()
        for q, at in enumerate(self.series()):
            log_moves, log_f = _by_time(moves[..., at]), np.swapaxes(self.log_f[..., at], -1, -2)
            found = markov_chain.filtered(self.begin(q, log_moves), log_moves, log_f)
            smoothed = markov_chain.smoothed(found, log_moves)
            xi = markov_chain.pairs(found, log_moves)
            by_outputs = markov_chain.likelihood_slopes(
                self.chain.initial, np.exp(log_moves), xi, smoothed[..., 0, :]
            )
            log_density[:, at] = found.log_likelihood
            shares[..., at] = np.swapaxes(smoothed, -1, -2)
            for to, values in ((pairs, xi), (slopes, by_outputs)):
                to[..., at] = np.swapaxes(values.reshape(points, len(at), -1), -1, -2)
        return Smoothers(log_density, shares, pairs, slopes)

    def compiled_filters(self) -> Filters:
        from bayes_moe.kernels import markov

        points, _, rows = self.log_f.shape
        found = Filters(
            np.empty((points, rows)),
            np.empty_like(self.log_f),
            np.empty_like(self.log_f),
            np.empty_like(self.before),
        )
        self._call(
            markov.filters(),
            found.log_density,
            found.log_predicted,
            found.log_future,
            found.log_last,
        )
        return found

    def _call(self, function: Any, *written: np.ndarray) -> None:
        """Call a C function on the addresses of what it reads and writes."""
        settings = np.array([self.chain.sticky, float(self.chain.initial == "equal")])
        read = (self.eta, self.log_f, self.before, settings, self.order, self.starts)
        addresses = [np.array([a.ctypes.data for a in arrays]) for arrays in (read, written)]
        sizes = self.sizes
        function(*(a.ctypes.data for a in (*addresses, sizes)))


def _whole(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(values, shape), dtype=float)


def _by_time(log_moves: np.ndarray) -> np.ndarray:
    """Log transitions (..., time, from, to) from (..., from, to, obs)."""
    return np.moveaxis(log_moves, -1, -3)


def random_paths(
    chain: Transitions,
    eta: np.ndarray,
    sequences: Sequences,
    before: np.ndarray,
    uniform: np.ndarray,
) -> np.ndarray:
    """Experts (point, obs) drawn along the chain, from uniform numbers (point, obs)."""
    arrays = _Arrays.of(chain, eta, np.zeros((len(eta), 1, 1)), sequences, before)
    moves, points = arrays.log_transitions(), np.arange(len(eta))
    paths = np.empty(uniform.shape, dtype=np.int64)
    for q, at in enumerate(arrays.series()):
        shares = np.exp(arrays.begin(q, _by_time(moves[..., at[:1]])))
        for p, i in enumerate(at):
            if p:
                shares = np.exp(moves[points, paths[:, at[p - 1]], :, i])
            paths[:, i] = markov_chain.drawn(shares, uniform[:, i])
    return paths
