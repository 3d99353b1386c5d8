"""The likelihood of a Markov chain in PyTensor: rows' densities and derivatives of functions."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from bayes_moe.graph import numpy_mode
from bayes_moe.graph.chain_draws import ChainPath, drawn_path
from bayes_moe.graph.chain_op import chain_values
from tests.support import series as paths

SERIES = np.array([0, 2, 0, 3, 2, 0, 2, 0])
ROWS = len(SERIES)


def functions(stationary, by_row, mode):
    """Rows' log densities, predicted ones, and the derivatives of a weighted sum of the former."""
    densities, logits = pt.matrix("densities"), pt.matrix("logits")
    value, predicted = chain_values(densities, logits, SERIES, stationary)
    by = pt.grad((value * by_row).sum(), [densities, logits])
    return pytensor.function([densities, logits], [value, predicted, *by], mode=mode)


def check(experts, columns, stationary, mode):
    rng = np.random.default_rng([experts, columns])
    densities = rng.normal(0, 3, (experts, ROWS))
    logits, by_row = rng.normal(0, 2, (experts**2, columns)), rng.normal(size=ROWS)

    def expected(f, eta):
        whole = np.broadcast_to(eta, (experts**2, ROWS)).T.reshape(ROWS, experts, experts)
        return paths.by_filter(f.T, whole, SERIES, stationary)

    found = functions(stationary, by_row, mode)(densities, logits)
    value, predicted = expected(densities, logits)
    np.testing.assert_allclose(found[0], value, atol=1e-11)
    np.testing.assert_allclose(found[1], predicted.T, atol=1e-11)
    slopes = [
        paths.slopes(lambda f: (expected(f, logits)[0] * by_row).sum(), densities),
        paths.slopes(lambda eta: (expected(densities, eta)[0] * by_row).sum(), logits),
    ]
    for a, b in zip(found[2:], slopes, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-8)


@pytest.mark.parametrize("stationary", [False, True])
@pytest.mark.parametrize("columns", [1, ROWS])
@pytest.mark.parametrize("experts", [1, 3])
def test_rows_have_their_density_given_those_before(experts, columns, stationary):
    check(experts, columns, stationary, numpy_mode.mode())


@pytest.mark.parametrize("columns", [pytest.param(1, marks=pytest.mark.slow), ROWS])
def test_jax_has_the_same_values(columns):
    pytest.importorskip("jax")
    check(3, columns, True, "JAX")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, ROWS])
def test_numba_has_the_same_values(columns):
    check(3, columns, True, "NUMBA")


def test_derivatives_are_bounded_where_densities_are_not():
    densities = np.zeros((2, ROWS))
    densities[0, ::2], densities[1, 1::2] = -np.inf, -1e5
    found = functions(True, np.ones(ROWS), numpy_mode.mode())(densities, 400 * np.eye(4)[:, :1])
    assert all(np.isfinite(a).all() for a in (found[0], found[2], found[3]))


def test_predicted_probabilities_have_no_derivative():
    logits = pt.matrix("logits")
    predicted = chain_values(np.zeros((2, ROWS)), logits, SERIES, True)[1]
    with pytest.raises(Exception, match="have no derivatives"):
        pytensor.function([logits], pt.grad(predicted.sum(), logits), mode=numpy_mode.mode())


def test_paths_follow_the_draws():
    moves, begins = np.array([[0, 1], [1, 0], [1, 0], [1, 0]]), np.array([1, 0, 0, 0])
    path = ChainPath()(moves, begins, np.array([0, 1, 0, 1])).eval(mode=numpy_mode.mode())
    np.testing.assert_array_equal(path, [1, 0, 0, 1])


@pytest.mark.slow
def test_drawn_paths_have_the_chain_s_frequencies():
    rows = 4000
    chance = np.array([[0.9, 0.1], [0.3, 0.7]])
    outputs = pt.as_tensor(np.tile(np.log(chance).ravel(), (rows, 1)))
    draw = drawn_path(outputs, pt.zeros(rows, dtype="int64"), 2, True)
    path = pytensor.function([], draw, mode=numpy_mode.mode())()
    for state in (0, 1):
        after = path[1:][path[:-1] == state]
        error = 4 * np.sqrt(chance[state, 1] * chance[state, 0] / len(after))
        assert abs(after.mean() - chance[state, 1]) < error
    begins = drawn_path(outputs, pt.arange(rows), 2, True)
    first = pytensor.function([], begins, mode=numpy_mode.mode())()
    assert abs(first.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / rows)
