"""The mixtures of rows ahead: of every draw, or of every simulated path of every draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import cpu_count
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.threads import in_threads
from bayes_moe.data.matrix import Rows
from bayes_moe.model.evaluation import CHUNK_ELEMENTS, COMPILED_ROWS, Where, is_compiled, memory
from bayes_moe.model.memory import Memory
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import ChunkedMixture
from bayes_moe.prediction.future_rows import FutureRows
from bayes_moe.prediction.simulated_paths import StoredMixtures

if TYPE_CHECKING:
    import xarray as xr

STEP, TIME, SERIES = "step", "time", "series"
"""Dimensions of forecasts, and the coordinate of times."""

PATH = "path"
"""Key of the numbers of paths, in place of draws."""


@dataclass(frozen=True, eq=False)
class ForecastMixture(ChunkedMixture):
    """Mixtures of experts on rows ahead, labelled by step and series.

    Without ``stored`` ones, they are those of the fit's draws on the rows.
    """

    future: FutureRows | None = None
    stored: StoredMixtures | None = None

    @property
    def draws(self) -> dict[str, np.ndarray]:
        """Reported variables (sample, ...) by name, or the numbers of the stored paths."""
        if self.stored is None:
            return self._fitted_draws
        return {PATH: np.arange(len(self.stored.mixture.log_weights))}

    @cached_property
    def memory(self) -> Memory | None:
        """What all draws take from the rows before; stored mixtures have it in them."""
        return None if self.stored is not None else memory(self.fit.spec, self.draws, self.rows)

    def chunks(
        self, draws: Mapping[str, np.ndarray] | None = None
    ) -> Iterator[tuple[Where, Rows, Mixture]]:
        if self.stored is None:
            yield from super().chunks(draws)
            return
        draws = self.draws if draws is None else draws
        for where in self._slices(draws):
            part = self.rows.pick(where)
            yield where, part, self._kept(self._part(draws[PATH], where), part)

    def _mapped[Result](
        self,
        function: Callable[[Where, Rows, Mixture], Result],
        draws: Mapping[str, np.ndarray],
        known: Memory | None,
    ) -> Iterator[Result]:
        if self.stored is None:
            return super()._mapped(function, draws, known)

        def of_chunk(where: slice) -> Result:
            return function(where, self.rows.pick(where), self._part(draws[PATH], where))

        return in_threads(of_chunk, self._slices(draws), cpu_count() or 1)

    def _slices(self, draws: Mapping[str, np.ndarray]) -> list[slice]:
        """Positions of the rows of each chunk."""
        size = self.rows.size
        by_row = len(draws[PATH]) * self.fit.spec.n_experts
        step = max(1, CHUNK_ELEMENTS // by_row)
        if is_compiled(by_row * size):
            step = max(step, min(COMPILED_ROWS, 4 * CHUNK_ELEMENTS // by_row))
        return [slice(start, min(start + step, size)) for start in range(0, size, step)]

    def _part(self, paths: np.ndarray, where: slice) -> Mixture:
        """The mixture of some paths on some rows, with compiled loops where they save time."""
        assert self.stored is not None
        found = self.stored.mixture
        rows = np.arange(where.start, where.stop)
        if len(paths) < len(found.log_weights):
            found = found.take_samples(paths)
        found = found.take_rows(rows) if found.log_weights.shape[-1] > len(rows) else found
        if not is_compiled(len(paths) * self.fit.spec.n_experts * self.rows.size):
            return found
        from bayes_moe.model.compiled_mixture import CompiledMixture

        return CompiledMixture(found.log_weights, found.blocks, found.params, found.sparse)

    def label(self, values: np.ndarray, dims: Mapping[str, Any] | None = None) -> xr.DataArray:
        """Return values (row, ...) as (step, ...), or (series, step, ...) of several series."""
        return self._by_step(values, 0, {}, dict(dims or {}))

    def label_draws(self, values: np.ndarray, dim: Mapping[str, Any] | None = None) -> xr.DataArray:
        """Return values (sample, row, ...) as (chain, draw, step, ...), or with series.

        Those of paths are averages over the paths of a draw.
        """
        draws = self._draw_labels
        count = int(np.prod([len(v) for v in draws.values()]))
        if len(values) > count:
            values = values.reshape(count, -1, *values.shape[1:]).mean(axis=1)
        shape = tuple(len(v) for v in draws.values())
        more = self._last_dim(values.ndim - 2, dim)
        return self._by_step(values.reshape(*shape, *values.shape[1:]), len(shape), draws, more)

    def label_paths(self, values: np.ndarray, before: Mapping[str, Any]) -> xr.DataArray:
        """Return values (..., row) with dimensions ``before`` and those of the rows."""
        return self._by_step(values, len(before), dict(before), {})

    def _by_step(
        self, values: np.ndarray, axis: int, before: dict[str, Any], after: dict[str, Any]
    ) -> xr.DataArray:
        """Values whose axis of rows is that of series and steps, with coordinates."""
        import xarray as xr

        future = self.future
        assert future is not None
        step = {STEP: np.arange(1, future.steps + 1)}
        if future.series == (None,):
            coords: dict[str, Any] = {**before, **step, **after}
            time: tuple[Any, Any] = ((STEP,), future.times[0])
        else:
            shape = (*values.shape[:axis], *future.times.shape, *values.shape[axis + 1 :])
            values = values.reshape(shape)
            series = {SERIES: list(future.series)}
            coords, time = {**before, **series, **step, **after}, ((SERIES, STEP), future.times)
        labelled = xr.DataArray(values, dims=tuple(coords), coords=coords)
        return labelled.assign_coords({TIME: time})

    @property
    def _draw_labels(self) -> dict[str, Any]:
        from bayes_moe.results.fit import posterior_of

        posterior = posterior_of(self.fit.idata)
        return {d: posterior[d].values for d in (names.CHAIN, names.DRAW)}
