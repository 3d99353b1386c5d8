"""Learned spreads of shrinkage priors, by their marginal mode.

The joint mode of coefficients and of the spreads of their prior is no estimate: it lies where all
spreads are zero, or nowhere. So the spreads are put at the mode of their own posterior, with the
coefficients integrated out by Laplace's method, and the coefficients at their mode given these. EM
finds it, with the coefficients missing: given their normal approximation, the spreads maximise the
expected log density ``-log s_j - E[c_j^2] / (2 s_j^2)`` of each coefficient and their own log prior
(that of their logarithms, as a sampler sees it).

References
----------
MacKay, D. J. C. (1992). Bayesian interpolation. Neural Computation, 4(3), 415-447.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bayes_moe import names
from bayes_moe.arrays import NUMERIC
from bayes_moe.ascent import ascend
from bayes_moe.coordinates import Coordinates, Slot, coordinates
from bayes_moe.densities import log_density_of_log
from bayes_moe.objective import Objective
from bayes_moe.optima import FINALISTS, Optima, covariance, search
from bayes_moe.predictors import Shrunk

MOST_ROUNDS = 100
SETTLED = 1e-3
"""Change of the logarithm of a spread that ends the rounds."""
FARTHEST = 12.0
"""Largest logarithm of a parameter of a spread."""


def search_settled(moving: Coordinates, **settings: Any) -> Optima:
    """Find modes as :func:`bayes_moe.optima.search` does, with spreads at their marginal mode.

    ``settings`` are its own. The spreads are those of the best mode, and other modes are followed
    under them.
    """
    found = search(moving, **settings)
    if not moving.own or found.singular[found.best]:
        return found
    best = found.theta[found.best]
    cores = settings.get("cores", 1)
    objective = Objective(moving, cores=cores)
    for _ in range(MOST_ROUNDS):
        spread = covariance(objective, best)
        if spread is None:
            break
        moving, change = _settled(moving, best, spread)
        objective = Objective(moving, cores=cores)
        best = ascend(objective, best[None], max_iter=50, newton_first=True).theta[0]
        if change < SETTLED:
            break
    others = np.argsort(found.singular, kind="stable")[:FINALISTS]
    others = others[others != found.best]
    rest = {k: v for k, v in settings.items() if k not in ("theta", "allocation")}
    final = search(moving, theta=np.concatenate([best[None], found.theta[others]]), **rest)
    hits = final.hits.copy()
    hits[final.best] = max(hits[final.best], found.hits[found.best])
    return replace(final, hits=hits, restarts=found.restarts)


def _settled(
    moving: Coordinates, theta: np.ndarray, covariance: np.ndarray
) -> tuple[Coordinates, float]:
    """Coordinates with the spreads that are best for a normal approximation, and their change."""
    own, change = dict(moving.own), 0.0
    for slot in moving.slots:
        if slot.stretch is None:
            continue
        second = theta[slot.where] ** 2 + np.diag(covariance)[slot.where]
        best = _best_spreads(moving, slot, second.reshape(slot.directions, slot.terms))
        own |= best
        predictor = _predictor(moving, slot)
        assert slot.scaling is not None
        new = predictor.spread(slot.stem, names.GATE, best, slot.scaling.matrix, NUMERIC)
        change = max(change, float(np.abs(np.log(new / slot.stretch)).max()))
    found = coordinates(moving.spec, moving.design, jacobian=moving.jacobian, own=own)
    return found, change


def _predictor(moving: Coordinates, slot: Slot) -> Shrunk:
    heads = moving.spec.gate.heads(moving.spec.n_experts)
    found = next(h.predictor for h in heads if h.stem == slot.stem)
    assert isinstance(found, Shrunk)
    return found


def _best_spreads(moving: Coordinates, slot: Slot, second: np.ndarray) -> dict[str, np.ndarray]:
    """Parameters of the spreads, given second moments (direction, term) of the coefficients."""
    from scipy.optimize import minimize

    predictor, priors = _predictor(moving, slot), moving.spec.resolve_priors(moving.design)
    keys = list(predictor.own_dims(slot.stem))
    sizes = np.cumsum([moving.own[name].size for name in keys])[:-1]
    assert slot.prior is not None
    assert slot.scaling is not None
    assert slot.stretch is not None
    matrix = slot.scaling.matrix
    units = np.asarray(slot.prior.arguments["sigma"]) / slot.stretch

    def values(logs: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(np.clip(logs, -FARTHEST, FARTHEST), sizes)
        return dict(zip(keys, map(np.exp, parts), strict=True))

    def loss(logs: np.ndarray) -> float:
        own = values(logs)
        s = units * predictor.spread(slot.stem, names.GATE, own, matrix, NUMERIC)
        total = (-len(second) * np.log(s) - 0.5 * second.sum(axis=0) / s**2).sum()
        for name in keys:
            log_own = np.log(own[name])
            total += (log_density_of_log(priors[name], log_own[:, None])[0][..., 0] + log_own).sum()
        return -float(total)

    start = np.log(np.concatenate([moving.own[name] for name in keys]))
    return values(minimize(loss, start, method="L-BFGS-B", options={"maxiter": 200}).x)
