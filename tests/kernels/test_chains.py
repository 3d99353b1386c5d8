"""The compiled likelihood of Markov chains, with its gradient, is the sum over all paths."""

import ctypes
import itertools

import numpy as np
import pytest

from bayes_moe.kernels import chains
from tests.support import series as paths

INTERLEAVED = np.array([0, 1, 0, 0, 2, 1, 0, 1, 1, 0, 0, 1])


def evaluate(densities, logits, starts, stationary):
    """Log likelihood, smoothed probabilities and derivatives by logits."""
    f, eta = (np.array(a, dtype=float, order="C") for a in (densities, logits))
    kind = chains.STATIONARY * stationary + chains.STILL * (eta.ndim == 2)
    first = np.array([*starts, len(f)], dtype=float)
    call = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_int64] * 4)(chains.chains().address)
    sizes = np.array([*f.shape, len(starts), kind], dtype=np.int64)
    return call(*(a.ctypes.data for a in (sizes, first, f, eta))), f, eta


def random_chain(experts, still, seed=0, rows=8):
    rng = np.random.default_rng([experts, seed])
    logits = rng.normal(0, 2, (experts, experts) if still else (rows, experts, experts))
    return rng.normal(0, 3, (rows, experts)), logits


CASES = list(itertools.product([1, 2, 3], [False, True], [False, True]))


@pytest.mark.parametrize(("experts", "still", "stationary"), CASES)
def test_the_likelihood_is_the_sum_over_all_paths(experts, still, stationary):
    densities, logits = random_chain(experts, still)
    whole = np.broadcast_to(logits, (8, experts, experts))
    expected = paths.by_paths(densities, whole, stationary)
    # Two series: one of a single row.
    parts = [
        paths.by_paths(densities[at], whole[at], stationary) for at in (slice(0, 7), slice(7, 8))
    ]
    assert evaluate(densities, logits, [0], stationary)[0] == pytest.approx(expected, abs=1e-11)
    found = evaluate(densities, logits, [0, 7], stationary)[0]
    assert found == pytest.approx(sum(parts), abs=1e-11)


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("stationary", [False, True])
@pytest.mark.parametrize("experts", [2, 3, 8])
@pytest.mark.parametrize("steep", [0.0, 310.0])
def test_the_gradient_is_that_of_differences(experts, still, stationary, steep):
    densities, logits = random_chain(experts, still)
    logits[..., 0, experts - 1] += steep  # products of probabilities would underflow
    starts = [0, 3, 4]

    def value(f, eta):
        return evaluate(f, eta, starts, stationary)[0]

    _, shares, by_logit = evaluate(densities, logits, starts, stationary)
    by_density = paths.slopes(lambda f: value(f, logits), densities)
    expected = paths.slopes(lambda eta: value(densities, eta), logits)
    np.testing.assert_allclose(shares, by_density, atol=1e-8)
    np.testing.assert_allclose(by_logit, expected, atol=1e-8)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(by_logit.sum(axis=-1), 0.0, atol=1e-12)


@pytest.mark.parametrize("still", [False, True])
def test_both_ways_of_computing_agree_where_they_meet(still):
    densities, logits = random_chain(3, still, rows=40)
    near, far = logits.copy(), logits.copy()
    near[..., 1, 2] -= 290.0
    far[..., 1, 2] -= 305.0
    near, far = (evaluate(densities, eta, [0, 9], True) for eta in (near, far))
    assert near[0] == pytest.approx(far[0], abs=1e-11)
    for a, b in zip(near[1:], far[1:], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_impossible_experts_have_no_share():
    densities, logits = random_chain(2, True)
    densities[2, 0] = -np.inf
    densities[5, 1] = -1e300
    value, shares, by_logit = evaluate(densities, logits, [0], True)
    clipped = np.where(densities < -1e250, -1e4, densities)
    expected = paths.by_paths(clipped, np.broadcast_to(logits, (8, 2, 2)), True)
    assert value == pytest.approx(expected, abs=1e-11)
    assert shares[2, 0] == shares[5, 1] == 0.0
    assert np.isfinite(by_logit).all()


def test_a_row_that_no_expert_can_have_makes_the_likelihood_as_low_as_can_be():
    densities, logits = random_chain(2, False)
    densities[3] = -np.inf
    value, shares, by_logit = evaluate(densities, logits, [0], True)
    assert value < -1e299
    assert np.isfinite(shares).all()
    assert np.isfinite(by_logit).all()


def test_states_that_are_left_once_in_a_long_time():
    odds = -40.0  # of leaving
    densities = np.zeros((3, 2))
    logits = np.array([[0.0, odds], [odds - 2.0, 0.0]])
    _, shares, by_logit = evaluate(densities, logits, [0, 1, 2], True)
    first = np.exp(odds) / (np.exp(odds) + np.exp(odds - 2.0))
    np.testing.assert_allclose(shares[:, 1], first, rtol=1e-12)
    np.testing.assert_allclose(by_logit, 0.0, atol=1e-12)  # no row says anything
    densities[:, 1] = 1.0
    _, _, by_logit = evaluate(densities, logits, [0, 1, 2], True)
    share = first * np.e / (1 - first + first * np.e)
    np.testing.assert_allclose(by_logit[0, 1], 3 * (share - first), rtol=1e-9)


@pytest.mark.parametrize("experts", [2, 8])
def test_long_series_stay_accurate(experts):
    densities, logits = random_chain(experts, True, rows=100_000)
    value, shares, by_logit = evaluate(densities, logits, [0], True)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-9)
    # The last rows are a chain that begins with what the rows before predict: those far back are
    # forgotten.
    rows = 3000
    tail = evaluate(densities[-rows:], logits, [0], True)
    head = evaluate(densities[:-rows], logits, [0], True)
    assert value == pytest.approx(head[0] + tail[0], rel=1e-4)
    np.testing.assert_allclose(shares[-2000:], tail[1][-2000:], atol=1e-10)
    assert np.isfinite(by_logit).all()
