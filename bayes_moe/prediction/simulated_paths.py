"""Paths of responses ahead, simulated step by step, with the mixture of each step given its past.

Experts are not simulated: the weights of a step are those of the mixture, or of the filter of a
Markov gate, given the responses of the same path. So the average over paths of the mixtures of a
step is its marginal distribution with less Monte Carlo error than the responses have themselves
(Rao-Blackwell).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Values
from bayes_moe.core.errors import SpecError
from bayes_moe.data.censored_response import BOUNDED, INTERVAL, limits_of
from bayes_moe.data.matrix import Matrix
from bayes_moe.model.allocation import with_groups
from bayes_moe.model.blocks import uncensored
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.filtered_ends import filtered_ends
from bayes_moe.prediction.future_rows import FutureRows
from bayes_moe.prediction.path_features import PathFeatures
from bayes_moe.prediction.path_sources import PathSources
from bayes_moe.results.fit import Fit

__all__ = ["StoredMixtures", "propagated", "simulate_paths", "with_groups"]

MOST_NUMBERS = 2**28
"""Numbers that the mixtures of all steps and paths may hold: 2 GiB."""


@dataclass(frozen=True, eq=False)
class StoredMixtures:
    """Mixtures (sample * path, expert, row) of rows ahead, and responses simulated from them.

    ``responses`` (response, sample * path, row) are None where responses do not depend on those
    before, given the weights.
    """

    mixture: Mixture
    paths: int
    responses: np.ndarray | None = None
