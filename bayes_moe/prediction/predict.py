"""predict, log_density and responsibilities: what a fit says of rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr
from bayes_moe.prediction.predictive import Predictive, Reader


def predict(fit: Fit, rows: Any = None, *, top_k: int | None = None) -> Predictive:
    """Return the posterior predictive distribution of the response for new rows.

    The response is the left-hand side of the formula: of ``log(y) ~ x``, predictions are of
    ``log(y)``.

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with the features (a response is not needed); None means the fitted rows.
    top_k : int, optional
        Keep only so many experts, those of largest gate weight for each row and draw, with
        weights divided by their sum. What that changes is bounded by
        :meth:`Predictive.approximation_error`.

    Returns
    -------
    Predictive
        With ``mean``, ``sd``, ``interval``, ``pdf``, ``logpdf``, ``cdf``, ``quantile``,
        ``sample``, ``weights``, ``expert_means``, ``expert_locations`` and
        ``approximation_error``. Nothing is sampled or compiled.

    Raises
    ------
    DataError
        For missing columns or values, and categories that the fitted rows do not have.
    SpecError
        If ``top_k`` is not a whole number between 1 and the number of experts.
    """
    if top_k is not None:
        whole = isinstance(top_k, int | np.integer) and not isinstance(top_k, bool)
        if not whole or not 1 <= top_k <= fit.spec.n_experts:
            raise SpecError(
                f"`top_k` must be a whole number between 1 and the number of experts, "
                f"{fit.spec.n_experts}; it is {top_k!r}."
            )
        top_k = int(top_k)
    return Predictive(fit, fit.design.transform(rows), top_k)


def reduced(
    seen: Predictive, read: Reader, along: Mapping[str, Any], *, draws: bool = False
) -> xr.DataArray:
    """Read mixtures as (sample, ..., obs), and average over samples or keep them.

    Parameters
    ----------
    seen : Predictive
        Of the rows.
    read : callable
        Reads the mixture of a chunk of rows.
    along : mapping of str to sequence
        The dimension between, which comes last, and its labels.
    draws : bool
        Whether to keep the posterior draws.
    """
    return seen._reduce(read, draws=draws, along=along)


def thinned(fit: Fit, most: float) -> Fit:
    """Keep evenly spaced draws of a fit, at most so many; of every chain at least one."""
    import xarray as xr

    posterior = fit.idata[names.POSTERIOR].to_dataset()
    draws = posterior.sizes[names.CHAIN] * posterior.sizes[names.DRAW]
    step = max(1, int(np.ceil(draws / most)))
    kept = posterior.isel({names.DRAW: slice(None, None, step)})
    return replace(fit, idata=xr.DataTree.from_dict({names.POSTERIOR: kept}))


def with_response(fit: Fit, rows: Any = None) -> Predictive:
    """Return the predictive of rows that have a response; None means the fitted rows."""
    return Predictive(fit, fit.design.transform(rows, with_response=True))


def log_density(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return the log density of given responses under every draw (chain, draw, obs_id).

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with features and response; None means the fitted rows.
    """
    seen = with_response(fit, rows)
    return seen._reduce(lambda m, part: m.log_density(part.observed), draws=True)


def responsibilities(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return each expert's probability of having made a row (chain, draw, obs_id, expert).

    ``r_k = w_k(x) f_k(y | x) / sum_j w_j(x) f_j(y | x)``: gate weights updated by the response.

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with features and response; None means the fitted rows.
    """
    seen = with_response(fit, rows)
    return seen._reduce(lambda m, part: m.responsibilities(part.observed), draws=True)
