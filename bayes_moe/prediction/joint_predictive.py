"""The posterior predictive distribution of several responses together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import html, names
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.checks import as_numbers, check_one_of
from bayes_moe.core.errors import SpecError, listed
from bayes_moe.data.matrix import Rows
from bayes_moe.families.several import Several
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.expert_quantities import GateQuantities
from bayes_moe.prediction.predictive import (
    HTML_PROBABILITY,
    HTML_ROWS,
    Predictive,
    random_responses,
)
from bayes_moe.results.fit import Fit, posterior_of

if TYPE_CHECKING:
    import xarray as xr

OTHER = "response_2"
"""Second dimension of matrices over responses."""


@dataclass(frozen=True, repr=False, eq=False)
class JointPredictive(GateQuantities):
    """Posterior predictive distribution of several responses for each of some rows.

    Made by :func:`predict` of a fit of ``"cbind(y1, y2) ~ x"``. Results are DataArrays with the
    dimension ``obs_id`` as those of :class:`Predictive`, and ``response``. :meth:`margin` is the
    predictive distribution of one response, with all that a :class:`Predictive` has.
    """

    def __repr__(self) -> str:
        sizes = posterior_of(self.fit.idata).sizes
        return (
            f"JointPredictive of {listed(self.fit.responses)} for {self.rows.size} rows from "
            f"{sizes[names.CHAIN]} x {sizes[names.DRAW]} draws"
        )

    def _repr_html_(self) -> str:
        """HTML for notebooks: means and intervals of the first rows."""
        few = replace(self, rows=self.rows.pick(slice(HTML_ROWS)))
        mean, interval = few.mean(), few.interval(HTML_PROBABILITY)
        figures = zip(mean[names.OBS].values, mean.values, interval.values, strict=True)
        rows = [
            (label, *(f"{m:.4g} ({a:.4g} to {b:.4g})" for m, (a, b) in zip(at, of, strict=True)))
            for label, at, of in figures
        ]
        head = ("row", *self.fit.responses)
        shown = (
            f"Means and {HTML_PROBABILITY:.0%} intervals of {len(rows)} of {self.rows.size} rows."
        )
        return html.view(repr(self), html.table(head, rows, shown))

    def margin(self, response: str) -> Predictive:
        """Return the predictive distribution of one response, as named in the formula."""
        check_one_of("response", response, self.fit.responses)
        own = replace(self.fit, response=self.fit.responses.index(response))
        return Predictive(own, self.rows, self.top_k)

    def mean(self, *, draws: bool = False) -> xr.DataArray:
        """Return ``E[y | x]`` (obs_id, response).

        With ``draws=True``, that of every draw (chain, draw, obs_id, response).
        """
        return _each(self, lambda margin: margin.mean(draws=draws))

    def sd(self) -> xr.DataArray:
        """Return the predictive standard deviations (obs_id, response)."""
        return _each(self, lambda margin: margin.sd())

    def interval(self, ci_prob: float | None = None) -> xr.DataArray:
        """Return equal-tailed predictive intervals of each response (obs_id, response, ci_bound).

        Each has its probability by itself, and not together with those of the others. See
        :meth:`Predictive.interval`.
        """
        return _each(self, lambda margin: margin.interval(ci_prob))

    def quantile(self, p: float | Sequence[float]) -> xr.DataArray:
        """Return quantiles of each response (obs_id, response) or (obs_id, response, quantile).

        See :meth:`Predictive.quantile`.
        """
        return _each(self, lambda margin: margin.quantile(p))

    def expert_means(self, *, draws: bool = False) -> xr.DataArray:
        """Return the mean responses of each expert (obs_id, response, expert)."""
        return _each(self, lambda margin: margin.expert_means(draws=draws))

    def covariance(self) -> xr.DataArray:
        """Return predictive covariance matrices (obs_id, response, response_2).

        They include the covariance within experts, between experts, and between draws.
        """
        labels = list(self.fit.responses)
        return self._mixtures.label(
            self._mixtures.map(_covariance), {names.RESPONSE_DIM: labels, OTHER: labels}
        )

    def correlation(self) -> xr.DataArray:
        """Return predictive correlation matrices (obs_id, response, response_2)."""
        covariance = self.covariance()
        sd = np.sqrt(np.einsum("ojj->oj", covariance.values))
        return covariance.copy(data=covariance.values / sd[:, :, None] / sd[:, None, :])

    def logpdf(self, y: Any) -> xr.DataArray:
        """Return the log predictive density (obs_id) of all responses together at ``y``.

        Parameters
        ----------
        y : array
            Responses (response,) for all rows, or (obs, response): one of each row.
        """
        values, count = as_numbers("y", y), len(self.fit.responses)
        if values.shape not in ((count,), (self.rows.size, count)):
            raise SpecError(
                f"`y` must have one number for each of {count} responses, or be (row, response) "
                f"for {self.rows.size} rows; its shape is {values.shape}."
            )
        full = np.broadcast_to(values, (self.rows.size, count))

        def log_mean(mixture: Mixture, _: Rows, own: np.ndarray) -> np.ndarray:
            density = mixture.log_density(own.T)
            found: np.ndarray = NUMERIC.logsumexp(density, axis=0) - np.log(len(density))
            return found

        return self._mixtures.label(self._mixtures.map(log_mean, full))

    def pdf(self, y: Any) -> xr.DataArray:
        """Return the predictive density (obs_id) of all responses together; see :meth:`logpdf`."""
        log_density = self.logpdf(y)
        return log_density.copy(data=np.exp(log_density.values))

    def sample(self, size: int | None = None, *, random_seed: int | None = None) -> xr.DataArray:
        """Return random responses (chain, draw, obs_id, response) or (sample, obs_id, response).

        See :meth:`Predictive.sample`.
        """
        return random_responses(self._mixtures, size, random_seed)


def _each(joint: JointPredictive, figure: Callable[[Predictive], xr.DataArray]) -> xr.DataArray:
    """A figure (..., obs_id, ...) of every response, (..., obs_id, response, ...)."""
    import xarray as xr

    responses = joint.fit.responses
    parts = [figure(joint.margin(name)) for name in responses]
    joined = xr.concat(parts, dim=names.RESPONSE_DIM)
    at = parts[0].dims.index(names.OBS) + 1
    dims = (*parts[0].dims[:at], names.RESPONSE_DIM, *parts[0].dims[at:])
    return joined.assign_coords({names.RESPONSE_DIM: list(responses)}).transpose(*dims)


def _covariance(mixture: Mixture, _: Rows) -> np.ndarray:
    """Covariance matrices (obs, response, response) of the average over draws and experts."""
    samples, weights = len(mixture.weights), mixture.weights
    means = mixture.moments("mean")  # (sample, response, expert, obs)
    families = [b.family for b in mixture.blocks if isinstance(b.family, Several)]
    within = np.concatenate(
        [
            f.covariance(p) + np.zeros((samples, len(b.positions), means.shape[-1], 1, 1))
            for f, b, p in zip(families, mixture.blocks, mixture.params, strict=True)
        ],
        axis=1,
    )
    overall = np.einsum("seo,sreo->ro", weights, means) / samples
    centred = means - overall[:, None]
    between = np.einsum("seo,sreo,sqeo->orq", weights, centred, centred, optimize=True)
    return (np.einsum("seo,seorq->orq", weights, within) + between) / samples


def predictive_of(fit: Fit, rows: Rows, top_k: int | None = None) -> Predictive | JointPredictive:
    """Return the predictive distribution of a fit's response, or of its several ones, on rows."""
    if len(fit.responses) > 1:
        return JointPredictive(fit, rows, top_k)
    return Predictive(fit, rows, top_k)
