"""New rows -> the posterior predictive distribution, computed from the draws without sampling.

The predictive of a row is the equal-weight mixture, over posterior draws, of the mixtures of
experts of the draws: its mean, variance, density and cdf are averages, its quantiles roots of
the averaged cdf. All is computed in chunks of rows, so memory does not grow with the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from os import cpu_count
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names, seeds
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.checks import check_share, check_whole
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.matrix import Rows
from bayes_moe.model.evaluation import Mixture, chunks
from bayes_moe.prediction.density_modes import peaks
from bayes_moe.prediction.quantiles import cdf, quantiles
from bayes_moe.results.draws import samples
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr

QUANTILE = "quantile"
CI_BOUND = "ci_bound"
SAMPLE = "sample"

Reader = Callable[[Mixture, Rows], np.ndarray]


@dataclass(frozen=True, repr=False, eq=False)
class Predictive:
    """Posterior predictive distribution of the response for each of some rows.

    Made by :func:`predict`. Results are DataArrays with the dimension ``obs_id``, the position
    of a row in the given table. Methods with ``draws=True`` keep the posterior draws
    (chain, draw, ...) instead of averaging over them. With ``top_k`` only so many experts count
    for each row and draw.
    """

    fit: Fit
    rows: Rows
    top_k: int | None = None

    def __repr__(self) -> str:
        sizes = self.fit.idata[names.POSTERIOR].sizes
        sparse = "" if self.top_k is None else f", the {self.top_k} heaviest experts of each"
        return (
            f"Predictive of {self.fit.spec.response!r} for {self.rows.size} rows from "
            f"{sizes[names.CHAIN]} x {sizes[names.DRAW]} draws{sparse}"
        )

    def mean(self, *, draws: bool = False) -> xr.DataArray:
        """Return ``E[y | x]`` (obs_id): the mean over draws of ``sum_k w_k(x) E_k[y | x]``.

        With ``draws=True``, that sum for every draw (chain, draw, obs_id): the uncertainty of
        the regression function.
        """
        return self._reduce(lambda m, _: m.means(), draws=draws)

    def sd(self) -> xr.DataArray:
        """Return the predictive standard deviation (obs_id).

        It holds the spread within experts, between experts, and between draws. For a
        Student t it is infinite if a draw has ``nu <= 2``, and NaN if one has ``nu <= 1``.
        """

        def sd(mixture: Mixture, _: Rows) -> np.ndarray:
            means = mixture.counted(mixture.expert_means())
            overall = np.einsum("seo,seo->o", mixture.weights, means) / len(means)
            second = mixture.counted(mixture.expert_variances() + (means - overall) ** 2)
            return np.sqrt(np.einsum("seo,seo->o", mixture.weights, second) / len(means))

        return self._array(self._over_rows(sd))

    def interval(self, ci_prob: float | None = None) -> xr.DataArray:
        """Return the equal-tailed predictive interval (obs_id, ci_bound).

        Parameters
        ----------
        ci_prob : float, optional
            Probability inside; by default ArviZ's ``rcParams["stats.ci_prob"]``.
        """
        if ci_prob is None:
            from arviz_base import rcParams

            ci_prob = float(rcParams["stats.ci_prob"])
        check_share("ci_prob", ci_prob)
        bounds = self.quantile([(1 - ci_prob) / 2, (1 + ci_prob) / 2])
        renamed = bounds.rename({QUANTILE: CI_BOUND})
        return renamed.assign_coords({CI_BOUND: ["lower", "upper"]})

    def logpdf(self, y: Any, *, grid: bool = False) -> xr.DataArray:
        """Return the log predictive density at ``y``.

        Of a discrete family it is a log probability: minus infinity between the whole numbers.

        Parameters
        ----------
        y : float or array
            One value for all rows, or one value a row: the result is (obs_id). With
            ``grid=True`` every row is evaluated at every value: (obs_id, y).
        """

        def log_mean(mixture: Mixture, y: np.ndarray) -> np.ndarray:
            density = mixture.log_density(y)
            return NUMERIC.logsumexp(density, axis=0) - np.log(len(density))

        return self._at(log_mean, y, grid)

    def pdf(self, y: Any, *, grid: bool = False) -> xr.DataArray:
        """Return the predictive density at ``y``; see :meth:`logpdf`."""
        log_density = self.logpdf(y, grid=grid)
        return log_density.copy(data=np.exp(log_density.values))

    def cdf(self, y: Any, *, grid: bool = False) -> xr.DataArray:
        """Return the predictive probability of a response up to ``y``; see :meth:`logpdf`."""
        return self._at(cdf, y, grid)

    def quantile(self, p: float | Sequence[float]) -> xr.DataArray:
        """Return predictive quantiles: the root of ``cdf(q) = p``, to 1e-9 in probability.

        Of a discrete family the quantile is the least whole number ``q`` with ``cdf(q) >= p``, to
        1e-12 in probability. An :meth:`interval` between two of them, both included, has at least
        its probability.

        Parameters
        ----------
        p : float or sequence of float
            Probabilities strictly between 0 and 1. One gives (obs_id), several give
            (obs_id, quantile).
        """
        levels = np.asarray(p, dtype=float)
        for level in np.atleast_1d(levels):
            check_share("p", level)
        found = self._over_rows(lambda m, _: quantiles(m, np.atleast_1d(levels)))
        if levels.ndim == 0:
            return self._array(found[..., 0])
        return self._array(found, {QUANTILE: levels})

    def modes(self, *, most: int = 5, prominence: float = 0.1) -> xr.Dataset:
        """Modes of the predictive density of each row, and the probability about each.

        Where several responses are likely and what lies between them is not, the mean is no
        prediction; the modes are.

        Parameters
        ----------
        most : int
            Most modes of a row.
        prominence : float
            Between 0 and 1: how far the density must fall between a mode and a higher one, as a
            part of its own height.

        Returns
        -------
        xarray.Dataset
            ``location``, ``density`` and ``probability`` (obs_id, mode), the most probable mode
            first, NaN where there are fewer, and ``n_modes`` (obs_id,). The least density between
            two neighbouring modes divides their probability. At most 200 draws are read.

        Raises
        ------
        SpecError
            For settings that cannot be.
        """
        import xarray as xr

        check_whole("most", most, 1)
        if isinstance(prominence, bool) or not 0 <= prominence <= 1:
            raise SpecError(f"`prominence` must lie between 0 and 1; it is {prominence!r}.")

        def read(mixture: Mixture, _: Rows) -> np.ndarray:
            found = peaks(mixture, prominence, most)
            return np.stack([found.location, found.density, found.probability], axis=-1)

        values = self._over_rows(read)  # (obs, mode, figure)
        names_of = ("location", "density", "probability")
        figures = {
            name: self._array(values[..., j], {names.MODE: np.arange(most)})
            for j, name in enumerate(names_of)
        }
        count = self._array(np.isfinite(values[..., 0]).sum(axis=-1))
        return xr.Dataset({**figures, "n_modes": count})

    def sample(self, size: int | None = None, *, random_seed: int | None = None) -> xr.DataArray:
        """Draw responses: whole numbers from discrete families.

        Parameters
        ----------
        size : int, optional
            How many; each comes from one posterior draw taken at random, the same for all rows:
            (sample, obs_id). Left out, one response for every posterior draw:
            (chain, draw, obs_id).
        random_seed : int, optional
            The same seed gives the same responses.
        """
        if size is not None and (not isinstance(size, int | np.integer) or size < 1):
            raise ValueError(f"`size` must be a whole number of at least 1; it is {size!r}.")
        draws = self._draws
        n = len(next(iter(draws.values())))
        rng = np.random.default_rng(seeds.resolve(random_seed))
        if size is not None:
            picked = rng.integers(n, size=size)
            draws = {name: values[picked] for name, values in draws.items()}
        kind = np.int64 if self.fit.spec.discrete else float
        found = np.empty((n if size is None else size, self.rows.size), dtype=kind)
        for where, _, mixture in self._chunks(draws):
            found[:, where] = mixture.random(rng)
        if size is None:
            return self._draw_array(found)
        return self._array(found.T, {SAMPLE: np.arange(size)}).transpose(SAMPLE, names.OBS)

    def weights(self, *, draws: bool = False) -> xr.DataArray:
        """Return gate weights (obs_id, expert): the probability of each expert before ``y``."""
        return self._reduce(lambda m, _: m.weights, draws=draws)

    def expert_means(self, *, draws: bool = False) -> xr.DataArray:
        """Return the mean response of each expert (obs_id, expert)."""
        return self._reduce(lambda m, _: m.expert_means(), draws=draws)

    def expert_locations(self, *, draws: bool = False) -> xr.DataArray:
        """Return the location of each expert (obs_id, expert).

        It is the mean where there is one, and the centre of a Student t that has none.
        """
        return self._reduce(lambda m, _: m.expert_locations(), draws=draws)

    def approximation_error(self) -> xr.Dataset:
        r"""Return what ``top_k`` changes, by row.

        Let ``d_s = sum of w_sk(x)`` over the experts ``k`` that draw ``s`` leaves out. Its full
        mixture is ``p_s = (1 - d_s) q_s + d_s r_s``, with ``q_s`` the sparse mixture and ``r_s``
        that of the experts left out. So ``p_s - q_s = d_s (r_s - q_s)``, and their total variation
        distance is ``d_s TV(r_s, q_s) <= d_s``. The predictives are averages over draws, and the
        distance of averages is at most the average distance: ``TV(p, q) <= mean_s d_s``. The bound
        is reached where the experts left out and those kept do not overlap.

        Returns
        -------
        xarray.Dataset
            ``dropped_weight`` (obs_id), posterior mean of the gate weight that is left out: no
            predictive probability is off by more than that. ``mean_shift`` (obs_id), the sparse
            predictive mean less the full one. Both are zero without ``top_k``.
        """
        import xarray as xr

        k = self.fit.spec.n_experts if self.top_k is None else self.top_k

        def errors(full: Mixture, _: Rows) -> np.ndarray:
            kept = full.top(k)
            out = np.where(np.isneginf(kept.log_weights), full.weights, 0.0)
            with np.errstate(invalid="ignore"):
                shift = kept.means() - full.means()
            return np.stack([out.sum(axis=1).mean(axis=0), shift.mean(axis=0)], axis=-1)

        found = replace(self, top_k=None)._over_rows(errors)
        return xr.Dataset(
            {
                "dropped_weight": self._array(found[:, 0]),
                "mean_shift": self._array(found[:, 1]),
            }
        )

    @cached_property
    def _draws(self) -> dict[str, np.ndarray]:
        return samples(self.fit.spec, self.fit.idata[names.POSTERIOR].to_dataset())

    def _chunks(self, draws: Mapping[str, np.ndarray]) -> Iterator[tuple[slice, Rows, Mixture]]:
        """Evaluate draws on the rows, chunk by chunk; only the experts that count."""
        for where, part, mixture in chunks(self.fit.spec, draws, self.rows):
            yield where, part, mixture if self.top_k is None else mixture.top(self.top_k)

    def _over_rows(self, read: Reader) -> np.ndarray:
        """Read every chunk of rows, on all processors; results have the rows first."""

        def one(chunk: tuple[slice, Rows, Mixture]) -> np.ndarray:
            _, part, mixture = chunk
            return read(mixture, part)

        workers = cpu_count() or 1
        found = []
        with ThreadPoolExecutor(workers) as pool:
            waiting = []
            for chunk in self._chunks(self._draws):
                waiting.append(pool.submit(one, chunk))
                if len(waiting) > workers:
                    found.append(waiting.pop(0).result())
            found += [w.result() for w in waiting]
        return np.concatenate(found)

    def _at(
        self, read: Callable[[Mixture, np.ndarray], np.ndarray], y: Any, grid: bool
    ) -> xr.DataArray:
        values = np.asarray(y, dtype=float)
        if grid:
            points = np.atleast_1d(values)

            def each(mixture: Mixture, _: Rows) -> np.ndarray:
                return np.stack([read(mixture, point) for point in points], axis=-1)

            return self._array(self._over_rows(each), {names.RESPONSE: points})
        if values.ndim and values.shape != (self.rows.size,):
            raise DataError(
                f"`y` has shape {values.shape}, but there are {self.rows.size} rows: give one "
                "value, one a row, or grid=True to evaluate every row at every value."
            )
        full = np.broadcast_to(values, (self.rows.size,))
        # Rows carry the values along as their response, so that chunks stay aligned.
        rows = Rows(self.rows.matrices, self.rows.obs_id, self.rows.columns, full)
        placed = replace(self, rows=rows)
        return self._array(placed._over_rows(lambda m, part: read(m, part.observed)))

    def _reduce(
        self, read: Reader, *, draws: bool, along: Mapping[str, Any] | None = None
    ) -> xr.DataArray:
        """Average (sample, ..., obs) over samples, or keep them.

        What stands between, by default the experts, comes last.
        """
        if draws:
            parts = self._over_rows(lambda m, part: np.moveaxis(read(m, part), -1, 0))
            return self._draw_array(np.moveaxis(parts, 0, 1), along)
        found = self._over_rows(lambda m, part: np.moveaxis(read(m, part).mean(axis=0), -1, 0))
        return self._array(found, self._extra(found.ndim - 1, along))

    def _extra(self, extra: int, along: Mapping[str, Any] | None) -> dict[str, Any]:
        if not extra:
            return {}
        return {names.EXPERT: self.fit.spec.expert_labels} if along is None else dict(along)

    def _array(self, values: np.ndarray, extra: dict[str, Any] | None = None) -> xr.DataArray:
        import xarray as xr

        coords = {names.OBS: self.rows.obs_id, **(extra or {})}
        return xr.DataArray(values, dims=tuple(coords), coords=coords)

    def _draw_array(
        self, values: np.ndarray, along: Mapping[str, Any] | None = None
    ) -> xr.DataArray:
        """Label values (sample, obs, ...) with chain and draw."""
        import xarray as xr

        posterior = self.fit.idata[names.POSTERIOR].to_dataset()
        coords = {d: posterior[d].values for d in (names.CHAIN, names.DRAW)}
        shape = (*(len(v) for v in coords.values()), *values.shape[1:])
        labels = {**coords, names.OBS: self.rows.obs_id, **self._extra(values.ndim - 2, along)}
        return xr.DataArray(values.reshape(shape), dims=tuple(labels), coords=labels)
