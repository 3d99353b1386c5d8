"""A small mixture of constant class probabilities."""

import numpy as np
import pandas as pd

import bayes_moe as bm
from bayes_moe.em.class_search import class_mixture
from bayes_moe.model.spec import bound


def small_mixture(rows=60, cores=1):
    """Objective of three experts of five classes, on rows with weights."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "y": pd.Categorical(rng.permutation(np.arange(rows) % 5)),
            "x": rng.standard_normal(rows),
            "w": rng.integers(1, 4, rows),
        }
    )
    spec = bm.mixture_of_experts("y ~ 1", experts=3, gate="~ x", family="categorical", weights="w")
    design = spec.design(table)
    return class_mixture(bound(spec, design), design, cores)
