"""The posterior predictive distribution of the response, from the draws and without sampling.

The predictive of a row is the equal-weight mixture, over posterior draws, of the mixtures of
experts of the draws: its mean, variance, density and cdf are averages, its quantiles roots of
the averaged cdf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import html, names, seeds
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.checks import as_numbers, check_between, check_share, check_whole, is_number
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Rows
from bayes_moe.model.allocation import allocation_of
from bayes_moe.model.memory import has_unseen_path, random_paths
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction import density_modes, highest_density
from bayes_moe.prediction.chunked_mixture import ChunkedMixture
from bayes_moe.prediction.class_quantities import (
    ClassQuantities,
    has_classes,
    probability_inside,
)
from bayes_moe.prediction.density_modes import by_rows, searched_turning_points
from bayes_moe.prediction.expert_quantities import check_distribution, check_ordered, only_densities
from bayes_moe.prediction.highest_density import highest_density_sets, searched_sets
from bayes_moe.prediction.quantiles import cdf
from bayes_moe.prediction.recorded_rows import check_uncut
from bayes_moe.results.fit import posterior_of

if TYPE_CHECKING:
    import xarray as xr


HTML_ROWS = 5
HTML_PROBABILITY = 0.9
"""Rows and intervals of the HTML view, which is made whenever a notebook shows a prediction."""


@dataclass(frozen=True, repr=False, eq=False)
class Predictive(ClassQuantities):
    """Posterior predictive distribution of the response for each of some rows.

    Made by :func:`predict`. Results are DataArrays with the dimension ``obs_id``: the labels of
    the rows in a pandas table with an index of its own, with their positions as the coordinate
    ``row``, and else the positions. So ``table.assign(p=predictive.mean().to_series())`` pairs rows
    by label. Without a table, they are those of the fitted one. Methods with ``draws=True`` keep
    the posterior draws (chain, draw, ...) instead of averaging over them. With ``top_k`` only so
    many experts count for each row and draw.
    """

    def __repr__(self) -> str:
        sizes = posterior_of(self.fit.idata).sizes
        sparse = "" if self.top_k is None else f", the {self.top_k} heaviest experts of each"
        what = "" if self.rows.observation.limits is None else "what is recorded of "
        return (
            f"Predictive of {what}{self.fit.responses[0]!r} for {self.rows.size} rows from "
            f"{sizes[names.CHAIN]} x {sizes[names.DRAW]} draws{sparse}"
        )

    def _repr_html_(self) -> str:
        """HTML for notebooks: what is predicted, and means and intervals of the first rows."""
        few = replace(self, rows=self.rows.pick(slice(HTML_ROWS)))
        labels = few.weights()[names.OBS].values
        if only_densities(self.fit):
            weights = few.weights()
            labelled = (f"weight of {k}" for k in self.fit.spec.expert_labels)
            head: tuple[str, ...] = ("row", *labelled)
            rows = [
                (label, *(f"{value:.4g}" for value in numbers))
                for label, numbers in zip(labels, weights.values, strict=True)
            ]
        elif has_classes(self.fit):
            head = ("row", "class", "probability", "entropy")
            values = [(text, (p, h)) for text, p, h in few.likeliest()]
            rows = [
                (label, text, *(f"{value:.4g}" for value in numbers))
                for label, (text, numbers) in zip(labels, values, strict=True)
            ]
        else:
            head = ("row", "mean", f"{HTML_PROBABILITY:.0%} interval, from", "to")
            figures = np.column_stack([few.mean(), few.interval(HTML_PROBABILITY)])
            rows = [
                (label, *(f"{value:.4g}" for value in numbers))
                for label, numbers in zip(labels, figures, strict=True)
            ]
        shown = f"The first {len(rows)} of {self.rows.size} rows." if rows else "No rows."
        return html.view(repr(self), html.table(head, rows, shown))

    def mean(self, *, draws: bool = False) -> xr.DataArray:
        """Return ``E[y | x]`` (obs_id): the mean over draws of ``sum_k w_k(x) E_k[y | x]``.

        With ``draws=True``, that sum for every draw (chain, draw, obs_id): the uncertainty of
        the regression function.
        """
        check_ordered(self.fit, "mean", "probabilities()")
        return self._mixtures.summarise(lambda m, _: m.means(), draws=draws)

    def sd(self) -> xr.DataArray:
        """Return the predictive standard deviation (obs_id).

        It includes the spread within experts, between experts, and between draws. For a
        Student t it is infinite if a draw has ``nu <= 2``, and NaN if one has ``nu <= 1``.
        """

        def sd(mixture: Mixture, _: Rows) -> np.ndarray:
            # Law of total variance, over draws and experts at once.
            means = mixture.counted(mixture.moments("mean"))
            overall = np.einsum("seo,seo->o", mixture.weights, means) / len(means)
            second = mixture.counted(mixture.moments("variance") + (means - overall) ** 2)
            return np.sqrt(np.einsum("seo,seo->o", mixture.weights, second) / len(means))

        check_ordered(self.fit, "standard deviation", "entropy()")
        return self._mixtures.label(self._mixtures.map(sd))

    def interval(self, ci_prob: float | None = None) -> xr.DataArray:
        """Return the equal-tailed predictive interval (obs_id, ci_bound).

        Parameters
        ----------
        ci_prob : float, optional
            Probability inside; by default ArviZ's ``rcParams["stats.ci_prob"]``.
        """
        inside = probability_inside(ci_prob)
        bounds = self.quantile([(1 - inside) / 2, (1 + inside) / 2])
        renamed = bounds.rename({names.QUANTILE: names.CI_BOUND})
        return renamed.assign_coords({names.CI_BOUND: list(names.CI_BOUNDS)})

    def logpdf(self, y: Any, *, grid: bool = False) -> xr.DataArray:
        """Return the log predictive density at ``y``.

        Of a discrete family it is a log probability: minus infinity between the whole numbers. At
        an atom, such as the number of a point mass beside experts with a density, it is the log of
        the atom's probability, and elsewhere that of a density.

        Parameters
        ----------
        y : float or array
            One value for all rows, or one value a row: the result is (obs_id). With
            ``grid=True`` every row is evaluated at every value: (obs_id, y).
        """
        check_distribution(self.fit, "densities of other responses")

        def log_mean(mixture: Mixture, y: np.ndarray) -> np.ndarray:
            # Densities underflow in the tails.
            density = mixture.log_density(y)
            return NUMERIC.logsumexp(density, axis=0) - np.log(len(density))

        return _evaluate_at(self._mixtures, log_mean, y, grid)

    def pdf(self, y: Any, *, grid: bool = False) -> xr.DataArray:
        """Return the predictive density at ``y``; see :meth:`logpdf`."""
        log_density = self.logpdf(y, grid=grid)
        return log_density.copy(data=np.exp(log_density.values))

    def cdf(self, y: Any, *, grid: bool = False) -> xr.DataArray:
        """Return the predictive probability of a response up to ``y``; see :meth:`logpdf`."""
        return _evaluate_at(self._mixtures, cdf, y, grid)

    def quantile(self, p: float | Sequence[float]) -> xr.DataArray:
        """Return predictive quantiles: the root of ``cdf(q) = p``.

        The probability of the nearer tail has a relative error of about 1e-11: that below ``q``
        up to the median, that above it beyond. Where the cdf jumps over ``p`` at an atom, the
        quantile is the atom. Of a discrete family the quantile is the least
        whole number ``q`` with ``cdf(q) >= p``. An :meth:`interval` between two of them, both
        included, has at least its probability.

        Parameters
        ----------
        p : float or sequence of float
            Probabilities strictly between 0 and 1. One gives (obs_id), several give
            (obs_id, quantile).
        """
        check_ordered(self.fit, "quantiles", "probability_interval()")
        levels = as_numbers("p", p)
        if levels.ndim > 1 or not levels.size:
            raise SpecError(
                "`p` must be one probability or a non-empty sequence of them; it has the shape "
                f"{levels.shape}."
            )
        for level in np.atleast_1d(levels):
            check_share("p", float(level))
        values = self._mixtures.quantiles(np.atleast_1d(levels))
        if levels.ndim == 0:
            return self._mixtures.label(values[..., 0])
        return self._mixtures.label(values, {names.QUANTILE: levels})

    def modes(
        self, *, most: int = 5, prominence: float = 0.1, min_probability: float = 1e-3
    ) -> xr.Dataset:
        """Return modes of the predictive density of each row, and the probability about each.

        Of a multimodal density the mean can be an unlikely response; the modes are likely ones.

        Parameters
        ----------
        most : int
            Most modes of a row.
        prominence : float
            Between 0 and 1: how far the density must fall between a mode and a higher one, as a
            part of its own height.
        min_probability : float
            Least probability of a mode, at least 0 and below 1. That of a mode with less is added
            to a neighbour's; an atom with less is left out.

        Returns
        -------
        xarray.Dataset
            ``location``, ``density`` and ``probability`` (obs_id, mode), the most probable mode
            first, NaN where there are fewer, and ``n_modes`` (obs_id,). The least density between
            two neighbouring modes divides their probability. An atom is a mode, whose density and
            probability are its probability. The density of a mode is infinite
            where a gamma has its pole, at 0. Maxima are searched in the density of at most 100
            draws, and refined in that of all.

        Raises
        ------
        SpecError
            If a setting is out of range.
        """
        import xarray as xr

        check_ordered(self.fit, "modes between them", "classes()")
        check_uncut(self.rows, "modes", "pdf()")
        check_whole("most", most, 1)
        check_between("prominence", prominence, 0, 1)
        if not is_number(min_probability) or not 0 <= min_probability < 1:
            raise SpecError(
                f"`min_probability` must be at least 0 and below 1; it is {min_probability!r}."
            )

        def modes(mixture: Mixture, searched: np.ndarray) -> np.ndarray:
            settings = prominence, most, min_probability
            return density_modes.density_modes(mixture, searched, *settings)

        points = self._searched_turning_points()
        values = self._mixtures.map(lambda m, _, own: by_rows(modes, m, own), points)
        mode = {names.MODE: np.arange(most)}
        quantities = {
            name: self._mixtures.label(values[..., j], mode)
            for j, name in enumerate((names.LOCATION, names.DENSITY, names.PROBABILITY))
        }
        count = self._mixtures.label(np.isfinite(values[..., 0]).sum(axis=-1))
        return xr.Dataset({**quantities, names.N_MODES: count})

    def hdr(self, prob: float = 0.9) -> xr.Dataset:
        """Return highest-density sets: the smallest sets of responses of a given probability.

        Where the density has several humps, such a set is several intervals, and leaves out the
        unlikely responses between them, which an equal-tailed :meth:`interval` has.

        Parameters
        ----------
        prob : float
            Probability of each set, strictly between 0 and 1. The sets of a discrete family are
            runs of whole numbers, and have at least this probability. Atoms are in a set first,
            the most probable one first; the density has the rest of the probability.

        Returns
        -------
        xarray.Dataset
            ``bounds`` (obs_id, interval, ci_bound), in increasing order, both ends included;
            ``probability`` (obs_id, interval) of each interval; NaN where a row has fewer than
            others; and ``n_intervals`` (obs_id,).

        Raises
        ------
        SpecError
            If ``prob`` is no number strictly between 0 and 1.
        """
        import xarray as xr

        check_share("prob", prob)
        check_ordered(self.fit, "intervals", "probabilities()")
        check_uncut(self.rows, "highest-density sets", "interval()")

        def search(mixture: Mixture) -> np.ndarray:
            return searched_sets(mixture, prob)

        def sets(mixture: Mixture, *searched: np.ndarray) -> np.ndarray:
            return highest_density_sets(mixture, prob, *searched)

        mixtures, points = self._mixtures, self._searched_turning_points()
        guess = mixtures.map_few(lambda m, _: by_rows(search, m), highest_density.PILOT_DRAWS)
        values = mixtures.map(lambda m, _, *own: by_rows(sets, m, *own), points, guess)
        interval = {names.INTERVAL: np.arange(values.shape[1])}
        bounds = {**interval, names.CI_BOUND: list(names.CI_BOUNDS)}
        return xr.Dataset(
            {
                names.BOUNDS: self._mixtures.label(values[..., :2], bounds),
                names.PROBABILITY: self._mixtures.label(values[..., 2], interval),
                names.N_INTERVALS: self._mixtures.label(np.isfinite(values[..., 2]).sum(axis=-1)),
            }
        )

    def _searched_turning_points(self) -> np.ndarray:
        """Turning points (obs, maximum, 4) of the density of some draws."""
        return self._mixtures.map_few(
            lambda m, _: by_rows(searched_turning_points, m), density_modes.PILOT_DRAWS
        )

    def sample(self, size: int | None = None, *, random_seed: int | None = None) -> xr.DataArray:
        """Return random responses: whole numbers from discrete families.

        Parameters
        ----------
        size : int, optional
            Number of responses per row; each is from one random posterior draw, the same for all
            rows: (sample, obs_id). By default one response per posterior draw:
            (chain, draw, obs_id).
        random_seed : int, optional
            The same seed gives the same responses.
        """
        return random_responses(self._mixtures, size, random_seed)


def random_responses(
    mixtures: ChunkedMixture, size: int | None, random_seed: int | None
) -> xr.DataArray:
    """Random responses of rows; see :meth:`Predictive.sample`.

    Of several responses, the last dimension is over these.
    """
    fit, draws = mixtures.fit, mixtures.draws
    if size is not None:
        check_whole("size", size, 1)
    n = len(next(iter(draws.values())))
    rng = np.random.default_rng(seeds.resolve(random_seed))
    if size is not None:
        # All rows share the posterior draw, so that responses are draws of their joint law.
        picked = rng.integers(n, size=size)
        draws = {name: values[picked] for name, values in draws.items()}
    several = {names.RESPONSE_DIM: list(fit.responses)} if len(fit.responses) > 1 else {}
    responses = responses_of(mixtures, draws, rng)
    by_row = np.moveaxis(responses, -1, 1)
    if size is None:
        return mixtures.label_draws(by_row, several)
    dims = {names.SAMPLE: np.arange(size), **several}
    labelled = mixtures.label(np.swapaxes(by_row, 0, 1), dims)
    return labelled.transpose(names.SAMPLE, names.OBS, ...)


def responses_of(
    mixtures: ChunkedMixture, draws: Mapping[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Random responses (sample, obs) of draws, or (sample, response, obs) of several responses."""
    fit, n = mixtures.fit, len(next(iter(draws.values())))
    dtype = np.int64 if fit.spec.structure.discrete else float
    several = (len(fit.responses),) if len(fit.responses) > 1 else ()
    responses = np.empty((n, *several, mixtures.rows.size), dtype=dtype)
    paths = None
    if has_unseen_path(fit.spec.structure, mixtures.rows):
        paths = random_paths(fit.spec.structure, draws, mixtures.rows, rng)
    for where, part, mixture in mixtures.chunks(draws):
        chosen = None if paths is None else paths[:, where]
        responses[..., where] = mixture.random(rng, allocation_of(part.observation), chosen)
    return responses


def _evaluate_at(
    mixtures: ChunkedMixture,
    function: Callable[[Mixture, np.ndarray], np.ndarray],
    y: Any,
    grid: bool,
) -> xr.DataArray:
    """Return a function of mixture and response (obs_id), or (obs_id, y) on a grid."""
    values = as_numbers("y", y)
    if grid:
        points = np.atleast_1d(values)
        if points.ndim > 1:
            raise SpecError(
                f"`y` must be one-dimensional with grid=True; it has the shape {points.shape}."
            )

        def at_points(mixture: Mixture, _: Rows) -> np.ndarray:
            rows = mixture.log_weights.shape[-1]
            return np.stack([function(mixture, np.full(rows, p)) for p in points], axis=-1)

        return mixtures.label(mixtures.map(at_points), {names.RESPONSE: points})
    rows = mixtures.rows
    if values.ndim and values.shape != (rows.size,):
        raise SpecError(
            f"`y` has shape {values.shape}, but there are {rows.size} rows: give one "
            "value, one a row, or grid=True to evaluate every row at every value."
        )
    response = np.broadcast_to(values, (rows.size,))
    return mixtures.label(mixtures.map(lambda m, _, own: function(m, own), response))
