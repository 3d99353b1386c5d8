"""A graph's log density as a function of one vector: its value, its gradient, climbs on it."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.kernels import families as kernels
from bayes_moe.optimize.graph_modes import ends
from bayes_moe.optimize.lbfgs import LBFGSResult, search
from bayes_moe.optimize.linear_surrogate import first_values
from tests.support.graphs import internal_graph

MLP = bm.gates.Softmax("~ x", predictor=bm.predictors.MLP((4, 3)))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, 120)
    y = np.where(np.sin(5 * x) + 0.3 * rng.normal(size=120) > 0, 2 + x, -2 - x)
    counts = rng.poisson(np.exp(np.where(x > 0, 2 + x, 0.2)))
    return pd.DataFrame({"x": x, "y": y + 0.3 * rng.normal(size=120), "c": counts})


MODELS = {
    "network": bm.mixture_of_experts("y ~ x", gate=MLP, experts=3, sigma="~ x"),
    "heavy tails": bm.mixture_of_experts("y ~ x", gate=MLP, experts=2, family="studentt"),
    "counts": bm.mixture_of_experts("c ~ x", gate=MLP, experts=2, family="poisson"),
    "features": bm.mixture_of_experts("y ~ x", gate=bm.gates.Gaussian("~ x"), experts=2),
    "sticks": bm.mixture_of_experts("y ~ x", gate=bm.gates.StickBreaking("~ x"), experts=3),
}


def somewhere(surface, size=0.3):
    start = surface.graph.model.initial_point().values()
    centre = np.concatenate([np.ravel(v) for v in start])
    return centre + size * np.random.default_rng(5).standard_normal(centre.size)


@pytest.mark.parametrize("jacobian", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_value_and_gradient_are_those_of_the_plain_graph(name, jacobian, table):
    surface = GraphLogDensity(internal_graph(MODELS[name], table), jacobian=jacobian)
    x = somewhere(surface)
    value, gradient = surface(x)
    model = internal_graph(MODELS[name], table, "symbolic").model
    options = {"mode": "FAST_COMPILE", "jacobian": jacobian}
    parts = np.split(x, np.cumsum([v.size for v in model.initial_point().values()])[:-1])
    shapes = model.initial_point().items()
    point = {n: p.reshape(v.shape) for (n, v), p in zip(shapes, parts, strict=True)}
    np.testing.assert_allclose(value, model.compile_logp(**options)(point), rtol=1e-9)
    expected = model.compile_dlogp(**options)(point)
    expected = np.where(surface.free_coordinates, expected, 0.0)  # learned scales rest
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_a_family_without_a_kernel_falls_back_on_its_formulas(table, monkeypatch):
    with_kernel = GraphLogDensity(internal_graph(MODELS["network"], table))
    x = somewhere(with_kernel)
    monkeypatch.setattr(kernels, "has_kernel", lambda family: False)
    without = GraphLogDensity(internal_graph(MODELS["network"], table))
    for ours, theirs in zip(with_kernel(x), without(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_second_derivatives_along_some_coordinates(table):
    surface = GraphLogDensity(internal_graph(MODELS["network"], table))
    x = somewhere(surface)
    moving = surface.coordinates(["sigma_raw", "gate_raw"])
    assert 0 < moving.sum() < x.size
    some, whole = surface.information(x, moving), surface.information(x)
    part = moving[surface.free_coordinates]
    np.testing.assert_allclose(some, whole[np.ix_(part, part)], rtol=1e-6, atol=1e-6)


def test_no_minutes_are_spent_on_second_derivatives(table, monkeypatch):
    monkeypatch.setattr("bayes_moe.model.log_density.MOST_COORDINATES", 5)
    fit = bm.fit(MODELS["network"], table, method="map", restarts=1, random_seed=1)
    figures = fit.idata["fit"]
    norm, value = float(figures["gradient_norm"]), float(figures["objective"])
    assert bool(figures["converged"]) == (norm <= 1e-6 * (1 + abs(value)))
    assert np.isnan(fit.idata["standard_error"]["gate_coef"]).all()
    assert not any("standard errors" in problem for problem in bm.diagnose(fit).problems)


def test_a_race_ends_where_climbs_do(table):
    surface = GraphLogDensity(internal_graph(MODELS["network"], table))
    spec, design = surface.graph.spec, surface.graph.design
    starts = first_values(spec, design, 8, np.random.default_rng(1))
    raced = search(surface, starts, 130)
    alone = search(surface, starts[:7], 130)
    assert len(raced) == 4
    assert len(alone) == 7
    assert raced[0].value >= max(c.value for c in alone) - 5
    assert [c.value for c in raced] == sorted((c.value for c in raced), reverse=True)


@pytest.mark.parametrize("formula", [None, "~ x"])
def test_an_expert_that_collapsed_is_not_the_answer(formula, table):
    """An expert of one row: a mode of higher density that is none of the model's."""
    own = {} if formula is None else {"sigma": formula}
    spec = bm.mixture_of_experts("y ~ x", gate=MLP, experts=2, **own)
    surface = GraphLogDensity(internal_graph(spec, table))
    fine = {name: v for name, v in surface.variables(somewhere(surface)).items()}
    low = {name: np.array(v) for name, v in fine.items()}
    row = surface.graph.design.rows.matrices["mu"].values[7]
    low["mu_coef"][0] = np.linalg.lstsq(row[None], table["y"].to_numpy()[[7]], rcond=None)[0]
    if formula is None:
        low["sigma"][0] = 1e-9
    else:
        low["sigma_coef"][0] = [np.log(1e-9), 0.0]
    climbs = [
        LBFGSResult(surface.point(low), 1e6, 0.0, 1, True, False, [0.0]),
        LBFGSResult(surface.point(fine), -1e3, 0.0, 1, True, False, [0.0]),
    ]
    found = ends(surface, climbs)
    assert found.singular.tolist() == [True, False]
    assert found.best == 1
