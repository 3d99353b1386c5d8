"""Series whose regime is set by a cue some rows before."""

from itertools import pairwise

import numpy as np
import pandas as pd


def cued(n, seed, delay=20, gap=(30, 70)):
    """A cue of 1 or -1 at random times sets the regime from ``delay`` rows later on."""
    rng = np.random.default_rng(seed)
    cue, regime = np.zeros(n), np.zeros(n, dtype=int)
    times = np.cumsum(rng.integers(*gap, size=n // gap[0] + 1))
    times = times[times < n]
    cue[times] = rng.choice([-1.0, 1.0], len(times))
    for at, to in pairwise([*(times + delay), n]):
        regime[at:to] = cue[at - delay] > 0
    x = rng.normal(size=n)
    y = np.where(regime == 1, 1.5 + x, -1.5 - x) + 0.5 * rng.normal(size=n)
    return pd.DataFrame({"t": np.arange(n), "cue": cue, "x": x, "y": y}), regime
