"""Series whose experts are a Markov chain, and likelihoods of chains by sums over all paths."""

import itertools

import numpy as np
import pandas as pd
from scipy.special import logsumexp, softmax

STAYS = 2.0
"""``sticky`` of the models of :func:`regimes`."""


def log_steady(log_moves):
    """Log stationary distribution of log transitions (from, to), by linear equations."""
    experts = len(log_moves)
    equations = np.vstack([np.eye(experts) - np.exp(log_moves).T, np.ones(experts)])
    steady = np.linalg.lstsq(equations, np.append(np.zeros(experts), 1.0), rcond=None)[0]
    return np.log(steady)


def rows_of(series):
    """Positions of the rows of each series."""
    return [np.flatnonzero(series == code) for code in np.unique(series)]


def by_paths(densities, logits, stationary):
    """Log likelihood of one series by a sum over all paths.

    Log densities are (time, expert), logits of the moves into each row (time, from, to).
    """
    rows, experts = densities.shape
    moves = logits - logsumexp(logits, axis=-1, keepdims=True)
    first = log_steady(moves[0]) if stationary else np.full(experts, -np.log(experts))
    terms = []
    for path in itertools.product(range(experts), repeat=rows):
        steps = sum(moves[t, path[t - 1], path[t]] for t in range(1, rows))
        terms.append(first[path[0]] + steps + densities[range(rows), path].sum())
    return logsumexp(terms)


def by_filter(densities, logits, series, stationary):
    """Log densities (obs,) of rows given those before, and predicted ones (obs, expert).

    Log densities are (obs, expert), logits (obs, from, to), and series are codes (obs,).
    """
    moves = logits - logsumexp(logits, axis=-1, keepdims=True)
    value, predicted, last = np.empty(len(densities)), np.empty(densities.shape), {}
    for t, code in enumerate(series):
        if code in last:
            predicted[t] = logsumexp(last[code][:, None] + moves[t], axis=0)
        else:
            experts = densities.shape[1]
            equal = np.full(experts, -np.log(experts))
            predicted[t] = log_steady(moves[t]) if stationary else equal
        joint = predicted[t] + densities[t]
        value[t] = logsumexp(joint)
        last[code] = joint - value[t]
    return value, predicted


def slopes(function, at, step=1e-5):
    """Derivatives of a function of an array by central differences."""
    found = np.empty(at.shape)
    for place in np.ndindex(at.shape):
        moved = np.zeros(at.shape)
        moved[place] = step
        found[place] = (function(at + moved) - function(at - moved)) / (2 * step)
    return found


def regimes(rows, seed, *, driven=0.0, coefs=((-1.0, 0.5), (1.5, -0.5)), sds=(0.5, 0.8)):
    """A series of two regimes: ``y`` is linear in ``x``, and ``z`` drives the moves.

    The log odds of moving away are ``-2``, the default of a Markov gate where coefficients are
    zero, plus ``driven * z`` where they lead to the second regime and minus it from there.
    """
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((2, rows))
    regime = np.zeros(rows, dtype=int)
    for t in range(rows):
        logits = STAYS * np.eye(2) + np.array([-0.5, 0.5]) * driven * z[t]
        chance = softmax(logits, axis=1)
        first = np.exp(log_steady(np.log(chance)))
        now = first if t == 0 else chance[regime[t - 1]]
        regime[t] = rng.random() < now[1]
    slopes_of = np.asarray(coefs)[regime]
    y = slopes_of[:, 0] + slopes_of[:, 1] * x + np.asarray(sds)[regime] * rng.standard_normal(rows)
    return pd.DataFrame({"t": np.arange(rows), "x": x, "z": z, "y": y, "regime": regime})
