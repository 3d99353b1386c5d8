"""Small texts with a meaning: sentences whose words say what the response is."""

import numpy as np
import pandas as pd

GOOD, BAD = ["good", "great", "fine", "warm"], ["bad", "dull", "flat", "cold"]
OTHER = ["film", "plot", "actor", "scene", "cast", "story", "end", "music"]


def reviews(n=120, seed=0):
    """Sentences of five to nine words, whether they are good, and a number beside."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    texts = []
    for kind in y:
        own = rng.choice(GOOD if kind else BAD, 2)
        words = [*own, *rng.choice(OTHER, rng.integers(3, 8))]
        texts.append(" ".join(rng.permutation(words)).capitalize() + ".")
    return pd.DataFrame({"review": texts, "y": y, "x": rng.normal(size=n)})
