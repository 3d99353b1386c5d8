"""Experts with the distributions of what is recorded of rows: between limits, and cut at others.

Of an expert's responses a part is recorded, so the weights of experts among recorded rows are
``w_k(x) P_k(limits | x)``, divided by their sum, and each expert has the distribution of its
recorded responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.families.recorded import BOTTOM, LEFT, LOG_SHARE, RIGHT, TOP, Recorded, recorded_as
from bayes_moe.model.blocks import Block


@dataclass(frozen=True)
class RecordedBlock(Block):
    """Experts of one description, with what is recorded of their responses."""

    @cached_property
    def known_as(self) -> Block:
        """The experts with what is known of responses."""
        return Block(**{f.name: getattr(self, f.name) for f in fields(self)})

    @cached_property
    def family(self) -> Recorded:
        return recorded_as(self.known_as.family)

    def log_density(self, y: Any, params: Any, xp: Arrays) -> Any:
        """Log density (..., expert, obs) of recorded responses ``y`` (obs,).

        At limits of censoring it is the log of a probability; beyond limits it is minus infinity.
        """
        rows, possible = _known_of(y, params)
        possible = possible & (params[LOG_SHARE] > -np.inf)
        found = self.known_as.log_density(rows, params, xp)
        return np.where(possible, found - np.where(possible, params[LOG_SHARE], 0.0), -np.inf)


def recorded_block(
    block: Block, params: dict[str, np.ndarray], limits: np.ndarray, samples: int
) -> tuple[RecordedBlock, dict[str, np.ndarray]]:
    """Experts with what is recorded of rows within limits (4, obs), and their parameters.

    The limits are those of :class:`bayes_moe.data.observation.Observation`.
    """
    own = RecordedBlock(**{f.name: getattr(block, f.name) for f in fields(block)})
    found = own.family.within(limits, params)
    shape = (samples, len(block.positions), limits.shape[-1])
    return own, {**found, LOG_SHARE: np.broadcast_to(found[LOG_SHARE], shape)}


def recorded_weights(
    log_weights: np.ndarray, params: Sequence[dict[str, np.ndarray]]
) -> np.ndarray:
    """Log weights (sample, expert, obs) of experts among recorded rows, from those among all.

    They are NaN where no response at all could be recorded.
    """
    joint = log_weights + np.concatenate([p[LOG_SHARE] for p in params], axis=-2)
    total = NUMERIC.logsumexp(joint, axis=-2, keepdims=True)
    return np.where(total > -np.inf, joint - np.where(total > -np.inf, total, 0.0), np.nan)


def recorded_span(params: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """Ends (obs,) of the responses of recorded rows; infinite for any response."""
    return params.get(BOTTOM, -np.inf), params.get(TOP, np.inf)


def _known_of(y: np.ndarray, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """What is known of responses (4, obs) recorded as ``y`` (obs,), and which of them can be."""
    names = (BOTTOM, TOP, LEFT, RIGHT)
    y, bottom, top, left, right = np.broadcast_arrays(y, *(params[name] for name in names))
    lower, upper = np.where(y <= left, -np.inf, y), np.where(y >= right, np.inf, y)
    possible = (y >= bottom) & (y <= top) & (y >= left) & (y <= right)
    return np.stack([lower, upper, bottom, top]), possible
