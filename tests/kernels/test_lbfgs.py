"""L-BFGS in one C function ends where SciPy's does."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core.threads import in_threads
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model.log_density import LogDensity
from bayes_moe.optimize.network_density import NetworkDensity
from bayes_moe.sampling.compiled_density import LinearTable
from tests.support.linear_models import plain, table

LIMITS = (0.0, 1e-5)


@pytest.fixture(scope="module")
def network():
    """A network whose runs end at one mode, but for signs and orders of its units."""
    spec = bm.mixture_density("normal ~ x", 1, (2,), activation="softplus")
    return NetworkDensity(spec, spec.design(table()))


def start(density, seed=0):
    return 0.5 * np.random.default_rng(seed).standard_normal(density.free.size)


@pytest.mark.parametrize("memory", [1, 3, 100])
def test_a_run_ends_where_scipys_ends(network, memory):
    mode = network.lbfgs(start(network), 3000, 10, LIMITS)[0]
    begin = mode + 0.2 * start(network, 1) * network.free_coordinates  # there are other modes
    x, gradient, path = network.lbfgs(begin, 3000, memory, LIMITS)
    _, _, expected = LogDensity.lbfgs(network, begin, 3000, memory, LIMITS)
    assert path[-1] == pytest.approx(expected[-1], rel=1e-8)
    value, slope = network(x)
    assert path[-1] == value
    np.testing.assert_array_equal(gradient, slope)
    assert np.abs(slope).max() <= LIMITS[1]
    assert (np.diff(path) > 0).all()


def test_the_mode_of_a_linear_model_is_a_regression():
    """With one expert and wide priors the mode is that of least squares."""
    wide = {
        "mu_coef": bm.Prior("Normal", mu=0, sigma=1e6),
        "sigma": bm.Prior("HalfCauchy", beta=1e6),
    }
    spec = plain("normal", experts=1, priors=wide)
    vector = parameter_vector(spec, spec.design(table()))
    native = LinearTable(vector).density()
    moving = np.ones(native.size, dtype=bool)
    x, _, _ = native.lbfgs(np.zeros(native.size), moving, 500, 10, (0.0, 1e-7))
    coef = vector.variables(x[None])["mu_coef"][0, 0]
    data = table()
    np.testing.assert_allclose(coef, np.polyfit(data["x"], data["normal"], 1)[::-1], rtol=1e-6)


def test_limits_of_a_run(network):
    begin = start(network)
    x, _, path = network.lbfgs(begin, 7, 10, LIMITS)
    assert len(path) == 8
    fixed = ~network.free_coordinates
    np.testing.assert_array_equal(x[fixed], begin[fixed])
    assert (x != begin)[~fixed].all()
    _, _, long = network.lbfgs(begin, 3000, 10, (1e-4, 0.0))
    gains = np.diff(long) / np.maximum(np.abs(long[1:]), 1.0)
    assert gains[-1] <= 1e-4
    assert (gains[:-1] > 1e-4).all()
    assert len(network.lbfgs(x, 10, 5, (0.0, 1e9))[2]) == 1


def test_a_start_without_a_density_stays(network):
    begin = start(network)
    begin[-1] = 1e200
    x, _, path = network.lbfgs(begin, 10, 5, LIMITS)
    np.testing.assert_array_equal(x, begin)
    assert path == [-np.inf]


def test_steps_into_regions_without_a_density_are_shortened(network):
    """A first step of length 1 from here goes where scales overflow."""
    begin = start(network)
    begin[network.coordinates(["sigma_raw"])] = -20.0
    x, _, path = network.lbfgs(begin, 3000, 10, LIMITS)
    assert np.isfinite(path).all()
    assert network(x)[0] > network(begin)[0]


def test_runs_in_threads_are_those_alone(network):
    def run(seed):
        return network.lbfgs(start(network, seed), 200, 10, LIMITS)

    for (x, _, path), (other, _, its) in zip(
        map(run, range(4)), in_threads(run, range(4), 4), strict=True
    ):
        np.testing.assert_array_equal(x, other)
        assert path == its
