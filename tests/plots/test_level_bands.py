"""Bands of highest-density sets cover exactly these sets, and none of the gap between them."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.data import reference_grid
from bayes_moe.data.reference_grid import grid_along
from bayes_moe.plots.level_bands import bands_of
from tests.support.fits import fake_fit

mpl.use("Agg")


def covered(bands, y):
    """Whether each point of a grid has a value inside some band (point, value)."""
    low, high = bands[..., 0], bands[..., 1]
    return ((low[..., None] <= y) & (y <= high[..., None])).any(axis=0)


def crossing_sets(n=60):
    """Intervals about two lines that cross."""
    x = np.linspace(-3, 3, n)
    apart = np.stack([[-abs(x) - 0.5, -abs(x) + 0.5], [abs(x) - 0.5, abs(x) + 0.5]])
    apart = np.moveaxis(apart, -1, 0)
    near = abs(x) < 0.5
    apart[near, 0, 1] = apart[near, 1, 1]
    apart[near, 1] = np.nan
    return apart


def random_sets(rng, n=40, most=4):
    """Disjoint intervals of a random number at each point."""
    bounds = np.full((n, most, 2), np.nan)
    for i in range(n):
        k = rng.integers(1, most + 1)
        bounds[i, :k] = np.sort(rng.uniform(0, 10, 2 * k)).reshape(k, 2)
    return bounds


def test_bands_of_two_crossing_lines_divide_and_join():
    bounds = crossing_sets()
    bands = bands_of(bounds)
    assert len(bands) == 3
    count = np.isfinite(bounds).all(axis=-1).sum(axis=1)
    wide = bands[..., 1] - bands[..., 0] > 0
    assert wide.sum(axis=0).tolist() == count.tolist()
    y = np.linspace(-4, 4, 401) + 1e-4
    np.testing.assert_array_equal(covered(bands, y), covered(np.moveaxis(bounds, 1, 0), y))


@pytest.mark.parametrize("seed", range(20))
def test_bands_cover_the_sets_at_every_point(seed):
    rng = np.random.default_rng(seed)
    bounds = random_sets(rng)
    y = rng.uniform(0, 10, 300)
    np.testing.assert_array_equal(
        covered(bands_of(bounds), y), covered(np.moveaxis(bounds, 1, 0), y)
    )


def humps_fit(family="normal"):
    rows = pd.DataFrame({"x": np.random.default_rng(0).uniform(0, 10, 60)})
    spec = bm.mixture_of_experts("y ~ x", experts=2, family=family)
    truth = {"gate_coef": [[0.0, -0.1], [0.0, 0.1]]}
    if family == "normal":
        truth |= {"mu_coef": [[0.0, 1.0], [10.0, -1.0]], "sigma": [0.6, 0.6]}
    else:
        truth |= {"mu_coef": [[0.0, 0.01], [4.0, 0.01]]}
    return fake_fit(spec, bm.simulate(spec, rows, truth, random_seed=1), truth, draws=3)


@pytest.mark.parametrize("family", ["normal", "poisson"])
def test_drawn_sets_are_the_predictive_sets(family, monkeypatch):
    monkeypatch.setattr(reference_grid, "EQUIDISTANT", 20)
    monkeypatch.setattr(reference_grid, "QUANTILES", 3)
    fit = humps_fit(family)
    pc = bm.plot_predictive(fit, kind="hdr", ci_prob=(0.5, 0.9), backend="none")
    sets = bm.predict(fit, grid_along(fit.design, "x").rows).hdr(0.9)
    margin = 0.25 * (family == "poisson")
    drawn = pc.viz["ci_band"]["value"].values
    ends = np.array([[d["y_bottom"], d["y_top"]] for d in drawn])  # (band, end, point)
    bounds = sets["bounds"].values
    for i in range(bounds.shape[0]):
        expected = bounds[i][np.isfinite(bounds[i]).all(axis=1)] + np.array([-1, 1]) * margin
        here = ends[:, :, i]
        assert all(np.isclose(here, pair).all(axis=1).any() for pair in expected)
    # The middle of the first and last point is in the gap.
    assert sets["n_intervals"].values[0] == 2
    gap = 5.0 if family == "normal" else 25.0
    assert not ((ends[:, 0, 0] < gap) & (gap < ends[:, 1, 0])).any()
    legend = bm.plot_predictive(fit, kind="hdr", ci_prob=0.9).viz["figure"].item().legends[0]
    assert "90 % highest-density set" in [t.get_text() for t in legend.get_texts()]
    mpl.pyplot.close("all")


def zeros_fit(column):
    """Amounts far from zero, and zeros: sets of a single number beside intervals."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.uniform(0, 3, 80), "g": ["a", "b"] * 40})
    spec = bm.MixtureOfExperts(
        bm.gates.Softmax(f"~ {column}"), [bm.Expert("y", "pointmass"), bm.Expert("y ~ 1", "gamma")]
    )
    truth = {"gate_coef": [[0.0, -0.3], [0.0, 0.3]], "block1_mu_coef": [[2.0]]}
    truth |= {"block1_alpha": [9.0]}
    return fake_fit(spec, bm.simulate(spec, rows, truth, random_seed=1), truth, draws=3)


@pytest.mark.parametrize("column", ["x", "g"])
def test_a_single_number_of_a_set_has_a_height(column):
    fit = zeros_fit(column)
    pc = bm.plot_predictive(fit, column, kind="hdr", ci_prob=0.9, backend="none")
    rows = grid_along(fit.design, column).rows
    bounds = bm.predict(fit, rows).hdr(0.9)["bounds"].values
    single = bounds[..., 0] == bounds[..., 1]
    assert (single.sum(axis=1) == 1).all()
    assert (bounds[single] == 0).all()
    drawn = pc.viz["ci_band"]["value"].values
    ends = np.array([[d["y_bottom"], d["y_top"]] for d in drawn])  # (band, end, point)
    least = 0.01 * fit.design.response.max()
    for i, own in enumerate(bounds):
        here = ends[:, :, i][np.isfinite(ends[:, :, i]).all(axis=1)]
        (at_zero,) = here[(here[:, 0] < 0) & (here[:, 1] > 0)]
        assert at_zero.sum() == pytest.approx(0)
        assert np.ptp(at_zero) > least
        wide = own[np.isfinite(own).all(axis=1) & ~single[i]]
        assert all(np.isclose(here, pair).all(axis=1).any() for pair in wide)


def test_another_kind_is_named():
    with pytest.raises(bm.SpecError, match=r"kind.*'hdr'"):
        bm.plot_predictive(humps_fit(), kind="hdi")
