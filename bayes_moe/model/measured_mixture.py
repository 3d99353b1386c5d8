"""A mixture's measure and margins: atoms with their probabilities, the part with a density."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.model.blocks import Block, margin_of, uncensored
from bayes_moe.model.group_integrals import GroupIntegrals
from bayes_moe.model.likelihood import log_mixture, log_recorded
from bayes_moe.model.measure import Measure, measure_of
from bayes_moe.model.recorded_block import recorded_block, recorded_span, recorded_weights


@dataclass(frozen=True)
class MeasuredMixture(ABC):
    """Weights, blocks of experts and parameters: see :class:`bayes_moe.model.mixture.Mixture`."""

    log_weights: np.ndarray
    blocks: tuple[Block, ...]
    params: tuple[dict[str, np.ndarray], ...]
    sparse: bool = False
    integrals: GroupIntegrals | None = None
    log_future: np.ndarray | None = None

    @abstractmethod
    def log_density(self, y: np.ndarray) -> np.ndarray:
        """Log density of ``y`` (obs,) under the mixture (sample, obs)."""

    def recorded_components(self, y: np.ndarray) -> np.ndarray | None:
        """Log probability under each expert (sample, expert, obs) that rows were recorded.

        None if nothing is truncated.
        """
        parts: np.ndarray | None = log_recorded(y, self.blocks, self.params, NUMERIC)
        return parts

    def log_recorded(self, y: np.ndarray) -> np.ndarray | float:
        """Log probability (sample, obs) that rows were recorded; 0 if nothing is truncated."""
        parts = self.recorded_components(y)
        if parts is None:
            return 0.0
        found: np.ndarray = log_mixture(self.log_weights, parts, NUMERIC)
        return found

    @cached_property
    def response_names(self) -> tuple[str, ...]:
        """Names of several responses; none of a mixture of one response."""
        return self.blocks[0].family.names

    def margin(self, j: int | None) -> Self:
        """The mixture of response ``j`` alone; itself for None, and if there is one response."""
        if j is None or not self.response_names:
            return self
        parts = [margin_of(b, j, p) for b, p in zip(self.blocks, self.params, strict=True)]
        blocks, params = zip(*parts, strict=True)
        return replace(self, blocks=blocks, params=params)

    @cached_property
    def uncensored(self) -> Self:
        """The mixture of responses themselves, in place of what is known of censored ones."""
        return replace(self, blocks=tuple(map(uncensored, self.blocks)))

    def recorded(self, limits: np.ndarray) -> Self:
        """The mixture of what is recorded of rows within limits (4, obs), of what is known of them.

        The limits are those of :class:`bayes_moe.data.observation.Observation`.
        """
        samples = len(self.log_weights)
        pairs = zip(self.blocks, self.params, strict=True)
        parts = [recorded_block(block, named, limits, samples) for block, named in pairs]
        blocks, params = zip(*parts, strict=True)
        log_weights = recorded_weights(self.log_weights, params)
        sparse = self.sparse or not np.isfinite(log_weights).all()
        return replace(self, log_weights=log_weights, blocks=blocks, params=params, sparse=sparse)

    @cached_property
    def span(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends (obs,) of the support of each row: of recorded responses, between the limits."""
        rows = self.log_weights.shape[-1]
        low, high = (np.full(rows, end) for end in (self.measure.lower, self.measure.upper))
        bottom, top = recorded_span(self.params[0])
        return np.maximum(low, bottom), np.minimum(high, top)

    @cached_property
    def of_first_response(self) -> Self:
        """The mixture of the first of several responses, or itself."""
        return self.margin(0)

    @cached_property
    def measure(self) -> Measure:
        """The measure by which densities are taken."""
        return measure_of([block.family for block in self.blocks])

    @cached_property
    def density_part(self) -> Self:
        """The part with a density of a mixture with atoms: its weights do not sum to one.

        Its density at an atom is that beside it; atoms of families with both remain.
        """
        if not self.measure.atoms:
            return self
        kept = [j for j, block in enumerate(self.blocks) if block.family.has_density]
        starts = np.cumsum([0, *(len(block.positions) for block in self.blocks)])
        experts = np.concatenate([np.arange(starts[j], starts[j + 1]) for j in kept])
        return replace(
            self,
            log_weights=self.log_weights[:, experts],
            log_future=None,
            blocks=tuple(replace(self.blocks[j], atoms=()) for j in kept),
            params=tuple(self.params[j] for j in kept),
        )

    @cached_property
    def atom_masses(self) -> np.ndarray:
        """Probability (atom, obs) of each atom of the measure, the average over draws."""
        rows = self.log_weights.shape[-1]
        masses = [
            np.exp(self.log_density(np.full(rows, atom))).mean(axis=0)
            for atom in self.measure.atoms
        ]
        return np.stack(masses) if masses else np.zeros((0, rows))
