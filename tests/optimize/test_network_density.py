"""The compiled density of networks is that of the graph, coordinate by coordinate."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.gates import Softmax, StickBreaking, Tree
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.optimize.densities import log_density
from bayes_moe.optimize.network_density import NetworkDensity, supports
from bayes_moe.predictors import MLP
from tests.support.graphs import internal_graph
from tests.support.linear_models import plain, table

P = bm.Prior
NET = MLP((4, 3))


def mdn(response="normal", **more):
    return bm.mixture_density(f"{response} ~ x + z", 3, **{"hidden": (5, 4), **more})


CASES = {
    "density network": mdn(),
    "one layer of softplus units": mdn(hidden=(6,), activation="softplus"),
    "three layers of relu units": mdn(hidden=(5, 3, 4), activation="relu"),
    "heavy tails": mdn("studentt", family="studentt"),
    "counts": mdn("poisson", family="poisson"),
    "binary": mdn("bernoulli", family="bernoulli", activation="softplus"),
    "trials": mdn("binomial", family="binomial", trials="n"),
    "positive": mdn("gamma", family="gamma", hidden=(4,)),
    "linear scale": mdn(sigma="~ z"),
    "not centred": mdn(center=False),
    "given priors": mdn(
        priors={
            "trunk_decay": P("HalfNormal", sigma=2),
            "trunk_hidden1": P("StudentT", nu=4, sigma=0.3),
            "gate_coef": P("Normal", mu=0.1, sigma=1.5),
            "mu_coef": P("Normal", mu=0, sigma=[3.0, 1, 1, 2, 2]),
        }
    ),
    "one component": bm.mixture_density("normal ~ x", 1, (3,)),
    "two components": bm.mixture_density("normal ~ x", 2, (3,)),
    "network gate": plain("normal", experts=3, gate=Softmax("~ x", predictor=NET), sigma="~ z"),
    "network gate, no layers": plain("normal", gate=Softmax("~ x", predictor=MLP(()))),
    "network experts": plain("normal", experts=3, predictor=NET),
    "networks of both parameters": plain(
        "normal", experts=3, sigma="~ z", predictor={"mu": NET, "sigma": MLP((2,), "relu")}
    ),
    "fixed scales": plain("poisson", predictor=MLP((4, 3), "softplus", scale="fixed")),
    "offsets of a network's heads": bm.mixture_density(
        "poisson ~ x + z", 3, (4,), family="poisson", exposure="n"
    ),
    "offsets beside networks": plain(
        "normal",
        experts=3,
        formula="normal ~ x + offset(z)",
        gate=Softmax("~ 1 + offset(x, z, 0)"),
        sigma="~ 1 + offset(0.2 * z)",
        predictor=NET,
    ),
    "sticks": plain("normal", experts=4, gate=StickBreaking("~ z"), predictor=NET),
    "a tree": plain("normal", experts=4, gate=Tree([[0, 1], [2, 3]], formula="~ z"), predictor=NET),
    "two kinds": bm.MixtureOfExperts(
        Softmax("~ x", predictor=NET),
        [
            bm.Expert("normal ~ x", name="curve", predictor=MLP((3,))),
            bm.Expert("normal ~ z", "studentt", name="line"),
            bm.Expert("normal ~ x", name="curve", predictor=MLP((3,))),
        ],
    ),
}


SLOW = {
    "binary",
    "one component",
    "not centred",
    "three layers of relu units",
    "network gate, no layers",
    "network experts",
    "a tree",
    "counts",
    "linear scale",
    "two components",
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CASES],
)
def densities(request):
    """Compiled density and that of the graph, both of the unconstrained values."""
    spec = CASES[request.param]
    design = spec.design(table())
    graph = GraphLogDensity(internal_graph(spec, design), jacobian=True)
    return NetworkDensity(spec, design, jacobian=True), graph


def scattered(density, scale=0.5, seed=0):
    return scale * np.random.default_rng(seed).standard_normal(density.free.size)


def same(found, expected):
    """Hold log prior, log likelihood and gradient to others."""
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-9)
    tolerance = 1e-9 * np.abs(expected[2]).max()
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-9, atol=tolerance)


@pytest.mark.parametrize(("scale", "weight"), [(0.1, 1.0), (0.5, 3.7), (1.5, 1.0), (0.5, 0.0)])
def test_value_and_gradient_are_those_of_the_graph(densities, scale, weight):
    compiled, graph = densities
    x = scattered(compiled, scale)
    found, expected = compiled.weighted(x, weight), graph.weighted(x, weight)
    if weight == 0.0:  # the likelihood is left out
        found = (found[0], expected[1], found[2])
    same(found, expected)
    assert compiled(x)[0] == pytest.approx(graph(x)[0], rel=1e-9)


def test_coordinates_are_those_of_the_graph(densities):
    compiled, graph = densities
    x = scattered(compiled)
    np.testing.assert_array_equal(compiled.free_coordinates, graph.free_coordinates)
    expected, found = graph.variables(x), compiled.variables(x)
    assert [*found] == [*expected]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12)
        determining = compiled.determining_coordinates([name])
        np.testing.assert_array_equal(determining, graph.determining_coordinates([name]))
    for rv in graph.graph.model.free_RVs:
        np.testing.assert_array_equal(compiled.coordinates([rv.name]), graph.coordinates([rv.name]))
        np.testing.assert_array_equal(compiled.values(x, rv.name), graph.values(x, rv.name))
    np.testing.assert_allclose(compiled.point(found), x, rtol=1e-9, atol=1e-9)


def test_any_rows_can_be_shown(densities):
    compiled, graph = densities
    x = scattered(compiled)
    for which in (np.array([3, 17, 17, 40]), slice(10, 43), slice(0, 1), slice(None)):
        compiled.show(which)
        graph.show(which)
        same(compiled.weighted(x, 2.0), graph.weighted(x, 2.0))


def test_the_gradient_by_learned_scales_is_a_difference_of_values():
    """The graph's is set to zero, as for optimisers; samplers draw the scales too."""
    spec = CASES["density network"]
    density = NetworkDensity(spec, spec.design(table()), jacobian=True)
    x, step = scattered(density), 1e-5
    gradient = density.compiled(x)[1]
    scales = np.flatnonzero(~density.free_coordinates)
    assert scales.size == 2
    for c in scales:
        e = np.eye(x.size)[c] * step
        slope = (density(x + e)[0] - density(x - e)[0]) / (2 * step)
        assert gradient[c] == pytest.approx(slope, rel=1e-6)
    assert not density(x)[1][scales].any()


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 255, 256, 257, 300, 513])
def test_any_number_of_rows(rows):
    spec = CASES["density network"]
    design = spec.design(table())
    which = np.random.default_rng(1).integers(0, design.rows.size, rows)
    compiled = NetworkDensity(spec, design)
    x = scattered(compiled)
    compiled.show(which)
    found = compiled.weighted(x, 1.0)
    each = []
    for j in range(design.rows.size):
        compiled.show(slice(j, j + 1))
        each.append(compiled.weighted(x, 1.0))
    prior = compiled.weighted(x, 0.0)[2]
    likelihood = sum(each[j][1] for j in which)
    gradient = prior + sum(each[j][2] - prior for j in which)
    same(found, (each[0][0], likelihood, gradient))


def test_which_models_are_supported():
    assert all(map(supports, CASES.values()))
    assert not supports(plain("normal", gate=bm.gates.Gaussian("~ x"), predictor=NET))
    assert not supports(plain("normal", predictor=bm.predictors.HSGP(m=5)))
    linear = plain("normal")
    assert isinstance(log_density(linear, linear.design(table())), GraphLogDensity)
    spec = CASES["density network"]
    assert isinstance(log_density(spec, spec.design(table())), NetworkDensity)


def test_many_points_at_once_are_those_alone(densities):
    for density in densities:
        points = np.stack([scattered(densities[0], seed=seed) for seed in range(3)])
        found = density.weighted(points, 1.3)
        for j, x in enumerate(points):
            same([part[j] for part in found], density.weighted(x, 1.3))
        together = density.variables(points)
        for name, value in density.variables(points[1]).items():
            np.testing.assert_allclose(together[name][1], value, rtol=1e-13, atol=1e-13)
