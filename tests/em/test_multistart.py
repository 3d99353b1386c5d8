"""The search for modes: races, the chance of a new mode, and when moves are made."""

from collections import Counter

import numpy as np
import pytest

from bayes_moe.em.modes import new_mode_chance


@pytest.mark.parametrize("seed", range(5))
def test_chance_of_a_new_mode_is_the_share_of_lonely_starts(seed):
    """Against a count over the starts one by one."""
    rng = np.random.default_rng(seed)
    ended = rng.geometric(0.3, size=12)
    singular = {mode: bool(rng.random() < 0.3) for mode in range(1, 60)}
    counts = Counter(ended.tolist())
    alone = sum(counts[mode] == 1 and not singular[mode] for mode in ended)

    class Table:
        hits = np.array(list(counts.values()))
        finished = 12

    Table.singular = np.array([singular[mode] for mode in counts])
    assert new_mode_chance(Table) == alone / 12
