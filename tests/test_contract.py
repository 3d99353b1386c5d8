"""What every family and gate of the registry must hold, so that a new one is tested at once."""

import numpy as np
import pymc as pm
import pytest
from scipy import integrate

from bayes_moe import names, registry
from bayes_moe.arrays import NUMERIC, symbolic
from bayes_moe.design import Matrix

FAMILIES = list(registry.TABLE["family"])
GATES = list(registry.TABLE["gate"])
EXPERTS = 3


def random_params(family, rng, shape):
    """Parameters drawn on the link scale."""
    return {
        p.name: p.link.inverse(rng.normal(1.0, 0.5, shape), NUMERIC) + (p.role == "shape") * 3.0
        for p in family.PARAMS
    }


@pytest.fixture(params=FAMILIES)
def family(request):
    return registry.resolve("family", request.param)()


def test_log_density_is_pymcs(family):
    rng = np.random.default_rng(0)
    params = random_params(family, rng, 50)
    y = rng.normal(0, 3, 50)
    expected = pm.logp(family.dist(params), y).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(family.log_density(y, params, NUMERIC), expected, rtol=1e-10)
    tensor = family.log_density(y, params, symbolic()).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(tensor, expected, rtol=1e-10)


def test_cdf_mean_and_variance_are_integrals_of_the_density(family):
    params = random_params(family, np.random.default_rng(1), ())
    location, scale = family.mean(params), family.scale(params)

    def density(y):
        return float(np.exp(family.log_density(y, params, NUMERIC)))

    def integral(f, high=np.inf):
        return integrate.quad(f, -np.inf, high, epsabs=1e-11, limit=200)[0]

    assert integral(density) == pytest.approx(1, abs=1e-8)
    for y in location + scale * np.array([-3.0, 0.0, 1.5]):
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
        assert family.cdf(y, params) == pytest.approx(level, abs=0.012)


def test_parameters_are_a_table_with_a_location_first(family):
    assert family.PARAMS[0].role == "location"
    for p in family.PARAMS:
        assert family.parameter(p.name) is p
        assert p.link.inverse(p.link(1.7, NUMERIC), NUMERIC) == pytest.approx(1.7)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("size", [1.0, 700.0])
def test_gate_weights_sum_to_one(kind, size):
    gate = registry.resolve("gate", kind)("~ x")
    rng = np.random.default_rng(4)
    values = np.column_stack([np.ones(40), rng.uniform(-1, 1, 40)])
    matrix = Matrix(("Intercept", "x"), values, np.zeros(2), np.ones(2))
    draws = {names.coef(names.GATE): size * rng.normal(size=(6, EXPERTS, 2))}
    log_weights = gate.evaluate(EXPERTS, draws, {names.GATE: matrix})
    assert log_weights.shape == (6, EXPERTS, 40)
    np.testing.assert_allclose(np.exp(log_weights).sum(axis=1), 1, atol=1e-12)
    assert gate.to_dict()["kind"] == kind


def test_two_experts_under_a_softmax_gate_are_a_logistic_regression():
    gate = registry.resolve("gate", "softmax")("~ x")
    x = np.linspace(-2, 2, 9)
    matrix = Matrix(("Intercept", "x"), np.column_stack([np.ones(9), x]), np.zeros(2), np.ones(2))
    draws = {"gate_coef": np.array([[[-0.2, 0.7], [0.2, -0.7]]])}
    weights = np.exp(gate.evaluate(2, draws, {"gate": matrix}))[0, 0]
    np.testing.assert_allclose(weights, 1 / (1 + np.exp(0.4 - 1.4 * x)), rtol=1e-12)
