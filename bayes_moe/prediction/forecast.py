"""forecast: the next rows of the series that a model was fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayes_moe.core import seeds
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.group_terms import ERROR, UNSEEN
from bayes_moe.prediction.forecast_mixture import ForecastMixture
from bayes_moe.prediction.forecast_result import PATHS, Forecast
from bayes_moe.prediction.future_rows import (
    FutureRows,
    check_fitted_to_the_end,
    future_rows,
    timeline_of,
)
from bayes_moe.prediction.simulated_paths import StoredMixtures, propagated, simulate_paths
from bayes_moe.results.fit import Fit


def forecast(
    fit: Fit,
    steps: int | None = None,
    data: Any = None,
    *,
    series: Any = None,
    paths: int | None = None,
    unseen: str = ERROR,
    random_seed: int | None = None,
) -> Forecast:
    r"""Return the predictive distribution of the next rows of the fitted series.

    Times go on by the regular step of each series, and lags, differences and rolling summaries
    read the fitted rows. Where they look back at responses that are not known yet, paths are
    simulated: with :math:`y_{<h}` the responses of a path,

    .. math:: p(y_h) = \frac{1}{S} \sum_s \sum_k P(z_h = k \mid y^{(s)}_{<h}, \theta_s)
        \, f_k(y_h \mid y^{(s)}_{<h}, \theta_s)

    Experts are summed out, so that the figures of a step have less Monte Carlo error than the
    paths' responses (Rao-Blackwell). Otherwise the figures of each step are exact averages over
    draws. Under a Markov gate the weights are the probabilities of the experts after the last
    fitted row, moved on by the transitions, and updated by the responses of each path where paths
    are simulated.

    Parameters
    ----------
    fit : Fit
        A fit of a model with ``time=``.
    steps : int, optional
        Number of rows of each series; by default 48, or as many as ``data`` has.
    data : table, optional
        The next rows, with the columns of times and series and the features, which have to be known
        ahead. It is needed unless all features follow from the time and the rows before; columns of
        groups are those of the series if they are left out. A response is not read, and must be
        left out or missing.
    series : label or list of labels, optional
        Which series; by default all, or those in ``data``.
    paths : int, optional
        Number of simulated paths, at least one for each draw; by default 4000. A multiple of the
        number of draws is simulated, so that all count the same. Left out of account where nothing
        has to be simulated.
    unseen : {"error", "average", "sample"}
        As for :func:`predict`.
    random_seed : int, optional
        Seed of the simulated paths.

    Returns
    -------
    Forecast
        With all that a :class:`Predictive` has, by step.

    Raises
    ------
    SpecError
        For a model without ``time=``, with several responses (take a :func:`margin`), whose lags
        read what does not follow from the response, or whose rows share an expert by group and
        look back at rows ahead; for forecasts that would not fit into memory.
    DataError
        For series without a regular step, features of the next rows that are missing, and ``data``
        that does not continue the fitted rows.

    References
    ----------
    Hamilton, J. D. (1994). Time Series Analysis. Princeton University Press, chapter 22.

    Examples
    --------
    >>> ahead = bm.forecast(fit, 24)  # doctest: +SKIP
    >>> ahead.interval(0.8)  # doctest: +SKIP
    >>> ahead.paths().sum("step").quantile([0.1, 0.9])  # doctest: +SKIP
    """
    fit.one_response("bm.forecast")
    timeline = timeline_of(fit)
    check_one_of("value of `unseen`", unseen, UNSEEN)
    if paths is not None:
        check_whole("paths", paths, 1)
    seed = seeds.resolve(random_seed)
    future = future_rows(fit, steps, data, series, unseen)
    for block in fit.spec.structure.blocks:
        block.check_known(future.rows)
    if fit.spec.structure.has_memory or future.feedback:
        check_fitted_to_the_end(fit, timeline, future.codes, "A forecast of this model")
    return Forecast(fit, future.rows, future=future, stored=_stored(fit, future, paths, seed))


def _stored(fit: Fit, future: FutureRows, paths: int | None, seed: int) -> StoredMixtures | None:
    """Mixtures that depend on the rows before; None if those of the draws need no more."""
    chain = fit.spec.structure.gate.chain is not None
    if not (chain or future.feedback):
        return None
    draws = ForecastMixture(fit, future.rows, future=future).draws
    if not future.feedback:
        return propagated(fit, future, draws)
    if future.rows.observation.group is not None:
        term = future.feedback[0].name
        raise SpecError(
            f"{term!r} looks back at responses ahead, and rows share an expert by "
            f"{fit.spec.row_columns.group!r}: such a forecast is not supported. Forecast as many "
            "steps as the term looks back, or describe the model without `group`."
        )
    count = len(next(iter(draws.values())))
    each = -(-(PATHS if paths is None else paths) // count)
    return simulate_paths(fit, future, draws, each, np.random.default_rng(seed))
