"""Draws from the prior of a model, and responses drawn with these, as datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.data.responses import response_dims
from bayes_moe.graph.prior_draws import check_prior_draws, prior_draws
from bayes_moe.model.allocation import allocation_of
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.memory import random_paths
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import stacked_draws, with_derived

if TYPE_CHECKING:
    import xarray as xr


def prior_dataset(
    spec: MixtureOfExperts, design: Design, draws: int, random_seed: int
) -> xr.Dataset:
    """Draws (chain, draw, ...) of the reported variables from the prior, in one chain.

    Raises
    ------
    SpecError
        For regression trees, which have no prior density to draw from.
    """
    import xarray as xr

    check_prior_draws(spec)
    drawn = prior_draws(spec, design, draws, random_seed)
    structure, labels = spec.structure, spec.structure.coords(design)
    dims, sample = structure.reported_dims, (names.CHAIN, names.DRAW)
    variables = {
        name: ((*sample, *dims[name]), structure.pairs.reported(values, structure.dims[name])[None])
        for name, values in drawn.items()
    }
    used = {d for name in drawn for d in dims[name]}
    coords = {d: np.asarray(labels[d]) for d in used if d in labels}
    coords |= {names.CHAIN: np.arange(1), names.DRAW: np.arange(draws)}
    return with_derived(xr.Dataset(variables, coords=coords), spec)


def prior_responses(
    spec: MixtureOfExperts, prior: xr.Dataset, rows: Rows, random_seed: int
) -> xr.Dataset:
    """Responses ``y`` (chain, draw, obs_id) of rows, drawn with draws from the prior.

    Of rows with limits they are those that would be recorded.
    """
    import xarray as xr

    drawn = stacked_draws(spec, prior)
    rng = np.random.default_rng(random_seed)
    dtype = np.int64 if spec.structure.discrete else float
    of_rows, labels = response_dims(spec.response)
    shape = (1, prior.sizes[names.DRAW], *map(len, labels.values()), rows.size)
    responses = np.empty(shape, dtype=dtype)
    # Coefficients from wide priors may overflow: such responses are infinite or missing.
    with np.errstate(over="ignore", invalid="ignore"):
        paths = None
        if spec.structure.gate.chain is not None:
            rows = replace(rows, observation=replace(rows.observation, response=None))
            paths = random_paths(spec.structure, drawn, rows, rng)
        for where, part, mixture in chunks(spec, drawn, rows):
            shared, limits = allocation_of(part.observation), part.observation.limits
            mixture = mixture.uncensored if limits is None else mixture.recorded(limits)
            responses[0][..., where] = mixture.random(
                rng, shared, None if paths is None else paths[:, where]
            )
    dims = (names.CHAIN, names.DRAW, *of_rows)
    coords = {d: prior[d].values for d in dims[:2]} | {names.OBS: rows.obs_id} | labels
    return xr.Dataset({names.RESPONSE: (dims, np.moveaxis(responses, -1, 2))}, coords=coords)
