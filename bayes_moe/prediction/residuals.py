"""pit and residuals: where responses are in their predictive distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from bayes_moe.core import seeds
from bayes_moe.data.censored_response import INTERVAL
from bayes_moe.data.group_terms import ERROR
from bayes_moe.data.matrix import Rows
from bayes_moe.data.recording import uncut
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import ChunkedMixture, mixtures_on
from bayes_moe.prediction.expert_quantities import check_ordered
from bayes_moe.prediction.quantiles import cdf
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr

LEAST = float(np.finfo(float).tiny)
"""Least probability of which the normal quantile is taken, about -37.5."""


def pit(
    fit: Fit, rows: Any = None, *, unseen: str = ERROR, random_seed: int | None = None
) -> xr.DataArray:
    """Return probability integral transforms of observed responses (obs_id), between 0 and 1.

    It is ``P(Y <= y)`` under the predictive distribution of a row: under the true model, values of
    new rows are uniform and independent. Where only an interval of probabilities is known, it is
    drawn from that with equal density: within the jump of the cdf at a count or an atom, and of a
    censored response between the probabilities of the ends of what is known. Of a truncated
    response it is the probability among rows that are recorded, ``(F(y) - F(a)) / (F(b) - F(a))``
    with ``F`` the cdf of each draw's mixture.

    Parameters
    ----------
    fit : Fit
        A fit of one response, or a :func:`margin`.
    rows : table, optional
        Rows with features and response, and status or limits if the response has them; None means
        the fitted rows, whose values are a little too close to one half, as those of any fit.
    unseen : {"error", "average", "sample"}
        As for :func:`predict`.
    random_seed : int, optional
        The same seed gives the same values.

    Returns
    -------
    xarray.DataArray
        (obs_id), with row labels as those of :func:`predict`. Each row has its own, also where rows
        share an expert by group: such values are uniform, and not independent within groups.
        Fitted groups with effects of their own have the experts' weights of :func:`predict`.

    Raises
    ------
    SpecError
        For a fit with several responses, and classes without an order.
    DataError
        For missing columns or values, as :func:`log_density` does.

    References
    ----------
    Czado, C., Gneiting, T., & Held, L. (2009). Predictive model assessment for count data.
    Biometrics, 65(4), 1254-1261.

    Examples
    --------
    >>> scipy.stats.kstest(bm.pit(fit, test, random_seed=1), "uniform")  # doctest: +SKIP
    """
    mixtures, tails = _drawn_tails(fit, rows, unseen, random_seed)
    return mixtures.label(tails[:, 0])


def residuals(
    fit: Fit, rows: Any = None, *, unseen: str = ERROR, random_seed: int | None = None
) -> xr.DataArray:
    """Return randomised quantile residuals (obs_id): normal quantiles of :func:`pit`.

    Under the true model those of new rows are independent standard normal, whatever the families,
    limits and number of experts. They have no unit; beyond about 37 they stay there.

    Parameters
    ----------
    fit : Fit
        A fit of one response, or a :func:`margin`.
    rows : table, optional
        As for :func:`pit`.
    unseen : {"error", "average", "sample"}
        As for :func:`predict`.
    random_seed : int, optional
        The same seed gives the same residuals, those of the values of :func:`pit`.

    Returns
    -------
    xarray.DataArray
        (obs_id), with row labels as those of :func:`predict`.

    Raises
    ------
    SpecError, DataError
        As :func:`pit` does.

    References
    ----------
    Dunn, P. K., & Smyth, G. K. (1996). Randomized quantile residuals. Journal of Computational and
    Graphical Statistics, 5(3), 236-244.

    Examples
    --------
    >>> scipy.stats.probplot(bm.residuals(fit, random_seed=1), plot=plt)  # doctest: +SKIP
    """
    mixtures, tails = _drawn_tails(fit, rows, unseen, random_seed)
    below, above = np.maximum(tails.T, LEAST)
    # The nearer tail has the digits.
    return mixtures.label(np.where(below < above, special.ndtri(below), -special.ndtri(above)))


def _drawn_tails(
    fit: Fit, rows: Any, unseen: str, random_seed: int | None
) -> tuple[ChunkedMixture, np.ndarray]:
    """Probabilities (obs, 2) below and above a response, drawn within what is known of them."""
    fit.one_response()
    check_ordered(fit, "probabilities up to a response", "probabilities()")
    mixtures = mixtures_on(fit, rows, with_response=True, unseen=unseen, given_effects=True)
    share = np.random.default_rng(seeds.resolve(random_seed)).random(mixtures.rows.size)
    j = fit.response

    def tails(mixture: Mixture, part: Rows) -> np.ndarray:
        return known_tails(mixture, part.observed if j is None else part.observed[j])

    low, high, above_low, above_high = mixtures.map(tails).T
    below = low + share * (high - low)
    return mixtures, np.stack([below, above_high + (1 - share) * (above_low - above_high)], axis=-1)


def known_tails(mixture: Mixture, y: np.ndarray) -> np.ndarray:
    """Probabilities (obs, 4) of responses below, and up to, what is known; and 1 less these.

    ``y`` are responses (obs,), or what is known of them (number, obs), of rows that are recorded.
    """
    lower, upper = (y, y) if y.ndim == 1 else y[:2]
    law = mixture.uncensored
    if y.ndim > 1 and len(y) > INTERVAL:
        law = mixture.recorded(uncut(y[INTERVAL:]))
    before = np.ceil(lower) - 1.0 if law.measure.discrete else np.nextafter(lower, -np.inf)
    place = np.where(np.isfinite(lower), lower, np.where(np.isfinite(upper), upper, 0.0))
    found = []
    for above in (False, True):
        for end, open_end in ((before, np.isneginf(lower)), (upper, np.isposinf(upper))):
            own = cdf(law, np.where(open_end, place, end), above=above)
            limit = float((end is before) == above)
            found.append(np.where(open_end, limit, own))
    return np.stack(found, axis=-1)
