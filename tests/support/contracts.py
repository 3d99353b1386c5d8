"""Contracts: what every family and every gate must hold, whether it is registered or about to be.

The checks run over all rows of the registry (``families/test_contract``, ``gates/test_contract``)
and over pieces that a test defines (``test_adding_a_piece``).
"""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.em.objective import Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model.evaluation import evaluate
from tests.support.examples import CUSPED, DOUBLY_EXPONENTIAL
from tests.support.graphs import internal_graph
from tests.support.linear_models import points
from tests.support.roles import REACH, unit_of

# --- families: checks of an instance --------------------------------------------------------------


def random_params(family, rng, shape):
    """Parameters drawn on the link scale, and what is known of rows."""
    params = {
        p.name: p.link.inverse(rng.normal(REACH[p.role].centre, 0.5, shape), NUMERIC)
        + (p.role == "shape") * 3.0
        for p in family.parameters
    }
    return params | {k: rng.integers(1, 9, shape or 1).astype(float) for k in family.known_counts}


def log_density_is_pymcs(family):
    import pymc as pm

    rng = np.random.default_rng(0)
    params = random_params(family, rng, 50)
    y = family.random(params, rng, (50,)).astype(float)
    expected = pm.logp(family.dist(params), y).eval(mode="FAST_COMPILE")
    found = family.log_density(y, params, NUMERIC)
    # PyMC's skew normal has the square root of 2 in single precision.
    np.testing.assert_allclose(found, expected, rtol=1e-7 if family.kind == "skewnormal" else 1e-10)
    tensor = family.log_density(y, params, symbolic()).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(tensor, found, rtol=1e-10)


def cdf_mean_and_variance_are_integrals_of_the_density(family):
    params = random_params(family, np.random.default_rng(1), ())
    location, scale = np.ravel(family.location(params))[0], family.scale(params)

    def density(y):
        return np.exp(family.log_density(y, params, NUMERIC))

    def integral(f, high=np.inf):
        if family.discrete:
            y = np.arange(200.0)
            return float(f(y[y <= high]).sum())
        # There may be a kink at the location, and a finite end of the support.
        ends = [family.lower, *(e for e in (float(location), family.upper) if e < high), high]
        pairs = [ab for ab in pairwise(ends) if ab[0] < ab[1]]
        return sum(integrate.quad(f, *ab, epsabs=1e-11, limit=200)[0] for ab in pairs)

    assert integral(density) == pytest.approx(1, abs=1e-8)
    for y in np.ravel(location + scale * np.array([-3.0, 0.0, 1.5])):
        assert family.cdf(y, params) == pytest.approx(integral(density, y), abs=1e-8)
    mean = integral(lambda y: y * density(y))
    assert family.mean(params) == pytest.approx(mean, abs=1e-6)
    variance = integral(lambda y: (y - mean) ** 2 * density(y))
    assert family.variance(params) == pytest.approx(variance, rel=1e-4)


def random_draws_follow_the_cdf(family):
    params = random_params(family, np.random.default_rng(2), ())
    draws = family.random(params, np.random.default_rng(3), (20_000,))
    for level in (0.1, 0.5, 0.9):
        y = np.quantile(draws, level)
        assert family.cdf(y, params) == pytest.approx((draws <= y).mean(), abs=0.012)


def parameters_are_a_table_with_a_location_first(family):
    assert family.parameters[0].role in {"location", "rate", "odds", "direction"}
    for p in family.parameters:
        assert family.parameter(p.name) is p
        assert p.link(p.link.inverse(1.7, NUMERIC), NUMERIC) == pytest.approx(1.7)
        assert p.link.natural or p is family.parameters[0]  # a constant has no predictor to take


def two_responses(family, known):
    """Zero, or a half for a family of positive responses, and one; or two shares."""
    if family.upper == 1 and not family.discrete:
        return np.array([0.25, 0.75])
    zero = np.isfinite(family.data(np.zeros(1), known, NUMERIC).base).all()
    return np.array([0.0 if zero else 0.5, 1.0])


def guesses_are_finite_and_grow_with_the_response(family):
    known = {k: np.ones(1) for k in family.known_counts}
    y = two_responses(family, known)
    guess = family.initial_eta(y, known)
    assert np.isfinite(guess).all()
    assert guess[1] > guess[0]


def derivative_points(family, rng, rows):
    """Predictors (parameter, obs) over a wide range, and responses far and near."""
    etas = np.array([rng.normal(0, REACH[p.role].spread, rows) for p in family.parameters])
    known = {k: rng.integers(1, 40, rows).astype(float) for k in family.known_counts}
    params = at_etas(family, etas, known)
    y = family.random(params, rng, (rows,)).astype(float)
    y = np.where(np.isfinite(y), y, 1.0)  # draws of heavy tails may overflow
    if not family.discrete:
        far = y + family.scale(params) * rng.normal(0, 1, rows) * 10 ** rng.uniform(-2, 3, rows)
        found = family.log_density(far, params, NUMERIC)
        # A doubly exponential fall has no exact differences.
        y = np.where(found > (-1e6 if family.kind in DOUBLY_EXPONENTIAL else -np.inf), far, y)
    return y, etas, known


def at_etas(family, etas, known):
    """The arguments of a family's functions from its predictors."""
    linked = zip(family.parameters, etas, strict=True)
    return {p.name: p.link.inverse(eta, NUMERIC) for p, eta in linked} | known


def derivatives_are_those_of_finite_differences(family):
    y, etas, known = derivative_points(family, np.random.default_rng(5), 500)
    if family.kind in CUSPED:
        y = np.where(np.abs(y - etas[0]) < 0.1 * np.exp(etas[1]), etas[0] + np.exp(etas[1]), y)
    names_of = range(len(etas))

    def moved(a, step):
        return at_etas(family, etas + step * (np.arange(len(etas)) == a)[:, None], known)

    def central(f, a, step):
        """Of fourth order."""
        near = f(moved(a, step)) - f(moved(a, -step))
        far = f(moved(a, 2 * step)) - f(moved(a, -2 * step))
        return (8 * near - far) / (12 * step)

    found = family.derivatives(y, moved(0, 0.0))
    level = np.abs(family.log_density(y, moved(0, 0.0), NUMERIC))
    for a in names_of:
        step = 2e-3
        unit = unit_of(family.parameters[a].role, family.scale(moved(0, 0.0)), y - etas[0])
        slope = central(lambda p: family.log_density(y, p, NUMERIC), a, step * unit)
        np.testing.assert_allclose(
            found.score[a] * unit, slope * unit, rtol=1e-6, atol=2e-9 + 1e-12 * level.max()
        )
        for b in names_of:
            if family.kink and a == b == 0:
                continue  # a point mass at the kink has its mean over the response
            bend = central(lambda p, b=b: family.derivatives(y, p).score[b], a, step * unit)
            second = found.second[a][b] + 0.0 * bend  # what does not depend on the row is (1,)
            np.testing.assert_allclose(second * unit, bend * unit, rtol=1e-6, atol=1e-8)
            assert found.second[a][b] is found.second[b][a]
        assert np.all(found.expected_information[a] >= 0)


def expected_information_is_the_mean_of_the_information(family):
    """On average over responses, unless the family weights rows by their own residual."""
    rng = np.random.default_rng(6)
    params = random_params(family, rng, ())
    y = family.random(params, rng, (400_000,)).astype(float)
    found = family.derivatives(y, params)
    for a in range(len(family.parameters)):
        expected = -np.mean(found.second[a][a])
        working = np.mean(found.expected_information[a])
        assert working >= 0.95 * expected
        if np.size(found.expected_information[a]) == 1:
            assert working == pytest.approx(expected, rel=0.05)


def derivatives_broadcast(family):
    """Constants may be (expert, 1); what does not depend on the row may stay so."""
    rng = np.random.default_rng(7)
    etas = [rng.normal(0, 0.3, (4, 3, 1 if j else 20)) for j in range(len(family.parameters))]
    known = {k: np.full(20, 9.0) for k in family.known_counts}
    params = at_etas(family, etas, known)
    y = rng.choice(two_responses(family, known), 20)
    found = family.derivatives(y, params)
    for array in (
        *found.score,
        *found.expected_information,
        *(x for row in found.second for x in row),
    ):
        assert np.broadcast_shapes(np.shape(array), (4, 3, 20)) == (4, 3, 20)


FAMILY = (
    log_density_is_pymcs,
    cdf_mean_and_variance_are_integrals_of_the_density,
    random_draws_follow_the_cdf,
    parameters_are_a_table_with_a_location_first,
    guesses_are_finite_and_grow_with_the_response,
    derivatives_are_those_of_finite_differences,
    expected_information_is_the_mean_of_the_information,
    derivatives_broadcast,
)


# --- gates: checks of a model, its design and its graph -------------------------------------------


def values_of(spec, design, samples=6, size=1.0, seed=4):
    """Reported variables (sample, ...) from the prior; those of the gate normal of some size."""
    rng = np.random.default_rng(seed)
    graph = bm.build(spec, design)
    import pymc as pm

    wanted = [graph.model[n] for n in spec.variables]
    drawn = pm.draw(wanted, samples, random_seed=seed, mode="FAST_COMPILE")
    lead = (samples,)
    found = {
        n: np.reshape(v, (*lead, *np.shape(v)[-len(spec.structure.dims[n]) :]))
        for n, v in zip(spec.variables, drawn, strict=True)
    }
    for name in spec.structure.gate_variables if size else ():
        found[name] = size * rng.standard_normal(found[name].shape)
    return found


def weights_sum_to_one(spec, design, graph):
    for size in (1.0, 700.0):
        values = values_of(spec, design, size=size)
        log_weights = evaluate(spec, values, design.rows).log_weights
        assert log_weights.shape == (6, spec.n_experts, len(design.response))
        np.testing.assert_allclose(np.exp(log_weights).sum(axis=1), 1, atol=1e-12)


def description_round_trips(spec, design, graph):
    again = bm.MixtureOfExperts.from_json(spec.to_json())
    assert again == spec
    assert again.gate == spec.gate
    assert repr(again) == repr(spec)


def graph_and_prediction_are_one(spec, design, graph):
    import pymc as pm

    wanted = [graph.model[n] for n in spec.variables] + [graph.log_weights]
    *drawn, log_weights = pm.draw(wanted, 1, random_seed=3, mode="FAST_COMPILE")
    values = {n: np.asarray(v)[None] for n, v in zip(spec.variables, drawn, strict=True)}
    found = evaluate(spec, values, design.rows).log_weights[0]
    np.testing.assert_allclose(found, log_weights, atol=1e-8)


def gradient_is_that_of_differences_and_finite_far_out(spec, design, graph):
    model = graph.model
    value = model.compile_logp(mode="FAST_COMPILE")
    slope = model.compile_dlogp(mode="FAST_COMPILE")
    rng = np.random.default_rng(5)
    shapes = {n: v.shape for n, v in model.initial_point().items()}

    def point(flat):
        ends = np.cumsum([int(np.prod(s)) for s in shapes.values()])[:-1]
        parts = np.split(flat, ends)
        return {n: p.reshape(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}

    size = sum(int(np.prod(s)) for s in shapes.values())
    at = 0.5 * rng.standard_normal(size)
    steps = 1e-5 * np.eye(size)
    differences = [(value(point(at + e)) - value(point(at - e))) / 2e-5 for e in steps]
    found = np.asarray(slope(point(at)))
    np.testing.assert_allclose(found, differences, rtol=1e-5, atol=1e-5 * np.abs(found).max())
    gate = np.concatenate(
        [
            np.full(int(np.prod(s)), n.startswith(names.GATE) and not n.endswith("_log__"))
            for n, s in shapes.items()
        ]
    )
    far = np.where(gate, 300.0 * np.sign(at), at)
    assert np.isfinite(slope(point(far))).all()


def responsibilities_are_bayes_rule(spec, design, graph):
    values = values_of(spec, design)
    mixture = evaluate(spec, values, design.rows)
    joint = mixture.weights * np.exp(mixture.log_components(design.response))
    expected = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixture.responsibilities(design.response), expected, atol=1e-10)


GATE = (
    weights_sum_to_one,
    description_round_trips,
    graph_and_prediction_are_one,
    gradient_is_that_of_differences_and_finite_far_out,
    responsibilities_are_bayes_rule,
)

# --- models and fits ------------------------------------------------------------------------------


def objective_is_the_graphs_log_density(spec, design):
    """EM's objective is PyMC's log density, with the Jacobian of positive variables or without."""
    graph = internal_graph(spec, design)
    for jacobian in (False, True):
        logp = graph.model.compile_logp(jacobian=jacobian, mode="FAST_COMPILE")
        vector = parameter_vector(spec, design, jacobian=jacobian)
        theta = points(vector)
        values = vector.variables(theta)
        for j, value in enumerate(Objective(vector).value(theta)):
            point = graph.unconstrained({name: v[j] for name, v in values.items()})
            assert value == pytest.approx(float(logp(point)), rel=1e-8)


def path_never_falls(fit):
    """The objective of the best run rises from sweep to sweep."""
    path = fit.idata["fit"]["path"].values
    assert len(path) > 1  # the last run after a move begins near the mode
    assert (np.diff(path) >= -1e-9 * np.abs(path[:-1])).all()


def saved_fit_predicts_the_same(fit, new, folder):
    again = bm.load(bm.save(fit, folder / "fit.nc"))
    np.testing.assert_array_equal(bm.predict(again, new).mean(), bm.predict(fit, new).mean())
    weights = bm.predict(fit, new.drop(columns=fit.spec.response)).weights()
    np.testing.assert_allclose(weights.sum("expert"), 1, atol=1e-12)
