"""Posterior draws + rows -> the mixture's arrays in NumPy: the one reading of a fit's parameters.

Everything that reads a fit (prediction, relabelling, diagnosis, starting points) goes through
:func:`evaluate`, in chunks of rows, so that memory is bounded whatever the table's length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.matrix import Rows
from bayes_moe.model.blocks import Block
from bayes_moe.model.likelihood import allocate, log_components, log_mixture, random_expert
from bayes_moe.model.missing_features import evaluate_incomplete, has_gaps
from bayes_moe.model.spec import MixtureOfExperts

CHUNK_ELEMENTS = 2**18
"""Elements of a (sample, expert, obs) array that a chunk of rows may hold: 2 MiB, for caches."""


@dataclass(frozen=True)
class Mixture:
    """The mixture of every draw on every row of a chunk.

    ``log_weights`` is (sample, expert, obs); each parameter of a block is (sample, expert, obs)
    or (sample, expert, 1), and what is known of the rows is (obs,) or (1,). In a ``sparse``
    mixture some log weights are minus infinity.
    """

    log_weights: np.ndarray
    blocks: tuple[Block, ...]
    params: tuple[dict[str, np.ndarray], ...]
    sparse: bool = False

    @property
    def discrete(self) -> bool:
        """Whether the response is a whole number."""
        return self.blocks[0].family.discrete

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
        return density

    def responsibilities(self, y: np.ndarray) -> np.ndarray:
        """Probability that each expert made ``y`` (sample, expert, obs)."""
        return allocate(self.log_weights + self.log_components(y))[1]

    def expert_means(self) -> np.ndarray:
        """Mean of each expert (sample, expert, obs)."""
        return self._each("mean")

    def expert_variances(self) -> np.ndarray:
        """Variance of each expert (sample, expert, obs)."""
        return self._each("variance")

    def expert_locations(self) -> np.ndarray:
        """Centre of each expert, which exists where a mean does not (sample, expert, obs)."""
        return self._each("location")

    def expert_scales(self) -> np.ndarray:
        """Finite width of each expert (sample, expert, obs)."""
        return self._each("scale")

    def means(self) -> np.ndarray:
        """Mean of the mixture of each draw (sample, obs)."""
        return np.einsum("seo,seo->so", self.weights, self.counted(self.expert_means()))

    def cdf(self, y: np.ndarray) -> np.ndarray:
        """Cumulative probability of ``y`` (obs,) (sample, obs)."""
        return np.einsum("seo,seo->so", self.weights, self.expert_cdf(y))

    def expert_cdf(self, y: np.ndarray) -> np.ndarray:
        """Cumulative probability of ``y`` (obs,) under each expert (sample, expert, obs)."""
        return self._stack(
            [b.family.cdf(y, p) for b, p in zip(self.blocks, self.params, strict=True)]
        )

    def expert_random(self, rng: np.random.Generator) -> np.ndarray:
        """One response of each expert (sample, expert, obs)."""
        shape = self.log_weights.shape
        return self._stack(
            [
                b.family.random(p, rng, (shape[0], len(b.positions), shape[2]))
                for b, p in zip(self.blocks, self.params, strict=True)
            ]
        )

    def random(self, rng: np.random.Generator) -> np.ndarray:
        """One response a draw and row (sample, obs)."""
        chosen = random_expert(np.swapaxes(self.log_weights, -1, -2), rng)
        return np.take_along_axis(self.expert_random(rng), chosen[:, None], axis=1)[:, 0]

    def counted(self, moments: np.ndarray) -> np.ndarray:
        """Moments (sample, expert, obs), zero for experts that a sparse mixture leaves out.

        Theirs may be infinite or missing.
        """
        return np.where(self.weights > 0, moments, 0.0) if self.sparse else moments

    def top(self, k: int) -> Mixture:
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

    def take_samples(self, index: np.ndarray) -> Mixture:
        """Return the mixtures of some draws."""
        params = tuple(
            {n: v if v.ndim == 1 else v[index] for n, v in p.items()} for p in self.params
        )
        return replace(self, log_weights=self.log_weights[index], params=params)

    def take_rows(self, index: np.ndarray) -> Mixture:
        """Return the mixtures of some rows."""
        params = tuple(
            {n: v if v.shape[-1] == 1 else v[..., index] for n, v in p.items()} for p in self.params
        )
        return replace(self, log_weights=self.log_weights[..., index], params=params)

    def _each(self, moment: str) -> np.ndarray:
        return self._stack(
            [getattr(b.family, moment)(p) for b, p in zip(self.blocks, self.params, strict=True)]
        )

    def _stack(self, parts: list[np.ndarray]) -> np.ndarray:
        samples, _, rows = self.log_weights.shape
        full = [
            np.broadcast_to(part, (samples, len(block.positions), rows))
            for block, part in zip(self.blocks, parts, strict=True)
        ]
        return full[0] if len(full) == 1 else np.concatenate(full, axis=-2)


def evaluate(spec: MixtureOfExperts, draws: Mapping[str, np.ndarray], rows: Rows) -> Mixture:
    """Evaluate posterior draws (sample, ...) of the reported variables on rows.

    Raises
    ------
    DataError
        For rows of which something is known that cannot be, such as half a trial.
    """
    for block in spec.blocks:
        block.check_known(rows)
    if has_gaps(spec.gate, spec.n_experts, rows):
        found = evaluate_incomplete(spec.gate, spec.n_experts, spec.blocks, draws, rows)
        return Mixture(found.log_weights, spec.blocks, found.params)
    return Mixture(
        spec.gate.evaluate(spec.n_experts, draws, rows.matrices),
        spec.blocks,
        tuple(block.evaluate(draws, rows.matrices) for block in spec.blocks),
    )


def chunks(
    spec: MixtureOfExperts, draws: Mapping[str, np.ndarray], rows: Rows
) -> Iterator[tuple[slice, Rows, Mixture]]:
    """Evaluate draws on rows, a bounded number of rows at a time."""
    samples = len(next(iter(draws.values())))
    step = max(1, CHUNK_ELEMENTS // (samples * spec.n_experts))
    for start in range(0, max(rows.size, 1), step):
        where = slice(start, min(start + step, rows.size))
        part = rows.pick(where)
        yield where, part, evaluate(spec, draws, part)
