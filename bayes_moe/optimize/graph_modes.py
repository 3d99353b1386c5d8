"""Modes of a log density from the final points of L-BFGS runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.samples import Sample
from bayes_moe.data.matrix import Rows
from bayes_moe.em.climb import ClimbResult, padded_paths
from bayes_moe.em.modes import Modes, match_modes
from bayes_moe.em.vector_layout import SCALE_FLOOR
from bayes_moe.families import Parameter
from bayes_moe.model import expert_order
from bayes_moe.model.allocation import observed_responsibilities
from bayes_moe.model.evaluation import chunks, log_likelihood
from bayes_moe.model.log_density import LogDensity
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.lbfgs import LBFGSResult, run_lbfgs
from bayes_moe.priors.defaults import role_of

RESPONSIBLE = 0.5
"""Responsibility above which an expert's scale at a row counts."""


def ends(surface: LogDensity, climbs: list[LBFGSResult]) -> Modes:
    """Where climbs ended, each as a mode of its own, the experts in order."""
    spec, design = surface.spec, surface.design
    values = surface.variables(np.array([c.x for c in climbs]))
    orders = expert_order.order(spec, expert_order.levels(spec, values, design.rows))
    values = expert_order.permute(spec, values, orders)
    theta = [surface.point({name: v[j] for name, v in values.items()}) for j in range(len(climbs))]
    of_rows = log_likelihood(spec, values, design.rows)
    value = np.array([c.value for c in climbs])
    result = ClimbResult(
        theta=np.stack(theta),
        value=value,
        gradient_norm=np.array([c.gradient_norm for c in climbs]),
        iterations=np.array([c.iterations for c in climbs]),
        converged=np.array([c.converged for c in climbs]),
        running=np.empty((len(climbs), 0), dtype=bool),
        floored=_floored(spec, design.rows, values),
        exhausted=np.array([c.exhausted for c in climbs]),
        path=padded_paths([c.path for c in climbs]),
        variables=(),
    )
    return Modes.of_ends(spec, design, result, values=values, log_prior=value - of_rows)


def _floored(spec: MixtureOfExperts, rows: Rows, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether an expert's spread is at its floor (point,).

    An expert's scale that depends on the row counts at rows for which it is responsible.
    """
    low = _constants_at_floor(spec, rows, values)
    by_row = (c for factor in spec.structure.factors for c in factor.block.components)
    if not any(c.formula is not None and role_of(c.parameter.role).collapses for c in by_row):
        return low
    seen = Sample(spec.structure.blocks[0].family.plain(rows.observed), rows.weights)
    for _, part, mixture in chunks(spec, values, rows):
        with np.errstate(all="ignore"):
            shares = observed_responsibilities(mixture, part)
        for block, params in zip(mixture.blocks, mixture.params, strict=True):
            responsible = shares[:, list(block.positions)] > RESPONSIBLE
            for c in block.components:
                if c.formula is not None and role_of(c.parameter.role).collapses:
                    at_floor = _at_floor(c.parameter, params[c.parameter.name], seen)
                    low |= (responsible & at_floor).any(axis=(1, 2))
    return low


def _constants_at_floor(
    spec: MixtureOfExperts, rows: Rows, values: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Whether a spread that is the same for all rows is at its floor (point,)."""
    low = np.zeros(len(next(iter(values.values()))), dtype=bool)
    for factor in spec.structure.factors:
        y = factor.own_response(rows)
        for c in factor.block.components:
            if c.formula is None and role_of(c.parameter.role).collapses:
                low |= _at_floor(c.parameter, values[c.variable], y).any(axis=1)
    return low


def _at_floor(parameter: Parameter, values: np.ndarray, responses: Sample) -> np.ndarray:
    """Whether values of a parameter mean a spread at its floor, for responses of rows."""
    row = role_of(parameter.role)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = row.log_spread(parameter.link(values, NUMERIC))
    floor = math.log(SCALE_FLOOR) + row.log_spread_unit(parameter.own(responses))
    return np.asarray(spread <= floor)


def uphill(surface: LogDensity, modes: Modes, points: np.ndarray, max_iter: int) -> np.ndarray:
    """Return which of some modes lies uphill of each point (point,); -1 for one not among them."""
    reached = ends(surface, [run_lbfgs(surface, x, max_iter, newton_steps=0) for x in points])
    return match_modes(modes, reached, surface.design.rows)
