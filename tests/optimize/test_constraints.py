"""Shared and fixed parameters beside networks: on the graph, from a surrogate that has them."""

import numpy as np

import bayes_moe as bm
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.optimize.densities import has_compiled_network, log_density
from bayes_moe.optimize.linear_surrogate import LinearSurrogate, first_values
from tests.support.constrained import P, plain, table

SPEC = plain(
    predictor=bm.predictors.MLP((2,)),
    shared=("sigma",),
    fixed={"weights": (0.6, 0.4)},
    priors={"sigma": P("HalfNormal", sigma=1.0)},
)


def test_the_surrogate_keeps_what_it_has():
    surrogate = LinearSurrogate.of(SPEC).spec
    assert (surrogate.shared, dict(surrogate.fixed)) == (SPEC.shared, dict(SPEC.fixed))
    other = plain(
        predictor="hsgp", fixed={"sigma[1]": 0.5}, priors={"sigma[0]": SPEC.priors["sigma"]}
    )
    surrogate = LinearSurrogate.of(other).spec
    assert (dict(surrogate.fixed), set(surrogate.priors)) == ({"sigma[1]": 0.5}, {"sigma[0]"})


def test_the_density_is_that_of_a_graph_with_fewer_coordinates():
    rows = table()
    design = SPEC.design(rows)
    free = plain(predictor=bm.predictors.MLP((2,)), priors=SPEC.priors)
    assert has_compiled_network(free)
    assert not has_compiled_network(SPEC)
    density = log_density(SPEC, design)
    all_free = GraphLogDensity(build_design(free, design, "fused"))
    (start,) = first_values(SPEC, design, 1, np.random.default_rng(1))
    start |= {"sigma": np.array([0.5, 0.5]), "gate_coef": np.log([[0.6], [0.4]]) - np.log(0.24) / 2}
    x = density.point(start)
    assert x.size == all_free.point(start).size - 2  # one scale, one direction of the gate
    values = density.variables(x)
    np.testing.assert_allclose(values["sigma"], [0.5, 0.5], rtol=1e-12)
    ours = density.weighted(x, 1.0)
    theirs = all_free.weighted(all_free.point(start), 1.0)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9)  # the log likelihood
