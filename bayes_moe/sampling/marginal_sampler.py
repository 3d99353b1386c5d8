"""nutpie on the marginal density of a model whose groups share an expert and have effects.

A chain that moves effects and coefficients hardly ever leaves the experts that its groups have: the
effects of a group in another expert are far from where that expert could have it. So effects are
integrated out, which is exact for normal responses with effects on the mean, and then drawn from
their distribution given all else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.em import marginal_draws
from bayes_moe.em.marginal_runs import unit_axes
from bayes_moe.em.shared_draws import effects_given
from bayes_moe.em.shared_marginal import SharedMarginal
from bayes_moe.families.location_scale import Normal
from bayes_moe.families.positive import LogNormal
from bayes_moe.model.effect_checks import integrates_effects
from bayes_moe.model.shared_effects import effects_within
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import nothing_drawn
from bayes_moe.results.mode_tree import dataset
from bayes_moe.sampling.chain_starts import SharedStarts, Starts
from bayes_moe.sampling.engine import (
    Engine,
    SamplingTask,
    StartPoints,
    Tuning,
    sample_nutpie,
    sampler_groups,
)
from bayes_moe.sampling.nutpie_compiled import POINT, kept_draws, stored_stats

if TYPE_CHECKING:
    import xarray as xr

IN_FRAME = Tuning(tune=400, target_accept=0.85)
"""Settings in the coordinates of a normal approximation."""


def has_exact_integrals(spec: MixtureOfExperts) -> bool:
    """Whether effects of groups that share an expert are integrated out without error."""
    if not spec.structure.is_linear or not integrates_effects(spec.structure, spec.row_columns):
        return False
    for block in spec.structure.blocks:
        for c in block.components:
            if effects_within(c.predictor, c.site, spec.row_columns.group):
                plain = isinstance(block.family, (Normal, LogNormal))
                mean = c.parameter is block.family.parameters[0]
                if not (plain and mean and c.parameter.link.name == "identity"):
                    return False
    return True


class MarginalEngine(Engine):
    """nutpie on all but the effects, in the coordinates of a normal approximation."""

    def tuning(self, starts: Starts) -> Tuning:
        assert isinstance(starts, SharedStarts)
        return super().tuning(starts) if starts.found.covariance is None else IN_FRAME

    def run(self, task: SamplingTask) -> xr.DataTree:
        from nutpie.compiled_pyfunc import from_pyfunc

        starts = task.starts
        assert isinstance(starts, SharedStarts)
        assert isinstance(starts.found.marginal, SharedMarginal)
        marginal, point = starts.found.marginal, starts.found.point
        root = _root(starts)
        points = StartPoints(starts, partial(_coordinates, marginal, point.psi, root))
        compiled = from_pyfunc(
            marginal.size,
            lambda *chain: _log_density(marginal, point.psi, root, point.effects),
            lambda *chain: lambda z, *more: {POINT: z},
            [np.dtype(np.float64)],
            [(marginal.size,)],
            [POINT],
            make_initial_point_fn=points,
        )
        trace = sample_nutpie(compiled, task, return_raw_trace=True)
        draws, stats = trace.get_arrow_trace()
        if not len(draws) or not points.drawn:
            raise nothing_drawn()
        z, first, kept = kept_draws(draws, stats, marginal.size)
        rng = np.random.default_rng([task.random_seed, 3])
        values = _variables(marginal, point, root, z.reshape(-1, marginal.size), rng)
        shaped = {n: v.reshape(*z.shape[:2], *v.shape[1:]) for n, v in values.items()}
        posterior = dataset(starts.spec, starts.design, shaped, (names.CHAIN, names.DRAW))
        begun = _variables(marginal, point, root, first, rng)
        return sampler_groups(posterior, stored_stats(stats, kept, z.shape[1]), points.modes(begun))


def _root(starts: SharedStarts) -> np.ndarray:
    """Matrix (coordinate, coordinate) of the sampler's coordinates."""
    covariance = starts.found.covariance
    axes = unit_axes(starts.found.marginal, starts.found.point)
    if covariance is None:
        return axes
    try:
        root: np.ndarray = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return axes
    return root


def _log_density(
    marginal: SharedMarginal, centre: np.ndarray, root: np.ndarray, effects: np.ndarray
) -> Callable[..., tuple[float, np.ndarray]]:
    """Log density of ``centre + root z`` and its gradient, as a function of ``z``."""

    def function(z: np.ndarray, **more: Any) -> tuple[float, np.ndarray]:
        value, gradient = marginal.value_and_gradient(centre + root @ z, effects)
        return value, gradient @ root

    return function


def _coordinates(
    marginal: SharedMarginal,
    centre: np.ndarray,
    root: np.ndarray,
    values: dict[str, np.ndarray],
) -> np.ndarray:
    """The sampler's coordinates (coordinate,) of reported variables."""
    fixed = marginal.rows.fixed.points({n: v[None] for n, v in values.items()})[0]
    found: np.ndarray = np.linalg.solve(root, marginal.point(fixed, values) - centre)
    return found


def _variables(
    marginal: SharedMarginal,
    point: Any,
    root: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Variables (draw, ...) of the sampler's coordinates (draw, coordinate); NaN where they are."""
    made = np.isfinite(z).all(axis=1)
    psi = point.psi + np.where(made[:, None], z, 0.0) @ root.T
    effects, _ = effects_given(marginal, psi, point.effects, rng)
    values = marginal_draws.variables(marginal, psi, effects)
    for value in values.values():
        value[~made] = np.nan
    return values
