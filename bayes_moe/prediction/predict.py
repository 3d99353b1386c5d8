"""predict, log_density and responsibilities: predictions of a fit for rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayes_moe.core.checks import is_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.prediction.chunked_mixture import mixtures_on
from bayes_moe.prediction.predictive import Predictive
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr


def predict(fit: Fit, rows: Any = None, *, top_k: int | None = None) -> Predictive:
    """Return the posterior predictive distribution of the response for new rows.

    The response is the left-hand side of the formula: of ``log(y) ~ x``, predictions are of
    ``log(y)``.

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with the features (a response is not needed); None means the fitted rows. Results
        have the row labels of the table, if it is a pandas table with an index of its own (or a
        dict of columns with one), else positions.
    top_k : int, optional
        Keep only so many experts, those of largest gate weight for each row and draw, with
        weights divided by their sum. The error is bounded by
        :meth:`Predictive.approximation_error`.

    Returns
    -------
    Predictive
        With ``mean``, ``sd``, ``interval``, ``pdf``, ``logpdf``, ``cdf``, ``quantile``,
        ``modes``, ``sample``, ``weights``, ``expert_means``, ``expert_locations`` and
        ``approximation_error``; of a response of classes also ``probabilities``,
        ``probability_interval``, ``classes``, ``entropy`` and ``expert_probabilities``. Nothing is
        sampled. Large work is done by compiled loops, which are compiled once a machine; small work
        needs nothing to be compiled.

    Raises
    ------
    DataError
        For missing columns or values, and categories that the fitted rows do not have.
    SpecError
        If ``top_k`` is not a whole number between 1 and the number of experts.
    """
    if top_k is not None:
        if not is_whole(top_k) or not 1 <= top_k <= fit.spec.n_experts:
            raise SpecError(
                f"`top_k` must be a whole number between 1 and the number of experts, "
                f"{fit.spec.n_experts}; it is {top_k!r}."
            )
        top_k = int(top_k)
    return Predictive(fit, fit.design.transform(rows), top_k)


def log_density(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return the log density of observed responses under each draw (chain, draw, obs_id).

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with features and response; None means the fitted rows. Results have row labels as
        those of :func:`predict`.
    """
    mixtures = mixtures_on(fit, rows, with_response=True)
    return mixtures.summarise(lambda m, part: m.log_density(part.observed), draws=True)


def responsibilities(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return posterior probabilities of the experts (chain, draw, obs_id, expert).

    ``r_k = w_k(x) f_k(y | x) / sum_j w_j(x) f_j(y | x)``: gate weights updated by the response.

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with features and response; None means the fitted rows. Results have row labels as
        those of :func:`predict`.
    """
    mixtures = mixtures_on(fit, rows, with_response=True)
    return mixtures.summarise(lambda m, part: m.responsibilities(part.observed), draws=True)
