"""Further groups of a fit's tree for ArviZ: predictive draws, prior draws and log prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names, seeds
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.graph.build import Graph, build_design
from bayes_moe.graph.prior_draws import check_prior_draws
from bayes_moe.prediction.joint_predictive import predictive_of
from bayes_moe.prediction.prior_responses import prior_dataset, prior_responses
from bayes_moe.prediction.recorded_rows import with_limits
from bayes_moe.results.draws import pointwise, stacked_draws
from bayes_moe.results.fit import Fit, posterior_of

if TYPE_CHECKING:
    import xarray as xr

PRIOR_DRAWS = 1000
"""Draws from the prior by default."""


def extend(fit: Fit, *groups: str, draws: int = PRIOR_DRAWS, random_seed: int | None = None) -> Fit:
    """Return the fit with further groups in its tree, for ArviZ's plots and checks.

    Parameters
    ----------
    fit : Fit
        A fit with draws; it is left unchanged.
    *groups : str
        One or several of ``"posterior_predictive"``: a response for every posterior draw and fitted
        row (chain, draw, obs_id); ``"prior"``: draws of the reported variables from the prior (1,
        draw, ...); ``"prior_predictive"``: responses of the fitted rows with these (1, draw,
        obs_id); ``"log_prior"``: the log prior density (chain, draw) of each variable at the
        posterior draws, up to a constant; ``"log_likelihood"``: the log density of each fitted row
        (chain, draw, obs_id), where a fit did not store it. A group that is there is replaced.
    draws : int
        Number of draws from the prior.
    random_seed : int, optional
        The same seed gives the same draws, whichever groups are asked for.

    Returns
    -------
    Fit
        Fit with the groups in ``.idata``; :func:`bayes_moe.save` keeps them.

    Raises
    ------
    SpecError
        For unknown groups, a fit that is a single mode, and regression trees, which have no prior
        density to draw from.
    DataError
        For predictive draws of a censored response whose limits the formula does not state.

    Notes
    -----
    The posterior's experts are relabelled, the prior's are not: under the prior, exchangeable
    experts have the same distribution. ``log_prior`` is the density of the sampler's variables,
    named by the reported ones; those with learned scales are counted in units of these.

    Predictive draws are of what would be recorded of the rows, as the observed data are: of a
    truncated response within the limits, and with the limit in place of a response beyond a limit
    of censoring, which the formula must state, ``censored(y, upper=limit)``. Terms that look back
    at the response, such as ``lag(y, 1)``, read the observed rows before: draws are one step ahead.
    """
    if not groups:
        raise SpecError(f"Name the groups to add: {', '.join(map(repr, GROUPS))}.")
    for group in groups:
        check_one_of("group", group, GROUPS)
    check_whole("draws", draws, 1)
    if fit.is_point:
        raise SpecError(
            f"A fit by {fit.idata.attrs[names.METHOD]!r} is a single mode, and ArviZ reads draws: "
            "fit with method='laplace' for draws about the mode, or with 'nuts'."
        )
    sources = _Sources(fit, draws, seeds.resolve(random_seed))
    tree = fit.idata.copy()
    for group in dict.fromkeys(groups):
        made = GROUPS[group](sources)
        tree[group] = _as_tree(made.assign_attrs({names.RESPONSE_TERM: fit.spec.response}))
    return replace(fit, idata=tree)


def _as_tree(data: xr.Dataset) -> xr.DataTree:
    import xarray as xr

    return xr.DataTree(data)


@dataclass(frozen=True, eq=False)
class _Sources:
    """A fit, the number of draws from its prior, and the seed of all groups."""

    fit: Fit
    draws: int
    seed: int

    def seed_of(self, group: str) -> int:
        """Seed of a group, which does not depend on the other groups."""
        sequence = np.random.SeedSequence([self.seed, list(GROUPS).index(group)])
        return int(sequence.generate_state(1)[0])

    @property
    def posterior(self) -> xr.Dataset:
        """The posterior draws."""
        return posterior_of(self.fit.idata)


def _posterior_predictive(sources: _Sources) -> xr.Dataset:
    seed, fit = sources.seed_of(names.POSTERIOR_PREDICTIVE), sources.fit
    rows = with_limits(fit.spec, fit.design, fit.design.rows)
    rows = replace(rows, index=None)  # the groups of a tree share positions
    every = replace(fit, response=None)  # as the tree's observed data
    drawn = predictive_of(every, rows).sample(random_seed=seed)
    return drawn.to_dataset(name=names.RESPONSE)


def _prior(sources: _Sources) -> xr.Dataset:
    seed = sources.seed_of(names.PRIOR)
    return prior_dataset(sources.fit.spec, sources.fit.design, sources.draws, seed)


def _prior_predictive(sources: _Sources) -> xr.Dataset:
    fit, seed = sources.fit, sources.seed_of(names.PRIOR_PREDICTIVE)
    rows = with_limits(fit.spec, fit.design, fit.design.rows)
    return prior_responses(fit.spec, _prior(sources), rows, seed)


def _log_likelihood(sources: _Sources) -> xr.Dataset:
    fit = sources.fit
    return pointwise(fit.spec, sources.posterior, fit.design).to_dataset(name=names.RESPONSE)


def _log_prior(sources: _Sources) -> xr.Dataset:
    """Log prior density (chain, draw) of each of the sampler's variables."""
    import xarray as xr
    from pymc.model.transform.conditioning import remove_value_transforms

    from bayes_moe.graph.numpy_mode import compiled

    fit, posterior = sources.fit, sources.posterior
    check_prior_draws(fit.spec)
    graph = build_design(fit.spec, fit.design, "fused")
    model = remove_value_transforms(graph.model)
    terms = [term.sum() for term in model.logp(vars=model.free_RVs, sum=False)]
    log_density = compiled(model, model.value_vars, terms)
    free = [rv.name for rv in model.free_RVs]
    values = _free_values(fit, graph, free)
    sizes = [posterior.sizes[d] for d in (names.CHAIN, names.DRAW)]
    by_draw = np.array(
        [log_density(*(values[name][s] for name in free)) for s in range(int(np.prod(sizes)))]
    )
    coords = {d: posterior[d].values for d in (names.CHAIN, names.DRAW)}
    result = {
        _reported(fit, name): (tuple(coords), by_draw[:, j].reshape(sizes))
        for j, name in enumerate(free)
    }
    return xr.Dataset(result, coords=coords)


def _free_values(fit: Fit, graph: Graph, free: list[str]) -> dict[str, np.ndarray]:
    """The sampler's variables (sample, ...) at the posterior draws, stored or computed."""
    posterior = posterior_of(fit.idata)
    stored: dict[Any, Any] = dict(posterior.data_vars)
    arrays = stacked_draws(fit.spec, posterior)
    if names.UNCONSTRAINED in fit.idata.children:
        others = fit.idata[names.UNCONSTRAINED].to_dataset()
        if all(others[d].equals(posterior[d]) for d in (names.CHAIN, names.DRAW)):
            stored |= dict(others.data_vars)
    if {*free} <= {*stored}:
        for name in {*free} - {*arrays}:
            values = stored[name].transpose(names.CHAIN, names.DRAW, ...).values
            arrays[name] = np.asarray(values, dtype=float).reshape(-1, *values.shape[2:])
        return arrays
    return graph.free_values(arrays)


def _reported(fit: Fit, name: str) -> str:
    """Reported variable that one of the sampler's variables makes; else the variable itself."""
    stem = name.removesuffix(names.RAW_SUFFIX)
    candidates = (names.coef(stem), stem)
    return next((c for c in candidates if c in fit.spec.variables), name)


GROUPS: dict[str, Callable[[_Sources], xr.Dataset]] = {
    names.POSTERIOR_PREDICTIVE: _posterior_predictive,
    names.PRIOR: _prior,
    names.PRIOR_PREDICTIVE: _prior_predictive,
    names.LOG_PRIOR: _log_prior,
    names.LOG_LIKELIHOOD: _log_likelihood,
}
"""Function that makes each group."""
