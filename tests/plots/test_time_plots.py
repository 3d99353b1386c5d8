"""Plots over time: panels by series, strips of weights, and components of a location."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_moe as bm
from tests.support.given_draws import fit_with


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    parts = []
    for name, n in (("a", 80), ("b", 60)):
        hours = pd.date_range("2024-03-01", periods=n, freq="h")
        y = np.sin(2 * np.pi * np.arange(n) / 24) + rng.normal(size=n)
        parts.append(pd.DataFrame({"date": hours, "y": y, "id": name, "x": rng.normal(size=n)}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def fit(table):
    spec = bm.mixture_of_experts(
        "y ~ trend(date) + season(date, period='1D', order=1) + lag(y, 1)",
        experts=2,
        time="date",
        series="id",
        gate="~ 1",
    )
    rng = np.random.default_rng(1)
    draws = {"gate_coef": 0.1 * rng.normal(size=(5, 2, 1)), "sigma": np.ones((5, 2))}
    return fit_with(spec, table, **draws, mu_coef=0.2 * rng.normal(size=(5, 2, 5)))


def backtest_of(origins=4, series=("a", "b"), steps=3):
    """A backtest of random figures."""
    rng = np.random.default_rng(2)
    dims = ("forecast", "origin", "series", "step")
    shape = (2, origins, len(series), steps)
    figures = {n: (dims, rng.normal(size=shape)) for n in ("mean", "median", "crps", "log_score")}
    for level in (80, 95):
        half = 0.01 * level + rng.random(shape)
        figures |= {f"lower_{level}": (dims, -half), f"upper_{level}": (dims, half)}
    figures |= {"y": (dims[1:], rng.normal(size=shape[1:]))}
    scale = (dims[1:3], np.ones(shape[1:3]))
    figures |= {"absolute_scale": scale, "squared_scale": scale}
    times = pd.date_range("2024-01-01", periods=origins).to_numpy()
    coords = {"forecast": ["model", "seasonal naive"], "origin": times, "series": list(series)}
    data = xr.Dataset(figures, coords={**coords, "step": np.arange(1, steps + 1)})
    return bm.Backtest(data, 7, "y")


def axes_of(collection):
    return [ax for ax in np.ravel(collection.viz["plot"].values) if ax is not None]


def test_a_forecast_has_history_bands_and_weights(fit):
    ahead = bm.forecast(fit, 6, paths=50, random_seed=1)
    pc = bm.plot_forecast(ahead, history=20, ci_prob=0.8)
    axes = axes_of(pc)
    assert [ax.get_title() for ax in axes] == ["id a", "id b"]
    assert {"history", "pe_line", "ci_band", "weights", "last"} <= {*pc.viz.children}
    x, y = pc.viz["history"]["value"].sel(panel="a").item().get_data()
    np.testing.assert_array_equal(y, fit.design.plain_response[59:79])
    assert len(x) == 20
    line = pc.viz["pe_line"]["value"].sel(panel="b").item()
    np.testing.assert_allclose(line.get_ydata(), ahead.mean().sel(series="b"))
    # The strip's edges at the last step are the cumulative weights.
    strip = pc.viz["weights"]["value"].sel(panel="a", expert=0).item().get_paths()[0].vertices[:, 1]
    low, high = strip.min(), strip.max()
    whole = pc.viz["weights"]["value"].sel(panel="a", expert=1).item().get_paths()[0]
    share = (high - low) / (whole.vertices[:, 1].max() - low)
    assert share == pytest.approx(float(ahead.weights().sel(series="a", expert=0).max()), abs=0.02)


def test_one_expert_has_no_strip_and_a_fit_is_forecast(table):
    data = table[table["id"] == "a"].assign(t=np.arange(80))
    spec = bm.mixture_of_experts("y ~ season(t, period=24, order=1)", experts=1, time="t")
    fit = fit_with(spec, data, mu_coef=[[[0.1, 0.5, 0.2]]], sigma=[[1.0]])
    pc = bm.plot_forecast(fit, visuals={"ci_band": False})
    assert "weights" not in pc.viz.children
    assert "ci_band" not in pc.viz.children
    (axes,) = axes_of(pc)
    assert axes.get_xlabel() == "t"
    with pytest.raises(bm.SpecError, match="one expert"):
        bm.plot_states(fit)
    with pytest.raises(bm.SpecError, match="part in `visuals`"):
        bm.plot_forecast(fit, visuals={"weigths": False})


def test_states_are_the_responsibilities(fit):
    pc = bm.plot_states(fit, series="b")
    (axes,) = axes_of(pc)
    assert axes.get_title() == "id b"
    edge = pc.viz["weights"]["value"].sel(panel="b", expert=0).item().get_paths()[0].vertices
    share = bm.responsibilities(fit).mean(("chain", "draw"))[79:, 0].values
    top = edge[1 : len(share) + 1, 1]
    low = edge[:, 1].min()
    height = pc.viz["weights"]["value"].sel(panel="b", expert=1).item().get_paths()[0].vertices
    found = (edge[:, 1] - low) / (height[:, 1].max() - low)
    for value in (share.min(), share.max()):
        assert np.abs(found - value).min() < 1e-6
    assert len(top) == len(share)
    with pytest.raises(bm.DataError, match="series 'c'"):
        bm.plot_states(fit, series="c")


def test_components_add_up_to_the_location(fit):
    pc = bm.plot_components(fit, series="a")
    names = pc.viz["pe_line"]["value"]["panel"].values.tolist()
    assert names == ["trend(date)", "season(date, period='1D', order=1)", "rows before"]
    lines = pc.viz["pe_line"]["value"]
    total = sum(lines.sel(panel=n, expert=1).item().get_ydata() for n in names)
    coef = fit.idata["posterior"]["mu_coef"].values[0, :, 1].mean(axis=0)
    values = fit.design.rows.matrices["mu"].values
    expected = (values - values.mean(axis=0)) @ coef
    np.testing.assert_allclose(total, expected[:79], atol=1e-12)


def test_what_cannot_be_plotted_is_named(table):
    data = table.assign(c=(table["y"] > 0).astype(int))
    spec = bm.mixture_of_experts("c ~ x", experts=2, family="bernoulli", time="date", series="id")
    fit = fit_with(spec, data, gate_coef=np.zeros((1, 2, 2)), p_coef=np.zeros((1, 2, 2)))
    new = pd.DataFrame({"date": pd.date_range("2024-03-04 08:00", periods=2, freq="h"), "id": "a"})
    ahead = bm.forecast(fit, data=new.assign(x=0.0))
    with pytest.raises(bm.SpecError, match="response is a class"):
        bm.plot_forecast(ahead)
    deep = bm.mixture_of_experts(
        "y ~ x", experts=1, time="date", series="id", predictor=bm.predictors.MLP((2,))
    )
    shapes = deep.structure.components[0].shapes(deep.design(table).rows.matrices)
    draws = {n: np.ones((1, *shape)) for n, shape in shapes.items()}
    with pytest.raises(bm.SpecError, match="linear predictors"):
        bm.plot_components(fit_with(deep, table, **draws, sigma=np.ones((1, 1))))


@pytest.mark.parametrize("by", ["step", "origin", "series"])
def test_a_backtest_has_the_scores_of_its_table(by):
    found = backtest_of()
    pc = bm.plot_backtest(found, by=by)
    axes = axes_of(pc)
    shown = ["MASE", "CRPS", "inside 80 %", "inside 95 %"]
    assert [ax.get_ylabel() for ax in axes] == shown
    table, points = found.scores(by), pc.viz["pe_scatter"]["value"]
    for panel in points["panel"].values:
        for name in ("model", "seasonal naive"):
            drawn = points.sel(panel=panel, forecast=name).item().get_offsets()[:, 1]
            np.testing.assert_allclose(drawn, table.xs(name, level="forecast")[panel])
    assert ("pe_line" in pc.viz.children) == (by != "series")
    nominal = pc.viz["nominal"]["value"].sel(panel="coverage_95").item()
    assert set(nominal.get_ydata()) == {0.95}
    if by == "series":
        assert [t.get_text() for t in axes[-1].get_xticklabels()] == ["a", "b"]
    assert axes[-1].get_xlabel() == {"step": "steps ahead"}.get(by, by)


def test_a_backtest_in_plotly():
    pytest.importorskip("plotly")
    pc = bm.plot_backtest(backtest_of(1, steps=1), scores="log_score", backend="plotly")
    assert {"pe_line", "pe_scatter", "legend"} <= {*pc.viz.children}
    assert "nominal" not in pc.viz.children


def test_scores_and_axes_that_a_backtest_lacks_are_named():
    with pytest.raises(bm.SpecError, match="Did you mean 'CRPS'"):
        bm.plot_backtest(backtest_of(), scores="crps")
    with pytest.raises(bm.SpecError, match="`by`"):
        bm.plot_backtest(backtest_of(), by="steps")
    with pytest.raises(bm.SpecError, match=r"result of bm\.backtest"):
        bm.plot_backtest(backtest_of().table)
