"""Which expert made a row, or a group of rows, and which have the same one: with uncertainty."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.data.group_terms import ERROR
from bayes_moe.data.matrix import Rows
from bayes_moe.model.allocation import allocation_of, observed_responsibilities
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import ChunkedMixture, mixtures_on
from bayes_moe.prediction.class_quantities import probability_inside
from bayes_moe.prediction.quantiles import some_draws
from bayes_moe.results.by_group import by_group
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr

MOST_UNITS = 5000
"""Rows or groups of a matrix of pairs: 200 MB."""
MOST_DRAWS = 1000
"""Draws over which a matrix of pairs is averaged, evenly spaced among all."""
ELEMENTS = 2**22
"""Elements (draw, expert, unit) that are multiplied at once."""

OTHER = "other_"
"""Start of the name of the second dimension of a matrix of pairs."""


def allocation(
    fit: Fit, rows: Any = None, *, ci_prob: float | None = None, unseen: str = ERROR
) -> xr.Dataset:
    """Return the probability of each expert for observed rows, with its uncertainty.

    Of rows that share an expert by group, the figures are those of the groups (``group_id`` in the
    place of ``obs_id``).

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with features and response, and the column of groups if the model has one; None means
        the fitted rows.
    ci_prob : float, optional
        Probability inside the intervals; by default ArviZ's ``rcParams["stats.ci_prob"]``.
    unseen : {"error", "average", "sample"}
        As for :func:`predict`.

    Returns
    -------
    xarray.Dataset
        ``probability`` (obs_id, expert), the mean of :func:`responsibilities` over the draws, which
        is the posterior probability of the expert; ``interval`` (obs_id, expert, ci_bound),
        the equal-tailed interval of the responsibility over the draws; ``likeliest`` (obs_id), the
        label of the expert of largest probability; and ``certainty`` (obs_id), that probability.

    Raises
    ------
    DataError
        As :func:`responsibilities` does.
    SpecError
        Unless ``ci_prob`` lies between 0 and 1.
    """
    import xarray as xr

    inside = probability_inside(ci_prob)
    levels = [(1 - inside) / 2, (1 + inside) / 2]
    mixtures = _mixtures(fit, rows, unseen)

    def figures(mixture: Mixture, part: Rows) -> np.ndarray:
        r = observed_responsibilities(mixture, part)
        both = np.concatenate([r.mean(axis=0)[None], np.quantile(r, levels, axis=0)])
        return np.moveaxis(both, -1, 0).swapaxes(1, 2)  # (obs, expert, figure)

    values = mixtures.map(figures)
    experts = {names.EXPERT: fit.spec.expert_labels}
    bounds = {**experts, names.CI_BOUND: list(names.CI_BOUNDS)}
    mean, interval = (
        by_group(fit.spec, mixtures.rows, mixtures.label(v, dims))
        for v, dims in ((values[..., 0], experts), (values[..., 1:], bounds))
    )
    which = mean.values.argmax(axis=-1)
    likeliest = mean.isel({names.EXPERT: 0}, drop=True).copy(data=mean[names.EXPERT].values[which])
    return xr.Dataset(
        {
            "probability": mean,
            "interval": interval,
            "likeliest": likeliest,
            "certainty": mean.max(names.EXPERT),
        },
        attrs={"ci_prob": inside},
    )


def coclustering(fit: Fit, rows: Any = None, *, unseen: str = ERROR) -> xr.DataArray:
    """Return the probability that two observed rows have the same expert.

    ``P(i, j) = mean over draws of sum_k r_ik r_jk``, and 1 of a row with itself: it does not depend
    on the labels of experts. Of rows that share an expert by group, it is that of pairs of groups.
    More than 1,000 draws are thinned to as many.

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        As for :func:`allocation`.
    unseen : {"error", "average", "sample"}
        As for :func:`predict`.

    Returns
    -------
    xarray.DataArray
        (obs_id, other_obs_id), or (group_id, other_group_id).

    Raises
    ------
    DataError
        As :func:`responsibilities` does.
    SpecError
        For more than 5,000 rows or groups, whose matrix would take more than 200 MB.

    References
    ----------
    Fritsch, A., & Ickstadt, K. (2009). Improved criteria for clustering based on the posterior
    similarity matrix. Bayesian Analysis, 4(2), 367-391.
    """
    mixtures = _mixtures(fit, rows, unseen)
    shared = allocation_of(mixtures.rows.observation)
    units = np.arange(mixtures.rows.size)[shared.first]
    if len(units) > MOST_UNITS:
        raise SpecError(
            f"A matrix of {len(units)} by {len(units)} pairs would take "
            f"{8 * len(units) ** 2 / 1e9:.1f} GB; `rows` may be a table of at most {MOST_UNITS} "
            f"{'rows' if shared.leads is None else 'groups'}."
        )
    kept = some_draws(len(next(iter(mixtures.draws.values()))), MOST_DRAWS)
    step = max(1, ELEMENTS // (fit.spec.n_experts * max(mixtures.rows.size, 1)))
    total = np.zeros((len(units), len(units)))
    for start in range(0, len(kept), step):
        draws = {n: v[kept[start : start + step]] for n, v in mixtures.draws.items()}
        by_row = mixtures.map(_by_row, draws=draws)  # (obs, draw, expert)
        flat = by_row[units].reshape(len(units), by_row.shape[1] * by_row.shape[2])
        total += flat @ flat.T
    total /= len(kept)
    np.fill_diagonal(total, 1.0)
    one = by_group(fit.spec, mixtures.rows, mixtures.label(np.zeros(mixtures.rows.size)))
    dim = str(one.dims[0])
    return _pairs(one, dim, total)


def _pairs(one: xr.DataArray, dim: str, values: np.ndarray) -> xr.DataArray:
    """Values of pairs along a dimension, with its labels on both sides."""
    import xarray as xr

    labels = one[dim].values
    coords = {dim: labels, OTHER + dim: labels}
    return xr.DataArray(values, dims=tuple(coords), coords=coords, name="coclustering")


def _by_row(mixture: Mixture, part: Rows) -> np.ndarray:
    """Responsibilities (obs, sample, expert)."""
    return np.moveaxis(observed_responsibilities(mixture, part), -1, 0)


def _mixtures(fit: Fit, rows: Any, unseen: str) -> ChunkedMixture:
    return mixtures_on(replace(fit, response=None), rows, with_response=True, unseen=unseen)
