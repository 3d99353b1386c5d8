"""Hidden Markov chain of experts: filter, smoother, pairs, most probable and sampled paths.

The chain ``z`` of a series has ``P(z_t = k | z_{t-1} = j) = P_t(j, k)`` and ``y_t | z_t = k`` the
log density ``log f_k(y_t)``. Arrays of one series are

* ``log_initial`` (..., expert): log probabilities of the first row's expert;
* ``log_transitions`` (..., time, from, to): entry ``t`` is the move from row ``t - 1`` to row
  ``t``; entry 0 is not a move, and is read for its stationary distribution only;
* ``log_densities`` (..., time, expert): 0 for all experts at a row without a response.

They may be views; leading axes broadcast. :mod:`bayes_moe.kernels.markov` computes the same in
compiled loops.

Sources: Hamilton, J. D. (1989), Econometrica, 57(2), 357-384 (filter); Kim, C.-J. (1994), Journal
of Econometrics, 60(1-2), 1-22 (smoother); Grassmann, W. K., Taksar, M. I., & Heyman, D. P. (1985),
Operations Research, 33(5), 1107-1116 (stationary distribution); Viterbi, A. (1967), IEEE
Transactions on Information Theory, 13(2), 260-269.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core.arrays import NUMERIC

TINY = 1e-300
"""Least probability that a probability is divided by."""


def stationary(transitions: np.ndarray) -> np.ndarray:
    """Stationary distribution (..., expert) of transition matrices (..., from, to).

    Without subtractions, so that each probability has a small relative error.
    """
    reduced = np.array(transitions, dtype=float)
    experts = reduced.shape[-1]
    for n in range(experts - 1, 0, -1):
        leaving = np.maximum(reduced[..., n, :n].sum(axis=-1), TINY)
        reduced[..., :n, n] /= leaving[..., None]
        reduced[..., :n, :n] += reduced[..., :n, n, None] * reduced[..., n, None, :n]
    shares = np.ones(reduced.shape[:-1])
    for n in range(1, experts):
        shares[..., n] = (shares[..., :n] * reduced[..., :n, n]).sum(axis=-1)
    return shares / shares.sum(axis=-1, keepdims=True)


def stationary_slopes(transitions: np.ndarray, by_shares: np.ndarray) -> np.ndarray:
    """Derivatives (..., from, to) by the outputs of softmaxes, through the stationary distribution.

    ``by_shares`` (..., expert) are the derivatives by the stationary distribution ``pi`` of
    ``transitions`` (..., from, to), ``P = softmax(eta)`` of each ``from``. With
    ``(I - P + 1 pi') v = by_shares`` the derivative by ``P_jk`` is ``pi_j v_k``.
    """
    shares = stationary(transitions)
    experts = shares.shape[-1]
    matrix = np.eye(experts) - transitions + shares[..., None, :]
    v = np.linalg.solve(matrix, by_shares[..., None])[..., 0]
    mean = (transitions * v[..., None, :]).sum(axis=-1, keepdims=True)
    slopes: np.ndarray = shares[..., None] * transitions * (v[..., None, :] - mean)
    return slopes


def log_initial(initial: str, log_transitions: np.ndarray) -> np.ndarray:
    """Log probabilities (..., expert) of a series' first row, from its matrix (..., from, to)."""
    if initial == "equal":
        experts = log_transitions.shape[-1]
        return np.full(log_transitions.shape[:-1], -np.log(experts))
    shares = stationary(np.exp(log_transitions))
    return np.log(np.maximum(shares, TINY))


@dataclass(frozen=True)
class Filtered:
    """What the rows up to each one say of its expert.

    Attributes
    ----------
    log_likelihood : array (..., time)
        ``log p(y_t | y_1, ..., y_{t-1})``.
    log_predicted, log_filtered : array (..., time, expert)
        ``log P(z_t = k | y_1, ..., y_{t-1})``, and the same given ``y_t`` too.
    """

    log_likelihood: np.ndarray
    log_predicted: np.ndarray
    log_filtered: np.ndarray


def filtered(
    log_initial: np.ndarray, log_transitions: np.ndarray, log_densities: np.ndarray
) -> Filtered:
    """Hamilton's filter of one series."""
    shape = np.broadcast_shapes(
        (*log_initial.shape[:-1], *log_densities.shape[-2:]),
        (*log_transitions.shape[:-3], *log_densities.shape[-2:]),
        log_densities.shape,
    )
    log_density, predicted, updated = np.empty(shape[:-1]), np.empty(shape), np.empty(shape)
    for t in range(shape[-2]):
        if t == 0:
            predicted[..., t, :] = log_initial
        else:
            moves = updated[..., t - 1, :, None] + log_transitions[..., t, :, :]
            predicted[..., t, :] = NUMERIC.logsumexp(moves, axis=-2)
        joint = predicted[..., t, :] + log_densities[..., t, :]
        total = NUMERIC.logsumexp(joint, axis=-1, keepdims=True)
        log_density[..., t] = total[..., 0]
        # No expert can have the row: its density is zero, and the chain goes on as predicted.
        updated[..., t, :] = np.where(np.isfinite(total), joint - total, predicted[..., t, :])
    return Filtered(log_density, predicted, updated)


def log_futures(found: Filtered, log_transitions: np.ndarray) -> np.ndarray:
    """``log p(y_{t+1}, ..., y_n | z_t = k) - log p(y_{t+1}, ..., y_n | y_1, ..., y_t)``.

    An array (..., time, expert), zero at the last row: what the rows after say of each one's
    expert. With it, smoothed probabilities are the filtered ones times ``exp(log_futures)``.
    """
    future = np.zeros_like(found.log_filtered)
    for t in range(future.shape[-2] - 2, -1, -1):
        # Smoothed over predicted, of the row after.
        ratio = (
            found.log_filtered[..., t + 1, :]
            - found.log_predicted[..., t + 1, :]
            + future[..., t + 1, :]
        )
        ratio = np.where(np.isnan(ratio), -np.inf, ratio)
        moves = log_transitions[..., t + 1, :, :] + ratio[..., None, :]
        future[..., t, :] = NUMERIC.logsumexp(moves, axis=-1)
    return future


def smoothed(found: Filtered, log_transitions: np.ndarray) -> np.ndarray:
    """``P(z_t = k | y_1, ..., y_n)`` (..., time, expert)."""
    shares: np.ndarray = np.exp(found.log_filtered + log_futures(found, log_transitions))
    return shares


def pairs(found: Filtered, log_transitions: np.ndarray) -> np.ndarray:
    """``P(z_{t-1} = j, z_t = k | y_1, ..., y_n)`` (..., time, from, to); zeros at the first row."""
    future = log_futures(found, log_transitions)
    shape = np.broadcast_shapes(log_transitions.shape, (*future.shape, 1))
    xi = np.zeros(shape)
    ratio = found.log_filtered - found.log_predicted + future
    ratio = np.where(np.isnan(ratio), -np.inf, ratio)
    xi[..., 1:, :, :] = np.exp(
        found.log_filtered[..., :-1, :, None]
        + log_transitions[..., 1:, :, :]
        + ratio[..., 1:, None, :]
    )
    return xi


def likelihood_slopes(
    initial: str, transitions: np.ndarray, xi: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """Derivatives (..., time, from, to) of a series' log likelihood by the outputs of the gate.

    From transition probabilities and :func:`pairs` (..., time, from, to), and the smoothed
    probabilities (..., expert) of the first row's expert. The derivatives at the first row come
    through the stationary distribution.
    """
    slopes = xi - transitions * xi.sum(axis=-1, keepdims=True)
    if initial == "stationary":
        shares = np.maximum(stationary(transitions[..., 0, :, :]), TINY)
        slopes[..., 0, :, :] = stationary_slopes(transitions[..., 0, :, :], first / shares)
    return slopes


def most_probable(
    log_initial: np.ndarray, log_transitions: np.ndarray, log_densities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Most probable path (..., time) of experts given all rows, and its log joint density (...).

    Of equally probable paths that of the lower experts (Viterbi).
    """
    n = log_densities.shape[-2]
    best = log_initial + log_densities[..., 0, :]
    came = []
    for t in range(1, n):
        moves = best[..., :, None] + log_transitions[..., t, :, :]
        came.append(moves.argmax(axis=-2))
        best = moves.max(axis=-2) + log_densities[..., t, :]
    path = np.empty((*best.shape[:-1], n), dtype=np.int64)
    path[..., -1] = best.argmax(axis=-1)
    for t in range(n - 2, -1, -1):
        path[..., t] = np.take_along_axis(came[t], path[..., t + 1, None], axis=-1)[..., 0]
    return path, best.max(axis=-1)


def random_path(
    found: Filtered, log_transitions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paths (..., time) of experts drawn from their distribution given all rows."""
    shape = found.log_filtered.shape
    uniform = rng.random(shape[:-1])
    path = np.empty(shape[:-1], dtype=np.int64)
    path[..., -1] = drawn(np.exp(found.log_filtered[..., -1, :]), uniform[..., -1])
    for t in range(shape[-2] - 2, -1, -1):
        log_moves = np.broadcast_to(
            log_transitions[..., t + 1, :, :], (*shape[:-2], shape[-1], shape[-1])
        )
        to = np.take_along_axis(log_moves, path[..., t + 1, None, None], axis=-1)[..., 0]
        joint = found.log_filtered[..., t, :] + to
        joint = joint - joint.max(axis=-1, keepdims=True)
        path[..., t] = drawn(np.exp(joint), uniform[..., t])
    return path


def drawn(shares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Experts (...) with probabilities in proportion to shares (..., expert)."""
    cumulative = np.cumsum(shares, axis=-1)
    below = uniform[..., None] * cumulative[..., -1:] >= cumulative
    return np.minimum(below.sum(axis=-1), shares.shape[-1] - 1)


def most_probable_by_pairs(xi: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Most probable path (time,) of a chain with given probabilities of pairs.

    ``xi`` (time, from, to) are those of :func:`pairs` and ``shares`` (time, expert) smoothed
    probabilities. Given all rows, the path of experts is a Markov chain with these, so that of one
    draw it is the path of :func:`most_probable`.
    """
    with np.errstate(divide="ignore"):
        log_first, log_xi = np.log(shares[0]), np.log(xi)
        log_from = np.log(np.maximum(xi.sum(axis=-1, keepdims=True), TINY))
    return most_probable(log_first, log_xi - log_from, np.zeros_like(shares))[0]
