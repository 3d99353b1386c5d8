"""predict, log_density and responsibilities: predictions of a fit for rows of a table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.checks import check_one_of, is_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.group_terms import AVERAGE, ERROR, UNSEEN
from bayes_moe.data.matrix import Rows
from bayes_moe.data.responses import response_parts
from bayes_moe.model.allocation import (
    observed_log_density,
    observed_responsibilities,
    with_groups,
)
from bayes_moe.model.allocation_checks import check_shared_rows
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.shared_effects import has_shared_effects
from bayes_moe.prediction.chunked_mixture import mixtures_on, transformed
from bayes_moe.prediction.joint_predictive import JointPredictive, predictive_of
from bayes_moe.prediction.predictive import Predictive
from bayes_moe.prediction.recorded_rows import with_limits
from bayes_moe.results.by_group import by_group
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr


def predict(
    fit: Fit,
    rows: Any = None,
    *,
    top_k: int | None = None,
    unseen: str = ERROR,
    observed: bool = False,
) -> Predictive | JointPredictive:
    """Return the posterior predictive distribution of the response for new rows.

    The response is the left-hand side of the formula: of ``log(y) ~ x``, predictions are of
    ``log(y)``. Of a censored or truncated response they are of the variable itself, without limits,
    unless ``observed`` is True.

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
    unseen : {"error", "average", "sample"}
        What is done with groups of random effects that no fitted row has: an error, effects of 0
        (the average over the groups), or effects drawn from their distribution, once for each draw
        of the fit and each group. The draws depend on the names of the groups alone.
    observed : bool
        Whether predictions are of what would be recorded of rows that are recorded at all: given
        that the response is between the limits of ``truncated``, and with a limit of ``censored``
        in place of a response beyond it. Weights are then those of recorded rows, and the cdf
        jumps at the limits of censoring, where ``pdf`` is a probability. New rows need the columns
        of limits, not the response, if the formula states the limits, ``censored(y, lower=0)`` or
        ``censored(y, upper=limit)``. Of ``censored(y, status=s)`` and ``censored(lower=l,
        upper=u)`` only a row that is censored on one side has a known limit, its value: others are
        an error. A response without limits is recorded as it is.

    Returns
    -------
    Predictive
        With ``mean``, ``sd``, ``interval``, ``pdf``, ``logpdf``, ``cdf``, ``quantile``,
        ``modes``, ``sample``, ``weights``, ``expert_means``, ``expert_locations`` and
        ``approximation_error``; of a response of classes also ``probabilities``,
        ``probability_interval``, ``classes``, ``entropy`` and ``expert_probabilities``. Of several
        responses a :class:`JointPredictive`, with the figures of each response and of them
        together. Nothing is sampled. Large work is done by compiled loops, which are compiled once
        a machine; small work needs nothing to be compiled.

    Raises
    ------
    DataError
        For missing columns or values, and categories that the fitted rows do not have; with
        ``observed`` also for rows of which no limit is known.
    SpecError
        If ``top_k`` is not a whole number between 1 and the number of experts, or ``observed`` is
        no boolean.
    """
    if top_k is not None:
        if not is_whole(top_k) or not 1 <= top_k <= fit.spec.n_experts:
            raise SpecError(
                f"`top_k` must be a whole number between 1 and the number of experts, "
                f"{fit.spec.n_experts}; it is {top_k!r}."
            )
        if fit.spec.structure.gate.chain is not None:
            raise SpecError(
                "`top_k` cannot leave out experts of a Markov gate: the weights of later rows "
                "depend on all of them."
            )
        top_k = int(top_k)
    check_one_of("value of `unseen`", unseen, UNSEEN)
    if not isinstance(observed, bool):
        raise SpecError(f"`observed` must be True or False; it is {observed!r:.80}.")
    found = _predicted_rows(fit, rows, unseen)
    if observed:
        found = with_limits(fit.spec, fit.design, found, rows)
    return predictive_of(fit, found, top_k)


def predict_one(fit: Fit, rows: Any = None) -> Predictive:
    """Return the predictive distribution of the one response that predictions of a fit are of.

    Raises
    ------
    SpecError
        For a fit with several responses.
    """
    fit.one_response()
    return Predictive(fit, _predicted_rows(fit, rows, AVERAGE))


def _predicted_rows(fit: Fit, rows: Any, unseen: str) -> Rows:
    """Rows of a table, with their groups if it has a column of them."""
    if rows is None:
        return fit.design.rows
    found = with_groups(transformed(fit, rows, unseen), fit.spec.row_columns, rows)
    check_shared_rows(fit.spec.structure, fit.spec.row_columns, found)
    return found


def margin(fit: Fit, response: str) -> Fit:
    """Return the fit, with one of its responses as that of predictions and plots.

    Its draws are the same. :func:`predict` and the plots are then of the response's marginal
    distribution, and :func:`log_density` is that of it alone. :func:`responsibilities` are still
    given all responses, and comparisons, diagnoses, trees and saved files are of all of them.

    Parameters
    ----------
    fit : Fit
        A fit with several responses, ``"cbind(y1, y2) ~ x"``.
    response : str
        One of them, as in the formula.

    Raises
    ------
    SpecError
        If it is none of them.

    Examples
    --------
    >>> bm.plot_predictive(bm.margin(fit, "y1"), "x")  # doctest: +SKIP
    """
    every = response_parts(fit.spec.response)
    check_one_of("response", response, every)
    return replace(fit, response=every.index(response) if len(every) > 1 else None)


def log_density(fit: Fit, rows: Any = None, *, unseen: str = ERROR) -> xr.DataArray:
    """Return the log density of observed responses under each draw (chain, draw, obs_id).

    Of rows that share an expert by group, it is that of the groups (chain, draw, group_id).
    Of several responses it is their joint density; of a :func:`margin`, that of the one.

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with features and response, and the column of groups if the model has one; None means
        the fitted rows. Results have row labels as those of :func:`predict`.
    unseen : {"error", "average", "sample"}
        As for :func:`predict`.
    """
    mixtures = mixtures_on(fit, rows, with_response=True, unseen=unseen)
    j = fit.response
    if j is not None and has_shared_effects(fit.spec.structure, fit.spec.row_columns):
        raise SpecError(
            "The density of one of several responses has no integral over the effects of groups "
            "that share an expert: take that of all of them, bm.log_density(fit) of the fit itself."
        )

    def log_densities(mixture: Mixture, part: Rows) -> np.ndarray:
        return observed_log_density(
            mixture, part if j is None else part.with_response(part.observed[j])
        )

    by_row = mixtures.summarise(log_densities, draws=True)
    return by_group(fit.spec, mixtures.rows, by_row)


def responsibilities(fit: Fit, rows: Any = None, *, unseen: str = ERROR) -> xr.DataArray:
    """Return posterior probabilities of the experts (chain, draw, obs_id, expert).

    Of rows that share an expert by group, they are those of the groups, given all rows of a group
    in the table (chain, draw, group_id, expert).

    ``r_k = w_k(x) f_k(y | x) / sum_j w_j(x) f_j(y | x)``: gate weights updated by the response, by
    all responses of a fit with several.

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with features and response, and the column of groups if the model has one; None means
        the fitted rows. Results have row labels as those of :func:`predict`.
    unseen : {"error", "average", "sample"}
        As for :func:`predict`.
    """
    own = replace(fit, response=None)
    mixtures = mixtures_on(own, rows, with_response=True, unseen=unseen)
    by_row = mixtures.summarise(observed_responsibilities, draws=True)
    return by_group(fit.spec, mixtures.rows, by_row)


def row_responsibilities(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return :func:`responsibilities` of rows, the same at all rows of a group.

    Parameters
    ----------
    fit : Fit
        A fit.
    rows : table, optional
        Rows with features and response; None means the fitted rows.
    """
    mixtures = mixtures_on(replace(fit, response=None), rows, with_response=True)
    return mixtures.summarise(observed_responsibilities, draws=True)
