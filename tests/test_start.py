"""Starting points break the symmetry and are near what the data say."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe import start


@pytest.mark.parametrize("family", ["normal", "studentt"])
@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_points_are_finite_asymmetric_and_reproducible(tone, k, family):
    spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=k, family=family, sigma="~ 1")
    design = spec.design(tone)
    first, again, other = (start.point(spec, design, np.random.default_rng(s)) for s in (0, 0, 1))
    assert set(first) == set(spec.variables)
    for name, value in first.items():
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(value, again[name])
    if k > 1:
        gaps = np.abs(np.subtract.outer(first["mu_coef"][:, 1], first["mu_coef"][:, 1]))
        assert gaps[~np.eye(k, dtype=bool)].min() > 0
        assert not np.array_equal(first["mu_coef"], other["mu_coef"])


def test_tone_starts_near_its_two_lines(tone, tone_spec):
    design = tone_spec.design(tone)
    near = 0
    for seed in range(10):
        slopes = start.point(tone_spec, design, np.random.default_rng(seed))["mu_coef"][:, 1]
        near += bool(np.allclose(np.sort(slopes), [0.04, 1.0], atol=0.25))
    assert near >= 8


def test_few_rows_and_large_tables():
    tiny = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [0.0, 3.0, 1.0]})
    spec = bm.mixture_of_experts("y ~ x", experts=3)
    assert np.isfinite(
        start.point(spec, spec.design(tiny), np.random.default_rng(0))["sigma"]
    ).all()
    rng = np.random.default_rng(0)
    wide = pd.DataFrame({"x": rng.normal(size=50_000)})
    wide["y"] = np.where(rng.random(50_000) < 0.5, 1 + wide["x"], -1 - wide["x"])
    wide["y"] += rng.normal(0, 0.1, 50_000)
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    slopes = start.point(spec, spec.design(wide), rng)["mu_coef"][:, 1]
    np.testing.assert_allclose(np.sort(slopes), [-1, 1], atol=0.1)
