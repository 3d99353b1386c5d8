"""Probabilities of larger responses keep their relative accuracy far in the tail."""

import numpy as np
import pytest

from bayes_moe import families
from tests.support.examples import FAMILIES


@pytest.mark.parametrize("name", list(FAMILIES))
def test_upper_tails_are_scipys(name):
    family, example = families.by_name(name), FAMILIES[name]
    law = example.law(**example.params)
    y = np.concatenate([np.array([law.isf(p).max() for p in (0.5, 1e-3, 1e-9)]), [-1.0]])
    for value in y[np.isfinite(y)]:
        known = {k: np.asarray(v) for k, v in example.params.items()}
        with np.errstate(over="ignore"):
            expected = law.sf(value)
        expected = np.broadcast_to(expected, np.broadcast(*known.values()).shape)
        found = np.broadcast_to(family.sf(value, known), expected.shape)
        there = expected > 1e-250
        np.testing.assert_allclose(found[there], expected[there], rtol=1e-8)
        np.testing.assert_allclose(found + family.cdf(value, known), 1, atol=1e-12)
