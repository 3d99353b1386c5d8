"""The mixture of every draw on every row, in NumPy: weights, densities, moments, cdf and draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.model.allocation import EACH_ROW, Allocation
from bayes_moe.model.likelihood import allocate, log_components, log_mixture, random_expert
from bayes_moe.model.measured_mixture import MeasuredMixture


@dataclass(frozen=True)
class Mixture(MeasuredMixture):
    """The mixture of every draw on every row of a chunk.

    ``log_weights`` is (sample, expert, obs); each parameter of a block is (sample, expert, obs)
    or (sample, expert, 1), and what is known of the rows is (obs,) or (1,). In a ``sparse``
    mixture some log weights are minus infinity. ``integrals`` are densities of groups with their
    effects integrated out, where the model has such effects. ``log_future`` (sample, expert, obs)
    is what later rows of a Markov chain say of a row's expert, whose log weights are given the
    rows before. Several responses are arrays ``y``
    (response, obs); :meth:`margin` is the mixture of one of them.
    """

    @cached_property
    def weights(self) -> np.ndarray:
        """Gate weights (sample, expert, obs)."""
        return np.exp(self.log_weights)

    def log_components(self, y: np.ndarray) -> np.ndarray:
        """Log density of ``y`` (obs,) under each expert (sample, expert, obs)."""
        shape = self.log_weights.shape
        return np.broadcast_to(log_components(y, self.blocks, self.params, NUMERIC), shape)

    def log_density(self, y: np.ndarray) -> np.ndarray:
        """Log density of ``y`` (obs,) under the mixture (sample, obs)."""
        density: np.ndarray = log_mixture(self.log_weights, self.log_components(y), NUMERIC)
        return density - self.log_recorded(y)

    def responsibilities(self, y: np.ndarray) -> np.ndarray:
        """Probability that each expert made ``y`` (sample, expert, obs)."""
        return allocate(with_future(self) + self.log_components(y))[1]

    def moments(self, name: str) -> np.ndarray:
        """Figure of each expert's distribution (sample, expert, obs).

        ``"mean"`` and ``"variance"``, which may be infinite; ``"location"`` and ``"scale"``, a
        centre and a width that exist for every family. Of several responses they are
        (sample, response, expert, obs).
        """
        return self._stack(
            [getattr(b.family, name)(p) for b, p in zip(self.blocks, self.params, strict=True)]
        )

    def means(self) -> np.ndarray:
        """Mean of the mixture of each draw (sample, obs)."""
        return self.sum_over_experts(self.counted(self.moments("mean")))

    def sum_over_experts(self, values: np.ndarray) -> np.ndarray:
        """Sum of the experts' values (sample, expert, obs), times their weights (sample, obs)."""
        return np.einsum("seo,seo->so", self.weights, values)

    def tails(self, y: np.ndarray, above: np.ndarray, *, derivatives: bool = True) -> np.ndarray:
        """Averages over draws (level, 3, obs): probability, density and its slope.

        The probability is that of a response up to ``y`` (level, obs), or where ``above`` (level,)
        that of a larger one, with small relative error in the tail. Slopes that are not known are
        NaN; so are densities without ``derivatives``.
        """
        sums = np.full((len(y), 3, y.shape[-1]), np.nan)
        for values, point, beyond in zip(sums, y, above, strict=True):
            name = "sf" if beyond else "cdf"
            parts = [
                getattr(b.family, name)(point, p)
                for b, p in zip(self.blocks, self.params, strict=True)
            ]
            share = np.einsum("seo,seo->o", self.weights, self._stack(parts))
            values[0] = share / len(self.log_weights)
            if derivatives:
                values[1] = np.exp(self.log_density(point)).mean(axis=0)
        return sums

    def expert_random(self, rng: np.random.Generator) -> np.ndarray:
        """One response of each expert (sample, expert, obs), or (sample, response, expert, obs)."""
        shape = self.log_weights.shape
        return self._stack(
            [
                b.family.random(p, rng, (shape[0], len(b.positions), shape[2]))
                for b, p in zip(self.blocks, self.params, strict=True)
            ]
        )

    def random(
        self,
        rng: np.random.Generator,
        shared: Allocation = EACH_ROW,
        chosen: np.ndarray | None = None,
    ) -> np.ndarray:
        """One response a draw and row (sample, obs), or (sample, response, obs) of several.

        Rows share experts as ``shared`` says; or ``chosen`` (sample, obs) are their experts.
        """
        if chosen is None:
            of_units = np.swapaxes(self.log_weights[..., shared.first], -1, -2)
            chosen = shared.spread(random_expert(of_units, rng))
        drawn = self.expert_random(rng)
        chosen = chosen.reshape(len(chosen), *(1,) * (drawn.ndim - 2), -1)
        return np.take_along_axis(drawn, chosen, axis=-2)[..., 0, :]

    def counted(self, moments: np.ndarray) -> np.ndarray:
        """Moments (sample, expert, obs), zero for experts that a sparse mixture leaves out.

        Theirs may be infinite or missing.
        """
        return np.where(self.weights > 0, moments, 0.0) if self.sparse else moments

    def top(self, k: int) -> Self:
        """Return the mixture of the ``k`` experts of largest weight of each draw and row.

        Their weights are divided by their sum; of equal weights the first expert's counts as
        larger.
        """
        if k >= self.log_weights.shape[1]:
            return self
        order = np.argsort(-self.log_weights, axis=1, kind="stable")
        kept = self.log_weights.copy()
        np.put_along_axis(kept, order[:, k:], -np.inf, axis=1)
        kept -= NUMERIC.logsumexp(kept, axis=1, keepdims=True)
        return replace(self, log_weights=kept, sparse=True)

    def take_samples(self, index: np.ndarray) -> Self:
        """Return the mixtures of some draws."""
        params = tuple(
            {n: v if v.ndim == 1 else v[index] for n, v in p.items()} for p in self.params
        )
        integrals = None if self.integrals is None else self.integrals.take(index)
        future = None if self.log_future is None else self.log_future[index]
        return replace(
            self,
            log_weights=self.log_weights[index],
            params=params,
            integrals=integrals,
            log_future=future,
        )

    def take_rows(self, index: np.ndarray) -> Self:
        """Return the mixtures of some rows."""
        params = tuple(
            {n: v if v.shape[-1] == 1 else v[..., index] for n, v in p.items()} for p in self.params
        )
        future = None if self.log_future is None else self.log_future[..., index]
        weights = self.log_weights[..., index]
        return replace(self, log_weights=weights, params=params, log_future=future)

    def _stack(self, parts: list[np.ndarray]) -> np.ndarray:
        samples, _, rows = self.log_weights.shape
        full = [
            np.broadcast_to(part, (samples, *part.shape[1:-2], len(block.positions), rows))
            for block, part in zip(self.blocks, parts, strict=True)
        ]
        return full[0] if len(full) == 1 else np.concatenate(full, axis=-2)


def with_future(mixture: Mixture) -> np.ndarray:
    """Log weights (sample, expert, obs), with what later rows say of the experts."""
    future = mixture.log_future
    return mixture.log_weights if future is None else mixture.log_weights + future
