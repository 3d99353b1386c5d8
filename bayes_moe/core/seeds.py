"""Random seeds: check of a user's seed, or a drawn seed in place of None."""

from __future__ import annotations

import numpy as np

from bayes_moe.core.checks import check_whole


def resolve(random_seed: int | None) -> int:
    """Seed to use and to store with a result: the user's, or a drawn one in place of None.

    Raises
    ------
    SpecError
        For anything but None and whole numbers of at least 0.
    """
    if random_seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    check_whole("random_seed", random_seed, 0)
    return int(random_seed)
