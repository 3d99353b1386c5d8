"""Where climbs begin, for any model: at points of a stand-in whose predictors are linear.

The stand-in has the same experts, and a linear gate on the same features. Its points say how the
experts share the rows; a gate that is not linear is asked to come near, either to the logits of
the linear gate or to those of the responsibilities, which a linear gate need not reach.
"""

from __future__ import annotations

import numpy as np

from bayes_moe import optima
from bayes_moe.ascent import first_points
from bayes_moe.coordinates import coordinates
from bayes_moe.design import Design
from bayes_moe.mixture import evaluate
from bayes_moe.objective import Objective
from bayes_moe.spec import MixtureOfExperts
from bayes_moe.splits import allocations

Values = dict[str, np.ndarray]

MAX_ITER = 200
RIDGE = 1.0
"""Penalty of internal coefficients whose prior has unit scale, against a unit error of a logit."""
SOFTNESS = 0.1
LARGEST = 8.0
"""Largest logit that is asked for."""
NOISE = 0.05
"""Standard deviation of noise in the logits, so that nothing stays alike."""


def is_linear(spec: MixtureOfExperts) -> bool:
    """Whether a model's predictors are linear and its gate is a product of softmaxes."""
    return spec.n_experts == 1 or spec.gate.branching(spec.n_experts) is not None


def stand_in(spec: MixtureOfExperts) -> MixtureOfExperts:
    """Return the model with a linear gate on the same features, under its default prior."""
    if is_linear(spec):
        return spec
    priors = {k: p for k, p in spec.priors.items() if k not in spec.gate_variables}
    return MixtureOfExperts(spec.gate.linear(), spec.experts, priors, spec.center)


def first_values(
    spec: MixtureOfExperts, design: Design, count: int, rng: np.random.Generator
) -> list[Values]:
    """Return so many points as reported variables.

    The first half are modes of the stand-in, as far as it has that many, others come from splits of
    the rows; all from splits where the model is its own stand-in.
    """
    if is_linear(spec):
        return _from_splits(spec, design, count, rng)
    simple = stand_in(spec)
    found = optima.search(
        coordinates(simple, design), restarts=optima.RESTARTS, max_iter=MAX_ITER, rng=rng
    )
    modes = [
        {name: v[j] for name, v in found.values.items()}
        for j in range(min((count + 1) // 2, len(found.value)))
    ]
    points = modes + _from_splits(simple, design, count - len(modes), rng)
    return [
        _near(spec, simple, design, point, rng, by_rows=bool(j % 2))
        for j, point in enumerate(points)
    ]


def _from_splits(
    spec: MixtureOfExperts, design: Design, count: int, rng: np.random.Generator
) -> list[Values]:
    """Points of a linear model that a few sweeps reach from splits of the rows."""
    if count == 0:
        return []
    moving = coordinates(spec, design)
    rows = design.rows
    if rows.size > optima.SUBSAMPLE:
        rows = rows.pick(np.sort(rng.choice(rows.size, optima.SUBSAMPLE, replace=False)))
    split = allocations(spec, rows, count, rng)
    values = moving.variables(first_points(Objective(moving, rows), split))
    return [{name: v[j] for name, v in values.items()} for j in range(count)]


def _near(
    spec: MixtureOfExperts,
    simple: MixtureOfExperts,
    design: Design,
    point: Values,
    rng: np.random.Generator,
    *,
    by_rows: bool,
) -> Values:
    """Reported variables of a model near a point of its stand-in.

    ``by_rows`` asks the gate to come near the responsibilities of the rows.
    """
    rows = design.rows
    mixture = evaluate(simple, {name: v[None] for name, v in point.items()}, rows)
    logits = mixture.log_weights[0]  # (expert, obs)
    if by_rows:
        shares = mixture.responsibilities(rows.observed)[0]
        logits = np.log((1 - SOFTNESS) * shares + SOFTNESS / len(shares))
    logits = np.clip(logits - logits.mean(axis=0), -LARGEST, LARGEST)
    logits = logits + NOISE * rng.standard_normal(logits.shape)
    logits -= logits.mean(axis=0)
    own = {name: point[name] for block in spec.blocks for name in block.variables}
    return own | spec.gate.from_rows(
        spec.n_experts, logits, rows.matrices, design.response, rng, RIDGE
    )
