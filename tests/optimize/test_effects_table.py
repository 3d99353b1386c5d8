"""The compiled density of random effects is that of NumPy and of the graph."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.em.floors import without_floors
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import Softmax, StickBreaking, Tree
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.kernels.families import has_kernel
from bayes_moe.optimize.densities import log_density
from bayes_moe.optimize.free_variables import FreeVariables
from bayes_moe.optimize.network_density import NetworkDensity, supports
from bayes_moe.optimize.network_table import GroupedTable
from bayes_moe.predictors import MLP
from bayes_moe.priors.coordinates import coordinate_of
from bayes_moe.priors.densities import log_density_of_coordinate
from bayes_moe.priors.prior import Prior
from tests.support import linear_models
from tests.support.examples import FAMILIES
from tests.support.graphs import internal_graph
from tests.support.linear_models import plain

P = bm.Prior


def table():
    """The table of linear models with groups, nested ones, weights, limits and labels."""
    rows, rng = linear_models.table(), np.random.default_rng(3)
    size = len(rows)
    rows["g"] = [f"g{j}" for j in rng.integers(0, 7, size)]
    rows["a"], rows["b"] = rng.integers(0, 3, size), rng.integers(0, 2, size)
    rows["by_g"] = rows.groupby("g")["z"].transform("mean")
    rows["of_g"] = rows["g"].isin(["g0", "g1", "g2"])
    rows["w"], rows["seen"] = rng.uniform(0, 2, size), rng.choice(["observed", "right"], size)
    rows["label"] = np.where(rng.random(size) < 0.2, rng.choice(["0", "1"], size), None)
    rows["kind"] = rng.choice(["one", "two", "three"], size)
    return rows


def correlated(family, **more):
    return plain(family, formula=f"{family} ~ x + (z | g)", gate="~ z + (1 | g)", **more)


OF_FAMILIES = {
    family: correlated(family, **example.options)
    for family, example in FAMILIES.items()
    if family not in ("uniform", "pointmass")
}
OF_FAMILIES = {n: s for n, s in OF_FAMILIES.items() if has_kernel(s.experts[0].family)}
EFFECTS = {
    "an intercept": plain("normal", formula="normal ~ x + (1 | g)"),
    "nothing but groups": plain("normal", formula="normal ~ 1 + (1 | g)", gate="~ 1 + (1 | g)"),
    "one expert": plain("normal", formula="normal ~ x + (x | g)", experts=1),
    "a slope only": plain("poisson", formula="poisson ~ x + (0 + x | g)"),
    "independent effects": plain("normal", formula="normal ~ x + (x + z || g)", experts=3),
    "three correlated effects": plain("normal", formula="normal ~ x + (x + z | g)"),
    "four correlated effects": plain("normal", formula="normal ~ x + (x + z + n | g)", experts=1),
    "groups within groups": plain("poisson", formula="poisson ~ x + (z | a/b)", gate="~ (1 | a/b)"),
    "two groupings": plain("normal", formula="normal ~ x + (z | g) + (1 | a) + (x || b)"),
    "own formulas": plain(
        "studentt", experts=3, sigma="~ x + (1 | g)", nu="~ 1 + (x || a)", gate="~ z + (x | a)"
    ),
}
GATES = {
    "sticks": StickBreaking("~ z + (x | g)"),
    "a tree": Tree([[0, 1], [2, 3]], formula="~ z + (x | g)", formulas={"1": "~ x + (1 | a)"}),
    "a tree of three ways": Tree(branching=(2, 2), formula="~ 1 + (x || g)", shrink=0.5),
    "a warm gate": Softmax("~ z + (x | g)", temperature=2.5),
}
MORE = {
    "weights": correlated("normal", weights="w"),
    "offsets": plain(
        "poisson",
        formula="poisson ~ x + (1 | g) + offset(log(n))",
        gate="~ z + (1 | g) + offset(0.3 * x, z)",
    ),
    "censored": plain(
        "normal", formula="censored(normal, status=seen) ~ x + (z | g)", gate="~ z + (1 | g)"
    ),
    "known experts": correlated("normal", expert="label"),
    "rows of a group in one expert": plain(
        "normal", formula="normal ~ x + (z | a)", gate="~ by_g + (1 | of_g)", group="g"
    ),
    "normal gate prior": correlated(
        "normal", experts=3, priors={"gate_coef": P("Normal", mu=0.1, sigma=1.5)}
    ),
    "given priors": correlated(
        "normal",
        priors={
            "mu_g_sd": P("Gamma", alpha=2.0, beta=1.5),
            "mu_g_corr": P("LKJ", eta=4.0),
            "gate_g_sd": P("Exponential", lam=2.0),
        },
    ),
    "classes": plain(
        "categorical",
        formula="kind ~ x + (z | g)",
        gate="~ z + (1 | a)",
        levels=("one", "two", "three"),
    ),
    "two kinds": bm.MixtureOfExperts(
        Softmax("~ x + (1 | g)"),
        [
            bm.Expert("normal ~ x + (z | g)", name="line"),
            bm.Expert("normal ~ z + (1 | a)", "studentt", name="curve", sigma="~ (1 | g)"),
            bm.Expert("normal ~ x + (z | g)", name="line"),
        ],
    ),
}
CASES = (
    {f"of {family}": spec for family, spec in OF_FAMILIES.items()}
    | EFFECTS
    | {name: plain("normal", experts=4, gate=gate) for name, gate in GATES.items()}
    | MORE
)


def differences(function, x, step=1e-3):
    """Jacobian (coordinate, value) of a smooth function of points (point, coordinate)."""
    moves = step * np.eye(x.size)
    at = [function(x + k * moves) for k in (-2, -1, 1, 2)]
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * step)


def log_prior(free, x):
    """Log prior density of the unconstrained values, and its gradient, by the formulas."""
    value, slopes = 0.0, np.zeros(x.size)
    for v in free.parts:
        given = (np.asarray(a) for a in v.prior.arguments.values())
        given = (a[:, None] if v.column and a.ndim else a for a in given)
        shaped = (np.broadcast_to(a, v.free_shape).ravel() for a in given)
        prior = Prior(v.prior.distribution, **dict(zip(v.prior.arguments, shaped, strict=True)))
        found = log_density_of_coordinate(prior, x[v.where])
        slope = coordinate_of(prior).log_slope(x[v.where])
        value += np.sum(found[0]) + np.sum(slope[0])
        slopes[v.where] = found[1] + slope[1]
    return value, slopes


def expected_at(spec, design, free, x):
    """Log prior, log likelihood, and gradient of both, by EM's objective on dense features."""
    vector = without_floors(parameter_vector(spec, design))

    def points(x):
        return vector.points(free.variables(x))

    prior, slopes = log_prior(free, x)
    evaluation = Objective(vector).evaluate(points(x[None]), Curvature.COMPLETE)
    likelihood = evaluation.value[0] - vector.log_prior(points(x[None]))[0][0]
    return prior, likelihood, slopes, differences(points, x) @ evaluation.likelihood_gradient[0]


def scattered(size, scale=0.4, seed=0):
    return scale * np.random.default_rng(seed).standard_normal(size)


def near(found, expected):
    tolerance = 1e-9 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=tolerance)


class Compiled:
    """The density of linear predictors of a model, and its coordinates."""

    def __init__(self, spec):
        self.spec, self.design = spec, spec.design(table())
        self.free = FreeVariables.of(spec, self.design, spec.resolve_priors(self.design))
        self.density = GroupedTable(self.free, jacobian=True).density()


@pytest.mark.parametrize("name", list(CASES))
def test_value_and_gradient_are_those_of_dense_features(name):
    compiled = Compiled(CASES[name])
    spec, design, free = compiled.spec, compiled.design, compiled.free
    for scale in (0.3, 1.0):
        x = scattered(free.size, scale)
        prior, likelihood, slopes, gradient = expected_at(spec, design, free, x)
        value, found = compiled.density(x)
        assert value == pytest.approx(prior + likelihood, rel=1e-9)
        near(found, slopes + gradient)
        if supports(spec):
            weighted = NetworkDensity(spec, design, jacobian=True).compiled.weighted(x, 1.7)
            np.testing.assert_allclose(weighted[:2], [prior, likelihood], rtol=1e-9)
            near(weighted[2], slopes + 1.7 * gradient)


def test_rows_can_be_picked():
    compiled = Compiled(EFFECTS["two groupings"])
    x = scattered(compiled.free.size)
    prior, slopes = log_prior(compiled.free, x)
    parts = [compiled.density.pick(which)(x) for which in (slice(0, 17), np.arange(17, 60))]
    value, gradient = compiled.density(x)
    assert sum(v for v, _ in parts) == pytest.approx(value + prior, rel=1e-12)
    near(sum(g for _, g in parts), gradient + slopes)


@pytest.mark.parametrize("far", [-40.0, 40.0, 800.0])
def test_correlations_of_one_are_finite(far):
    """At the ends factors are zero or one, where no derivative may be 0 / 0."""
    compiled = Compiled(EFFECTS["three correlated effects"])
    free, x = compiled.free, scattered(compiled.free.size)
    x[free["mu_g_corr"].where] = far
    value, gradient = compiled.density(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


ON_GRAPH = {
    "correlated effects": plain(
        "normal", formula="normal ~ x + (x + z | g)", gate="~ z + (x | a)", sigma="~ (1 | a/b)"
    ),
    "a tree": CASES["a tree"],
    "classes": CASES["classes"],
    "two kinds": CASES["two kinds"],
    "beside networks": plain(
        "normal", formula="normal ~ x + (z | g)", gate=Softmax("~ z", predictor=MLP((3,)))
    ),
    "networks beside": plain("normal", gate="~ z + (x | g)", predictor=MLP((3,))),
}
QUICK = ("correlated effects",)


@pytest.fixture(
    scope="module",
    params=[n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ON_GRAPH],
)
def densities(request):
    """Compiled density and that of the graph, both of the unconstrained values."""
    spec = ON_GRAPH[request.param]
    design = spec.design(table())
    graph = GraphLogDensity(internal_graph(spec, design), jacobian=True)
    return NetworkDensity(spec, design, jacobian=True), graph


def test_value_and_gradient_are_those_of_the_graph(densities):
    compiled, graph = densities
    for scale in (0.3, 1.0):
        x = scattered(compiled.free.size, scale)
        found, expected = compiled.weighted(x, 2.3), graph.weighted(x, 2.3)
        np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-9)
        near(found[2], expected[2])


def test_coordinates_are_those_of_the_graph(densities):
    compiled, graph = densities
    x = scattered(compiled.free.size)
    found, expected = compiled.variables(x), graph.variables(x)
    assert [*found] == [*expected]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12)
        determining = compiled.determining_coordinates([name])
        np.testing.assert_array_equal(determining, graph.determining_coordinates([name]))
    for rv in graph.graph.model.free_RVs:
        np.testing.assert_array_equal(compiled.values(x, rv.name), graph.values(x, rv.name))
    np.testing.assert_allclose(compiled.point(found), x, rtol=1e-9, atol=1e-9)


def test_models_beside_networks_are_compiled():
    spec = ON_GRAPH["beside networks"]
    assert isinstance(log_density(spec, spec.design(table())), NetworkDensity)
