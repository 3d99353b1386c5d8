"""Experts' shares of the rows, and how many experts are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_positive
from bayes_moe.diagnostics.coincidence import coincidence
from bayes_moe.model.allocation import (
    counted_units,
    observed_responsibilities,
    unit_weight,
)
from bayes_moe.model.evaluation import chunks
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import Fit, posterior_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def usage(fit: Fit) -> xr.DataArray:
    """Return each expert's share of the fitted rows' responsibility (chain, draw, expert).

    Rows count by their weights. Of rows that share an expert by group, it is the share of groups.
    """
    import xarray as xr

    posterior = posterior_of(fit.idata)
    draws = stacked_draws(fit.spec, posterior)
    total = np.zeros((len(next(iter(draws.values()))), fit.spec.n_experts))
    for _, chunk, mixture in chunks(fit.spec, draws, fit.design.rows):
        total += counted_units(chunk, observed_responsibilities(mixture, chunk)).sum(axis=-1)
    coords = {
        names.CHAIN: posterior[names.CHAIN].values,
        names.DRAW: posterior[names.DRAW].values,
        names.EXPERT: np.asarray(fit.spec.expert_labels),
    }
    shape = tuple(len(v) for v in coords.values())
    return xr.DataArray(
        (total / unit_weight(fit.design.rows)).reshape(shape), dims=tuple(coords), coords=coords
    )


def effective_experts(fit: Fit) -> xr.DataArray:
    """Return the effective number of experts (chain, draw).

    ``exp(- sum_k s_k log s_k)``, with ``s_k`` the experts' shares of the fitted rows'
    responsibility (:func:`usage`): 1 if one expert takes all rows, K if all take as many. It is the
    Hill number of order 1 of the shares. Experts that predict the same, as :func:`diagnose` reports
    them, count as one.

    Parameters
    ----------
    fit : Fit
        A fit.

    References
    ----------
    Hill, M. O. (1973). Diversity and evenness: a unifying notation and its consequences. Ecology,
    54(2), 427-432.
    """
    same = coincidence(fit.idata, fit.spec, fit.design)
    return hill_number(same.merged(usage(fit)))


def experts_in_use(fit: Fit, *, least_rows: float = 1.0) -> xr.DataArray:
    """Return how many experts are in use under each draw (chain, draw).

    An expert is in use if its expected number of rows, the sum of its responsibilities for the
    fitted rows, is at least ``least_rows``. Experts that predict the same count apart.

    Parameters
    ----------
    fit : Fit
        A fit.
    least_rows : float
        Expected number of rows from which an expert counts.

    Raises
    ------
    SpecError
        If ``least_rows`` is not a positive number.

    Examples
    --------
    The posterior of the number of experts in use, as a table:

    >>> used = bm.experts_in_use(fit)  # doctest: +SKIP
    >>> used.to_series().value_counts(normalize=True)  # doctest: +SKIP
    """
    check_positive("least_rows", least_rows)
    rows = usage(fit) * unit_weight(fit.design.rows)
    return (rows >= least_rows).sum(names.EXPERT).rename("experts_in_use")


def hill_number(shares: xr.DataArray) -> xr.DataArray:
    """Exponential of the entropy (chain, draw) of shares (chain, draw, expert)."""
    from scipy.special import entr

    entropy = entr(shares.values).sum(axis=shares.get_axis_num(names.EXPERT))
    return shares.isel({names.EXPERT: 0}, drop=True).copy(data=np.exp(entropy))


def usage_table(shares: xr.DataArray) -> pd.DataFrame:
    """Mean, sd and quantiles by expert of shares (chain, draw, expert)."""
    import pandas as pd

    by_sample = shares.values.reshape(-1, shares.shape[-1])
    index = pd.Index(shares[names.EXPERT].values, name=names.EXPERT)
    if len(by_sample) == 1:
        return pd.DataFrame({"mean": by_sample[0]}, index=index)
    low, high = np.quantile(by_sample, [0.05, 0.95], axis=0)
    return pd.DataFrame(
        {"mean": by_sample.mean(axis=0), "sd": by_sample.std(axis=0), "q05": low, "q95": high},
        index=index,
    )
