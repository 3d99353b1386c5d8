"""Chains start at modes, in proportion to their mass, and near them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em.modes import match_modes
from bayes_moe.sampling import chain_starts as start


@pytest.mark.parametrize("family", ["normal", "studentt"])
@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_points_are_finite_asymmetric_and_reproducible(tone, k, family):
    spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=k, family=family, sigma="~ 1")
    found = start.starts(spec, spec.design(tone), 1)
    assert found.mass.sum() == pytest.approx(1)
    (m, first), (again_m, again), (_, other) = (
        found.draw(np.random.default_rng(s)) for s in (0, 0, 1)
    )
    assert m == again_m
    for name, value in first.items():
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(value, again[name])
    if k > 1:
        gaps = np.abs(np.subtract.outer(first["mu_coef"][:, 1], first["mu_coef"][:, 1]))
        assert gaps[~np.eye(k, dtype=bool)].min() > 0
        assert not np.array_equal(first["mu_coef"], other["mu_coef"])


def test_tone_starts_near_its_two_lines(tone, tone_spec):
    found = start.starts(tone_spec, tone_spec.design(tone), 1)
    for seed in range(10):
        mode, values = found.draw(np.random.default_rng(seed))
        np.testing.assert_allclose(values["mu_coef"][:, 1], [0.04, 1.0], atol=0.3)
        assert mode == 0
        assert found.mode_of({k: v[None] for k, v in values.items()}) == [0]


def test_points_of_other_modes_are_told_apart(tone):
    spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=4)
    found = start.starts(spec, spec.design(tone), 1)
    assert len(found.mass) > 2
    values = {name: found.modes.values[name] for name in spec.variables}
    assert found.mode_of(values).tolist() == list(range(len(found.mass)))
    swapped = {name: v[:, [2, 0, 3, 1]] for name, v in values.items()}
    assert found.mode_of(swapped).tolist() == list(range(len(found.mass)))


def test_few_rows_and_large_tables():
    tiny = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [0.0, 3.0, 1.0]})
    spec = bm.mixture_of_experts("y ~ x", experts=3)
    values = start.starts(spec, spec.design(tiny), 1).draw(np.random.default_rng(0))[1]
    assert np.isfinite(values["sigma"]).all()
    rng = np.random.default_rng(0)
    wide = pd.DataFrame({"x": rng.normal(size=50_000)})
    wide["y"] = np.where(rng.random(50_000) < 0.5, 1 + wide["x"], -1 - wide["x"])
    wide["y"] += rng.normal(0, 0.1, 50_000)
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    values = start.starts(spec, spec.design(wide), 1).draw(rng)[1]
    np.testing.assert_allclose(np.sort(values["mu_coef"][:, 1]), [-1, 1], atol=0.01)


def halves(family, rows):
    """Two lines, each in one half of the feature's range."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 2, rows)
    mean = np.where(rng.random(rows) < 1 / (1 + np.exp(-3 * x)), 2 + 0.5 * x, -1 - 0.5 * x)
    y = rng.poisson(np.exp(mean / 2)) if family == "poisson" else rng.normal(mean, 0.4)
    return pd.DataFrame({"x": x, "y": y})


@pytest.mark.parametrize("family", ["normal", "studentt", "poisson"])
def test_starts_on_a_subsample_find_the_modes_with_mass_of_all_rows(monkeypatch, family):
    data = halves(family, 1500)
    spec = bm.mixture_of_experts("y ~ x", experts=2, family=family)
    design = spec.design(data)
    found = start.starts(spec, design, 1)
    monkeypatch.setattr(start, "LEAST_ROWS", len(data))
    whole = start.starts(spec, design, 1)
    heavy = np.flatnonzero(whole.mass > 1e-3)
    same = match_modes(found.modes, whole.modes, design.rows)[heavy]
    assert (same >= 0).all()
    np.testing.assert_allclose(found.mass[same], whole.mass[heavy], atol=1e-4)
    np.testing.assert_allclose(found.modes.theta[same], whole.modes.theta[heavy], atol=1e-4)
    values = {name: v[None, found.mass.argmax()] for name, v in found.modes.values.items()}
    assert found.mode_of(values).tolist() == [int(found.mass.argmax())]


def test_near_normal_is_one_mode_without_a_long_tail_of_a_shape_parameter(tone, tone_spec):
    found = start.starts(tone_spec, tone_spec.design(tone), 1)
    assert found.near_normal
    np.testing.assert_array_equal(found.approximation[0], found.modes.theta[0])
    np.testing.assert_array_equal(found.approximation[1], found.covariances[0])
    shares = np.array([0.6, *np.full(len(found.mass), 0.4 / len(found.mass))])[: len(found.mass)]
    assert not replace(found, mass=shares).near_normal
    assert not replace(found, covariances=(None,) * len(found.mass)).near_normal
    heavy = bm.mixture_of_experts("tuned ~ stretchratio", experts=2, family="studentt")
    assert not start.starts(heavy, heavy.design(tone), 1).near_normal
    # Many rows, heavy tails: the degrees of freedom are known well.
    rng = np.random.default_rng(0)
    x = rng.normal(size=1500)
    table = {"x": x, "y": 2 * np.abs(x) + 0.3 * rng.standard_t(4, size=1500)}
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="studentt")
    known = start.starts(spec, spec.design(table), 1)
    assert known.near_normal
    assert not replace(known, mass=np.full(len(known.mass), 0.5)).near_normal
