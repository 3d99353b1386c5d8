"""The mixtures of a fit's draws on rows of a table, evaluated in chunks of rows.

A statistic of the mixtures is computed for each chunk by a pool of threads; memory does not grow
with the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import looked_up
from bayes_moe.data.group_terms import AVERAGE, ERROR, SAMPLE, UNSEEN
from bayes_moe.data.matrix import Rows
from bayes_moe.data.recording import uncut
from bayes_moe.data.tables import to_pandas
from bayes_moe.model.allocation import observed_rows
from bayes_moe.model.allocation_checks import check_shared_rows
from bayes_moe.model.effect_checks import integrates_effects
from bayes_moe.model.evaluation import Where, chunks, map_chunks, memory
from bayes_moe.model.memory import Memory, check_in_time
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.shared_effects import has_shared_effects
from bayes_moe.prediction.known_groups import with_known_groups
from bayes_moe.prediction.new_groups import with_new_groups
from bayes_moe.prediction.quantiles import (
    PILOT_DRAWS,
    improved_quantiles,
    searched_quantiles,
    some_draws,
)
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import Fit, posterior_of

if TYPE_CHECKING:
    import xarray as xr

Statistic = Callable[[Mixture, Rows], np.ndarray]
"""Function of the mixture of a chunk and the chunk's rows."""


@dataclass(frozen=True, eq=False)
class ChunkedMixture:
    """Mixtures of experts (sample, expert, obs), one per posterior draw, on some rows.

    With ``top_k`` only so many experts count for each row and draw. They are of responses, or, of
    rows with limits, of what is recorded of these; if ``observed``, of what is known of those of
    the rows, and then effects within groups that share an expert are integrated out, unless
    ``given_effects``.
    """

    fit: Fit
    rows: Rows
    top_k: int | None = None
    observed: bool = False
    given_effects: bool = False

    @property
    def draws(self) -> dict[str, np.ndarray]:
        """Reported variables (sample, ...) by name."""
        return self._fitted_draws

    @cached_property
    def _fitted_draws(self) -> dict[str, np.ndarray]:
        draws = stacked_draws(self.fit.spec, posterior_of(self.fit.idata))
        if self.given_effects or not self.observed:
            draws = with_known_groups(self.fit, draws)
        return with_new_groups(self.fit.spec, self.fit.design, self.rows, draws)

    @cached_property
    def memory(self) -> Memory | None:
        """What all draws take from the rows before; None of a model without memory."""
        return memory(self.fit.spec, self.draws, self.rows)

    def chunks(
        self, draws: Mapping[str, np.ndarray] | None = None
    ) -> Iterator[tuple[Where, Rows, Mixture]]:
        """Yield the positions, the rows and the mixture of each chunk, by default of all draws."""
        known = self.memory if draws is None else None
        own = self.draws if draws is None else draws
        for where, part, mixture in chunks(self.fit.spec, own, self.rows, known):
            yield where, part, self._kept(mixture, part)

    def _kept(self, mixture: Mixture, part: Rows) -> Mixture:
        """Return the mixture of the experts that count, of the response that the fit shows."""
        own, limits = mixture.margin(self.fit.response), part.observation.limits
        if not self.observed:
            own = own.uncensored if limits is None else own.recorded(limits)
        return own if self.top_k is None else own.top(self.top_k)

    def map(
        self,
        statistic: Callable[..., np.ndarray],
        *beside: np.ndarray,
        draws: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return a statistic (obs, ...) that is computed as (obs in chunk, ...) in threads.

        Parameters
        ----------
        statistic : callable
            Function of a chunk's mixture and rows, and of its part of the arrays beside.
        *beside : array (obs, ...)
            Further arguments of the statistic.
        draws : mapping, optional
            The draws; by default all.
        """

        def of_chunk(where: Where, part: Rows, mixture: Mixture) -> tuple[Where, np.ndarray]:
            return where, statistic(
                self._kept(mixture, part), part, *(array[where] for array in beside)
            )

        known = self.memory if draws is None else None
        draws = self.draws if draws is None else draws
        found = [*self._mapped(of_chunk, draws, known)]
        values = concatenated([part for _, part in found])
        positions = [where for where, _ in found if isinstance(where, np.ndarray)]
        # Chunks of whole groups need not be in the order of the rows.
        return values[np.argsort(np.concatenate(positions))] if positions else values

    def _mapped[Result](
        self,
        function: Callable[[Where, Rows, Mixture], Result],
        draws: Mapping[str, np.ndarray],
        known: Memory | None,
    ) -> Iterator[Result]:
        """A function of the positions, the rows and the mixture of each chunk, in threads."""
        return map_chunks(function, self.fit.spec, draws, self.rows, known)

    def map_few(self, statistic: Statistic, most: int) -> np.ndarray:
        """As :meth:`map`, of at most so many draws, evenly spaced: for all rows at once."""
        index = some_draws(len(next(iter(self.draws.values()))), most)
        few = {name: values[index] for name, values in self.draws.items()}
        return self.map(statistic, draws=few)

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Return predictive quantiles (obs, level)."""
        limits = self.rows.observation.limits
        if limits is not None and np.isfinite(limits[2:]).any():
            # Censoring does not decrease in the response, so it may follow.
            found = replace(self, rows=self.rows.with_limits(uncut(limits))).quantiles(levels)
            return np.clip(found, limits[2][:, None], limits[3][:, None])
        guess = self.map_few(lambda m, _: searched_quantiles(m, levels), PILOT_DRAWS)
        return self.map(lambda m, _, own: improved_quantiles(m, levels, own), guess)

    def summarise(
        self, statistic: Statistic, *, draws: bool, dim: Mapping[str, Any] | None = None
    ) -> xr.DataArray:
        """Return a statistic (sample, ..., obs) averaged over draws, or for each draw.

        Parameters
        ----------
        statistic : callable
            Gives an array (sample, obs) or (sample, label, obs).
        draws : bool
            Whether to keep the draws: (chain, draw, obs_id, label) instead of (obs_id, label).
        dim : mapping of str to sequence, optional
            The dimension of the labels, and the labels; by default those of the experts.
        """
        if draws:
            by_row = self.map(lambda m, part: np.moveaxis(statistic(m, part), -1, 0))
            return self.label_draws(np.moveaxis(by_row, 0, 1), dim)
        means = self.map(lambda m, part: np.moveaxis(statistic(m, part).mean(axis=0), -1, 0))
        return self.label(means, self._last_dim(means.ndim - 1, dim))

    def label(self, values: np.ndarray, dims: Mapping[str, Any] | None = None) -> xr.DataArray:
        """Return values (obs, ...) with ``obs_id`` and further dimensions."""
        import xarray as xr

        coords = {names.OBS: self._row_labels, **(dims or {})}
        labelled = xr.DataArray(values, dims=tuple(coords), coords=coords)
        return self._with_positions(labelled)

    def label_draws(self, values: np.ndarray, dim: Mapping[str, Any] | None = None) -> xr.DataArray:
        """Return values (sample, obs, ...) as (chain, draw, obs_id, ...)."""
        import xarray as xr

        posterior = posterior_of(self.fit.idata)
        coords = {d: posterior[d].values for d in (names.CHAIN, names.DRAW)}
        shape = (*(len(v) for v in coords.values()), *values.shape[1:])
        labels = {**coords, names.OBS: self._row_labels, **self._last_dim(values.ndim - 2, dim)}
        labelled = xr.DataArray(values.reshape(shape), dims=tuple(labels), coords=labels)
        return self._with_positions(labelled)

    @property
    def _row_labels(self) -> np.ndarray:
        """Labels (obs,) of the rows: the user's, or else their positions in the table."""
        index = self.rows.index
        return self.rows.obs_id if index is None else index.to_numpy()

    def _with_positions(self, labelled: xr.DataArray) -> xr.DataArray:
        """Return values with the positions of the rows beside labels of the user."""
        if self.rows.index is None:
            return labelled
        return labelled.assign_coords({names.ROW: (names.OBS, self.rows.obs_id)})

    def _last_dim(self, count: int, dim: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the dimension after ``obs_id``, if there is one; by default the experts."""
        if not count:
            return {}
        return {names.EXPERT: self.fit.spec.expert_labels} if dim is None else dict(dim)


def mixtures_on(
    fit: Fit,
    rows: Any = None,
    *,
    with_response: bool = False,
    unseen: str = ERROR,
    given_effects: bool = False,
) -> ChunkedMixture:
    """Return the mixtures of a fit on rows of a table; None means the fitted rows.

    Effects within groups that share an expert are integrated out of densities of responses; with
    ``given_effects`` they are as in predictions.
    """
    check_one_of("value of `unseen`", unseen, UNSEEN)
    if with_response:
        columns = fit.spec.row_columns
        shared = has_shared_effects(fit.spec.structure, columns) and not given_effects
        if shared and integrates_effects(fit.spec.structure, columns):
            unseen = SAMPLE  # groups have codes of their own; their effects are integrated out
        elif shared and unseen == AVERAGE:
            raise SpecError(
                f"Effects within groups of {columns.group!r} are integrated out here, others are "
                "not, and unseen='average' would make one group of all new ones: use "
                "unseen='sample'."
            )
        observed = observed_rows(fit.design, columns, rows, unseen=unseen)
        check_shared_rows(fit.spec.structure, columns, observed)
        return ChunkedMixture(fit, observed, observed=True, given_effects=given_effects)
    return ChunkedMixture(fit, transformed(fit, rows, unseen))


def transformed(fit: Fit, rows: Any, unseen: str = ERROR) -> Rows:
    """Return rows of a table that predictions are for.

    A Markov gate reads their responses, if the table has them: the weights of a row are given the
    responses of the rows before.
    """
    structure, there = fit.spec.structure, False
    if structure.gate.chain is not None and rows is not None:
        table = to_pandas(rows)
        there = all(c in table for c in looked_up(fit.design.response_formula))
    found = fit.design.transform(rows, with_response=there, unseen=unseen)
    check_in_time(structure, found)
    return found


def concatenated(parts: list[np.ndarray]) -> np.ndarray:
    """Return arrays (obs, item, ...) one after the other, padded with NaN to as many items."""
    most = max((part.shape[1] for part in parts if part.ndim > 1), default=0)
    padded = [
        part
        if part.ndim < 2 or part.shape[1] == most
        else np.pad(
            part,
            [(0, 0), (0, most - part.shape[1]), *[(0, 0)] * (part.ndim - 2)],
            constant_values=np.nan,
        )
        for part in parts
    ]
    return np.concatenate(padded)
