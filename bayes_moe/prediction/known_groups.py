"""Which expert the fitted groups have, for predictions of further rows of theirs.

Where a group has one expert and effects of its own, its effects in an expert are known of the
fitted rows only together with that expert. So predictions of a fitted group's rows have the
group's responsibilities, given its fitted rows, in the place of the gate's weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.model.allocation import observed_responsibilities
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.shared_effects import KNOWN_GROUPS, fitted_groups, has_shared_effects
from bayes_moe.results.fit import Fit

LEAST_LOG = -700.0
"""Least log responsibility: its exponential is a positive number."""


def with_known_groups(fit: Fit, draws: Values) -> dict[str, np.ndarray]:
    """Draws with the log responsibilities (sample, expert, group) of the fitted groups.

    At a mode, where the effects are those of each expert by itself, they are those with the effects
    integrated out. Draws of effects are joint ones with the expert: there they are given the
    effects.
    """
    spec, rows = fit.spec, fit.design.rows
    if not has_shared_effects(spec.structure, spec.row_columns):
        return dict(draws)
    codes, count = fitted_groups(spec.structure, spec.row_columns, rows.matrices)
    samples = len(next(iter(draws.values())))
    shares = np.empty((samples, spec.n_experts, count))
    for where, part, mixture in chunks(spec, draws, rows):
        of_rows = observed_responsibilities(
            mixture if fit.is_point else replace(mixture, integrals=None), part
        )
        shares[..., codes[where]] = of_rows
    with np.errstate(divide="ignore"):
        return {**draws, KNOWN_GROUPS: np.maximum(np.log(shares), LEAST_LOG)}
