"""What every family of the registry must hold, so that a new one is tested at once."""

import numpy as np
import pymc as pm
import pytest
from scipy import integrate

from bayes_moe.core import registry
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.data.matrix import Matrix

FAMILIES = list(registry.TABLE["family"])


def random_params(family, rng, shape):
    """Parameters drawn on the link scale, and what is known of rows."""
    params = {
        p.name: p.link.inverse(rng.normal(1.0, 0.5, shape), NUMERIC) + (p.role == "shape") * 3.0
        for p in family.PARAMS
    }
    return params | {k: rng.integers(1, 9, shape or 1).astype(float) for k in family.KNOWN}


@pytest.fixture(params=FAMILIES)
def family(request):
    return registry.resolve("family", request.param)()


def test_log_density_is_pymcs(family):
    rng = np.random.default_rng(0)
    params = random_params(family, rng, 50)
    y = family.random(params, rng, (50,)).astype(float)
    expected = pm.logp(family.dist(params), y).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(family.log_density(y, params, NUMERIC), expected, rtol=1e-10)
    tensor = family.log_density(y, params, symbolic()).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(tensor, expected, rtol=1e-10)


def test_cdf_mean_and_variance_are_integrals_of_the_density(family):
    params = random_params(family, np.random.default_rng(1), ())
    location, scale = family.location(params), family.scale(params)

    def density(y):
        return np.exp(family.log_density(y, params, NUMERIC))

    def integral(f, high=np.inf):
        if family.discrete:
            y = np.arange(200.0)
            return float(f(y[y <= high]).sum())
        return integrate.quad(f, -np.inf, high, epsabs=1e-11, limit=200)[0]

    assert integral(density) == pytest.approx(1, abs=1e-8)
    for y in np.ravel(location + scale * np.array([-3.0, 0.0, 1.5])):
        assert family.cdf(y, params) == pytest.approx(integral(density, y), abs=1e-8)
    mean = integral(lambda y: y * density(y))
    assert family.mean(params) == pytest.approx(mean, abs=1e-6)
    variance = integral(lambda y: (y - mean) ** 2 * density(y))
    assert family.variance(params) == pytest.approx(variance, rel=1e-4)


def test_random_draws_follow_the_cdf(family):
    params = random_params(family, np.random.default_rng(2), ())
    draws = family.random(params, np.random.default_rng(3), (20_000,))
    for level in (0.1, 0.5, 0.9):
        y = np.quantile(draws, level)
        assert family.cdf(y, params) == pytest.approx((draws <= y).mean(), abs=0.012)


def test_parameters_are_a_table_with_a_location_first(family):
    assert family.PARAMS[0].role in {"location", "rate", "odds"}
    for p in family.PARAMS:
        assert family.parameter(p.name) is p
        assert p.link.inverse(p.link(1.7, NUMERIC), NUMERIC) == pytest.approx(1.7)
        assert p.link.natural or p is family.PARAMS[0]  # a constant has no predictor to take


def test_guesses_are_finite_and_grow_with_the_response(family):
    y = np.array([0.0, 1.0])
    guess = family.initial_eta(y, {k: np.ones(1) for k in family.KNOWN})
    assert np.isfinite(guess).all()
    assert guess[1] > guess[0]


SPREAD = {"location": 3.0, "scale": 1.5, "shape": 2.0, "rate": 2.0, "odds": 3.0}


def derivative_points(family, rng, rows):
    """Predictors (parameter, obs) over a wide range, and responses far and near."""
    etas = np.array([rng.normal(0, SPREAD[p.role], rows) for p in family.PARAMS])
    known = {k: rng.integers(1, 40, rows).astype(float) for k in family.KNOWN}
    params = at_etas(family, etas, known)
    y = family.random(params, rng, (rows,)).astype(float)
    if not family.discrete:
        y += family.scale(params) * rng.normal(0, 1, rows) * 10 ** rng.uniform(-2, 3, rows)
    return y, etas, known


def at_etas(family, etas, known):
    """The arguments of a family's functions from its predictors."""
    linked = zip(family.PARAMS, etas, strict=True)
    return {p.name: p.link.inverse(eta, NUMERIC) for p, eta in linked} | known


def test_derivatives_are_those_of_finite_differences(family):
    y, etas, known = derivative_points(family, np.random.default_rng(5), 500)
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
        # The location moves in units of the response: its steps are those of the scale.
        unit = family.scale(moved(0, 0.0)) if family.PARAMS[a].role == "location" else 1.0
        slope = central(lambda p: family.log_density(y, p, NUMERIC), a, step * unit)
        np.testing.assert_allclose(
            found.score[a] * unit, slope * unit, rtol=1e-6, atol=2e-9 + 1e-12 * level.max()
        )
        for b in names_of:
            bend = central(lambda p, b=b: family.derivatives(y, p).score[b], a, step * unit)
            np.testing.assert_allclose(found.second[a][b] * unit, bend * unit, rtol=1e-6, atol=1e-8)
            assert found.second[a][b] is found.second[b][a]
        assert np.all(found.expected_information[a] >= 0)


def test_working_curvature_is_expected_curvature(family):
    """On average over responses, unless the family weights rows by their own residual."""
    rng = np.random.default_rng(6)
    params = random_params(family, rng, ())
    y = family.random(params, rng, (400_000,)).astype(float)
    found = family.derivatives(y, params)
    for a in range(len(family.PARAMS)):
        expected = -np.mean(found.second[a][a])
        working = np.mean(found.expected_information[a])
        assert working >= 0.95 * expected
        if np.size(found.expected_information[a]) == 1:
            assert working == pytest.approx(expected, rel=0.05)


def test_derivatives_broadcast(family):
    """Constants may be (expert, 1); what does not depend on the row may stay so."""
    rng = np.random.default_rng(7)
    etas = [rng.normal(0, 0.3, (4, 3, 1 if j else 20)) for j in range(len(family.PARAMS))]
    params = at_etas(family, etas, {k: np.full(20, 9.0) for k in family.KNOWN})
    y = rng.integers(0, 2, 20).astype(float)
    found = family.derivatives(y, params)
    for array in (
        *found.score,
        *found.expected_information,
        *(x for row in found.second for x in row),
    ):
        assert np.broadcast_shapes(np.shape(array), (4, 3, 20)) == (4, 3, 20)


def test_two_experts_under_a_softmax_gate_are_a_logistic_regression():
    gate = registry.resolve("gate", "softmax")("~ x")
    x = np.linspace(-2, 2, 9)
    matrix = Matrix(("Intercept", "x"), np.column_stack([np.ones(9), x]), np.zeros(2), np.ones(2))
    draws = {"gate_coef": np.array([[[-0.2, 0.7], [0.2, -0.7]]])}
    weights = np.exp(gate.evaluate(2, draws, {"gate": matrix}))[0, 0]
    np.testing.assert_allclose(weights, 1 / (1 + np.exp(0.4 - 1.4 * x)), rtol=1e-12)
