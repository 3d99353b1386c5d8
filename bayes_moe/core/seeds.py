"""Random seeds: one check of what a user gives, and a drawn seed where none is given."""

from __future__ import annotations

import numpy as np

from bayes_moe.core.errors import SpecError


def resolve(random_seed: int | None) -> int:
    """Return the seed to use; a drawn one can be kept with a result, so that it can be repeated.

    Raises
    ------
    SpecError
        For anything but None and whole numbers of at least 0.
    """
    if random_seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if not isinstance(random_seed, int | np.integer) or random_seed < 0:
        raise SpecError(f"`random_seed` must be a whole number >= 0; it is {random_seed!r}.")
    return int(random_seed)
