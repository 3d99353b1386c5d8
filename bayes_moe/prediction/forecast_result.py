"""Forecast: the predictive distribution of the next rows of series, and their joint paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import html, names, seeds
from bayes_moe.core.checks import as_numbers, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.prediction.class_quantities import has_classes, probability_inside
from bayes_moe.prediction.expert_quantities import check_ordered
from bayes_moe.prediction.forecast_mixture import STEP, ForecastMixture
from bayes_moe.prediction.future_rows import FutureRows
from bayes_moe.prediction.predictive import (
    HTML_PROBABILITY,
    HTML_ROWS,
    Predictive,
    responses_of,
)
from bayes_moe.prediction.simulated_paths import StoredMixtures, chain_paths

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

PATHS = 4000
"""Default number of paths."""


@dataclass(frozen=True, repr=False, eq=False)
class Forecast(Predictive):
    """Predictive distribution of the response in the next rows of one or several series.

    Made by :func:`forecast`. It has all that a :class:`Predictive` has. Results are DataArrays with
    the dimension ``step`` (1 is the row after the last fitted one), or ``series`` and ``step`` of a
    model with ``series=``, and with the coordinate ``time``. :meth:`sample` and :meth:`paths` are
    joint: the rows of a path belong together, so that sums over steps have their distribution.
    """

    future: FutureRows | None = None
    stored: StoredMixtures | None = None

    @cached_property
    def _mixtures(self) -> ForecastMixture:
        return ForecastMixture(
            self.fit, self.rows, self.top_k, future=self.future, stored=self.stored
        )

    @property
    def simulated(self) -> bool:
        """Whether rows look back at responses of rows ahead, which are simulated paths then.

        If not, figures of each step have no Monte Carlo error.
        """
        return self.stored is not None and self.stored.responses is not None

    @property
    def ahead(self) -> FutureRows:
        """The rows that are forecast, with their series and times."""
        assert self.future is not None
        return self.future

    def __repr__(self) -> str:
        ahead = self.ahead
        of = "" if ahead.series == (None,) else f" of {len(ahead.series)} series"
        how = "exact" if not self.simulated else f"{len(self._responses)} paths"
        first, last = ahead.times[0, 0], ahead.times[0, -1]
        when = f" ({_shown(first)} to {_shown(last)})" if len(ahead.series) == 1 else ""
        return f"Forecast of {self.fit.responses[0]!r}, {ahead.steps} steps{of}{when}, {how}"

    def _repr_html_(self) -> str:
        """HTML for notebooks: means and intervals of the first steps of the first series."""
        if has_classes(self.fit):
            return html.view(repr(self))
        table = self.to_dataframe(HTML_PROBABILITY).iloc[:HTML_ROWS]
        rows = [
            tuple(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row)
            for row in table.itertuples(index=False)
        ]
        shown = f"The first {len(rows)} of {self.rows.size} rows."
        return html.view(repr(self), html.table(tuple(map(str, table.columns)), rows, shown))

    def logpdf(self, y: Any, *, grid: bool = False) -> xr.DataArray:
        """Return the log predictive density at ``y``, of each step by itself.

        Parameters
        ----------
        y : float or array
            One value for all rows, or one of each: (step,), or (series, step) of several series.
            With ``grid=True`` every row is evaluated at every value.
        grid : bool
            See :meth:`Predictive.logpdf`.
        """
        return super().logpdf(self._by_row(y, grid), grid=grid)

    def cdf(self, y: Any, *, grid: bool = False) -> xr.DataArray:
        """Return the predictive probability of a response up to ``y``; see :meth:`logpdf`."""
        return super().cdf(self._by_row(y, grid), grid=grid)

    def _by_row(self, y: Any, grid: bool) -> Any:
        """Values (row,) of those of all rows (series, step)."""
        values = as_numbers("y", y)
        if grid or not values.ndim or values.shape == (self.rows.size,):
            return values
        shape = self.ahead.times.shape
        if values.shape != shape:
            wanted = f"(step,) = ({shape[1]},)" if shape[0] == 1 else f"(series, step) = {shape}"
            raise SpecError(
                f"`y` has the shape {values.shape}; it must be one number, or {wanted}, or give "
                "grid=True to evaluate every row at every value."
            )
        return values.ravel()

    def sample(self, size: int | None = None, *, random_seed: int | None = None) -> xr.DataArray:
        """Return random responses of all steps together: paths of the series.

        Given a draw of the posterior, series are independent.

        Parameters
        ----------
        size : int, optional
            Number of paths: (sample, step), or (sample, series, step). By default one path a draw:
            (chain, draw, step), or with series. Of a simulated forecast they are paths that it
            has, at most all of them, each once.
        random_seed : int, optional
            The same seed gives the same paths. Of a simulated forecast it chooses among its paths.

        Raises
        ------
        SpecError
            For more paths than a simulated forecast has.
        """
        draws = self._mixtures._draw_labels
        rng = np.random.default_rng(seeds.resolve(random_seed))
        if size is None:
            found = self._responses_of(None, rng)
            shape = tuple(len(v) for v in draws.values())
            return self._mixtures.label_paths(found.reshape(*shape, -1), draws)
        check_whole("size", size, 1)
        found = self._responses_of(size, rng)
        return self._mixtures.label_paths(found, {names.SAMPLE: np.arange(size)})

    def paths(self, *, random_seed: int | None = None) -> xr.DataArray:
        """Return many joint paths (sample, step), or (sample, series, step).

        All paths of a simulated forecast, else 4000, or one a draw if there are more draws. For
        sums and other functions of several steps: ``forecast.paths().sum("step").quantile([0.1,
        0.9])``. Paths of counts are whole numbers, of classes their codes; a censored response is
        followed beyond its limits.

        Parameters
        ----------
        random_seed : int, optional
            As for :meth:`sample`.
        """
        if self.simulated:
            found = self._responses
            return self._mixtures.label_paths(found, {names.SAMPLE: np.arange(len(found))})
        draws = int(np.prod([len(v) for v in self._mixtures._draw_labels.values()]))
        return self.sample(max(PATHS, draws), random_seed=random_seed)

    def simultaneous_interval(
        self, ci_prob: float | None = None, *, random_seed: int | None = None
    ) -> xr.DataArray:
        """Return a band (step, ci_bound) that whole paths are inside of, by steps of a series.

        At each step it is between two order statistics of the paths, of the same rank from below
        and from above. The ranks are the innermost for which the share of paths that are inside
        at all steps of their series is at least ``ci_prob``.

        Parameters
        ----------
        ci_prob : float, optional
            Probability inside; by default ArviZ's ``rcParams["stats.ci_prob"]``.
        random_seed : int, optional
            As for :meth:`paths`.
        """
        check_ordered(self.fit, "band of paths", "probabilities()")
        inside, drawn = probability_inside(ci_prob), self.paths(random_seed=random_seed)
        by_series = drawn.values.reshape(len(drawn), *self.ahead.times.shape)
        ordered = np.sort(by_series, axis=0)
        ranks = by_series.argsort(axis=0).argsort(axis=0)
        outermost = np.minimum(ranks, len(ranks) - 1 - ranks).min(axis=-1)  # (path, series)
        rank = np.sort(outermost, axis=0)[int(np.floor((1 - inside) * len(ranks)))]
        low = np.take_along_axis(ordered, rank[None, :, None], axis=0)[0]
        high = np.take_along_axis(ordered, len(ranks) - 1 - rank[None, :, None], axis=0)[0]
        bounds = np.stack([low, high], axis=-1).reshape(-1, 2)
        return self._mixtures.label(bounds, {names.CI_BOUND: list(names.CI_BOUNDS)})

    def to_dataframe(self, ci_prob: float | Sequence[float] | None = None) -> pd.DataFrame:
        """Return a table with one row for each series and step.

        Its columns are the series, ``step``, the time, and ``mean``, ``sd``, ``lower`` and
        ``upper``; of several probabilities ``lower_80``, ``upper_80``, ... Of classes it has their
        probabilities, ``probability_<label>``.

        Parameters
        ----------
        ci_prob : float or sequence of float, optional
            Probabilities inside the intervals.
        """
        import pandas as pd

        ahead, columns = self.ahead, self.fit.spec.row_columns
        table: dict[str, Any] = {}
        if columns.series is not None:
            table[columns.series] = np.repeat(np.array(ahead.series, dtype=object), ahead.steps)
        table[STEP] = np.tile(np.arange(1, ahead.steps + 1), len(ahead.series))
        table[str(columns.time)] = ahead.table[columns.time].to_numpy()
        if has_classes(self.fit):
            found = self.probabilities()
            for label in found[names.CLASS].values:
                table[f"probability_{label}"] = found.sel({names.CLASS: label}).values.ravel()
            return pd.DataFrame(table)
        table |= {"mean": self.mean().values.ravel(), "sd": self.sd().values.ravel()}
        several = isinstance(ci_prob, Sequence)
        levels: list[Any] = list(ci_prob) if isinstance(ci_prob, Sequence) else [ci_prob]
        for prob in levels:
            ending = f"_{100 * prob:g}" if several else ""
            bounds = self.interval(prob).values.reshape(-1, 2)
            for j, bound in enumerate(names.CI_BOUNDS):
                table[f"{bound}{ending}"] = bounds[:, j]
        return pd.DataFrame(table)

    @property
    def _responses(self) -> np.ndarray:
        """Simulated paths (path, row) of the response that is shown."""
        assert self.stored is not None
        assert self.stored.responses is not None
        found = self.stored.responses
        return found if found.ndim == 2 else found[:, self.fit.response]

    def _responses_of(self, size: int | None, rng: np.random.Generator) -> np.ndarray:
        """Paths (path, row): ``size`` of them, or one of each draw."""
        if self.simulated:
            found, stored = self._responses, self.stored
            assert stored is not None
            if size is None:
                return found[:: stored.paths]
            if size > len(found):
                raise SpecError(
                    f"The forecast has {len(found)} simulated paths, not {size}: ask for more of "
                    f"them, bm.forecast(..., paths={size})."
                )
            return found[np.sort(rng.choice(len(found), size, replace=False))]
        mixtures = self._mixtures
        if self.stored is not None:
            count = len(self.stored.mixture.log_weights)
            picked = np.arange(count) if size is None else rng.integers(count, size=size)
            margin = replace(self.stored, mixture=self.stored.mixture.margin(self.fit.response))
            return chain_paths(margin, self.ahead, picked, rng)
        draws, count = mixtures.draws, len(next(iter(mixtures.draws.values())))
        if size is not None:
            picked = rng.integers(count, size=size)
            draws = {name: values[picked] for name, values in draws.items()}
        return responses_of(mixtures, draws, rng)


def _shown(time: Any) -> str:
    """A time as text, without a clock that says midnight."""
    text = str(time) if not isinstance(time, np.datetime64) else str(time.astype("datetime64[s]"))
    return text.removesuffix("T00:00:00").replace("T", " ")
