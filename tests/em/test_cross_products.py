"""Sums over rows of products of features."""

import numpy as np
import pytest

from bayes_moe.em import cross_products
from bayes_moe.em.cross_products import Features


@pytest.mark.parametrize("wide", [1, 10**6])
@pytest.mark.parametrize("cached", [0, 2**23])
def test_products_of_features_are_sums_over_rows(monkeypatch, wide, cached):
    monkeypatch.setattr(cross_products, "WIDE", wide)
    monkeypatch.setattr(cross_products, "LARGEST_CACHE", cached)
    rng = np.random.default_rng(1)
    one, other, weights = (rng.normal(size=s) for s in ((9, 50), (8, 50), (2, 3, 20)))
    features, where = Features([one, other], [0, 1]), slice(10, 30)
    for tables, a, b in (((0, 0), one, one), ((0, 1), one, other)):
        found = features.products(weights, tables, where)
        sums = np.einsum("pqn,in,jn->pqij", weights, a[:, where], b[:, where])
        np.testing.assert_allclose(found, sums, atol=1e-12)
        if a is b:
            np.testing.assert_array_equal(found, np.swapaxes(found, -1, -2))
