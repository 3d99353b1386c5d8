"""The chain of experts against sums over all paths, statsmodels and finite differences."""

import itertools

import numpy as np
import pytest
from scipy import special, stats

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.sequences import Sequences
from bayes_moe.gates.transitions import Transitions
from bayes_moe.model import chains, markov_chain

K, N = 3, 8


def chain_of(seed, initial="stationary", sticky=1.3, n=N, experts=K):
    """Transitions, outputs (output, obs) and log densities (expert, obs) of one series."""
    rng = np.random.default_rng(seed)
    log_f = 2 * rng.normal(size=(experts, n))
    log_f[:, n // 2] = 0.0  # a row without response
    log_f[0, 2] = -np.inf  # an expert that cannot have a row
    return Transitions(experts, sticky, initial), rng.normal(size=(experts**2, n)), log_f


def every_path(chain, eta, log_f):
    """All paths (path, time), and their log joint densities."""
    moves = chain.log_transitions(eta, NUMERIC)
    first = markov_chain.log_initial(chain.initial, moves[..., 0])
    n = log_f.shape[-1]
    paths = np.array(list(itertools.product(range(chain.n_experts), repeat=n)))
    joint = first[paths[:, 0]] + log_f[paths, np.arange(n)].sum(axis=1)
    joint += sum(moves[paths[:, t - 1], paths[:, t], t] for t in range(1, n))
    return paths, joint


@pytest.mark.parametrize("initial", ["stationary", "equal"])
@pytest.mark.parametrize("compiled", [False, True])
def test_sums_over_all_paths(initial, compiled):
    chain, eta, log_f = chain_of(0, initial)
    paths, joint = every_path(chain, eta, log_f)
    total = special.logsumexp(joint)
    weight = np.exp(joint - total)
    one = Sequences.of(None, N)
    found = chains.smoothers(chain, eta[None], log_f[None], one)
    filtered = chains.filters(chain, eta[None], log_f[None], one, compiled=compiled)
    np.testing.assert_allclose(filtered.log_density, found.log_density, atol=1e-12)
    joint = filtered.log_predicted + filtered.log_future + log_f
    shares = special.softmax(joint, axis=1)
    np.testing.assert_allclose(shares, found.shares, atol=1e-12)
    assert found.log_density.sum() == pytest.approx(total, abs=1e-12)
    shares = np.array([[weight[paths[:, t] == k].sum() for t in range(N)] for k in range(K)])
    np.testing.assert_allclose(found.shares[0], shares, atol=1e-12)
    for t in range(1, N):
        pairs = np.zeros((K, K))
        np.add.at(pairs, (paths[:, t - 1], paths[:, t]), weight)
        np.testing.assert_allclose(found.moves[0, :, t], pairs.ravel(), atol=1e-12)
    assert (found.moves[0, :, 0] == 0).all()
    for t in (0, 3, N):  # the filter of the rows up to each one
        part = every_path(chain, eta[:, : t + 1], log_f[:, : t + 1])
        up_to = special.logsumexp(part[1])
        assert found.log_density[0, : t + 1].sum() == pytest.approx(up_to, abs=1e-12)


def test_the_most_probable_path_is_that_of_all():
    for seed in range(5):
        chain, eta, log_f = chain_of(seed)
        paths, joint = every_path(chain, eta, log_f)
        moves = np.moveaxis(chain.log_transitions(eta, NUMERIC), -1, 0)
        first = markov_chain.log_initial(chain.initial, moves[0])
        path, best = markov_chain.most_probable(first, moves, log_f.T)
        np.testing.assert_array_equal(path, paths[joint.argmax()])
        assert best == pytest.approx(joint.max(), abs=1e-12)
        found = markov_chain.filtered(first, moves, log_f.T)
        xi, shares = markov_chain.pairs(found, moves), markov_chain.smoothed(found, moves)
        again = markov_chain.most_probable_by_pairs(xi, shares)
        np.testing.assert_array_equal(again, path)


def test_drawn_paths_have_the_smoothed_probabilities():
    chain, eta, log_f = chain_of(1, n=4)
    paths, joint = every_path(chain, eta, log_f)
    moves = np.moveaxis(chain.log_transitions(eta, NUMERIC), -1, 0)
    first = markov_chain.log_initial(chain.initial, moves[0])
    found = markov_chain.filtered(*(np.repeat(a[None], 20000, 0) for a in (first, moves, log_f.T)))
    drawn = markov_chain.random_path(found, moves[None], np.random.default_rng(0))
    code = K ** np.arange(4)
    counts = np.bincount(drawn @ code, minlength=K**4)
    expected = np.zeros(K**4)
    expected[paths @ code] = np.exp(joint - special.logsumexp(joint)) * len(drawn)
    kept = expected > 5
    assert counts[expected == 0].sum() == 0
    statistic = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    assert stats.chi2(kept.sum() - 1).sf(statistic) > 1e-3


@pytest.mark.parametrize("initial", ["stationary", "equal"])
def test_slopes_are_those_of_differences(initial):
    chain, eta, log_f = chain_of(2, initial)
    code = np.array([0, 1, 0, 0, 1, 0, 1, 1])
    sequences = Sequences.of(code, N)

    def total(outputs):
        found = chains.filters(chain, outputs[None], log_f[None], sequences)
        return found.log_density.sum()

    step = 1e-5
    numeric = np.zeros_like(eta)
    for at in np.ndindex(eta.shape):
        up, down = eta.copy(), eta.copy()
        up[at] += step
        down[at] -= step
        numeric[at] = (total(up) - total(down)) / (2 * step)
    found = chains.smoothers(chain, eta[None], log_f[None], sequences)
    np.testing.assert_allclose(found.slopes[0], numeric, atol=1e-9)


@pytest.mark.parametrize("compiled", [False, True])
def test_several_series_are_chains_of_their_own(compiled):
    chain, eta, log_f = chain_of(3, n=15)
    code = np.array([1, 0, 1, 1, 0, 2, 2, 0, 1, 2, 2, 0, 1, 0, 2])
    found = chains.filters(chain, eta[None], log_f[None], Sequences.of(code, 15), compiled=compiled)
    for series in range(3):
        at = np.flatnonzero(code == series)
        own = chains.filters(chain, eta[None][..., at], log_f[None][..., at], Sequences.of(None, 5))
        np.testing.assert_allclose(found.log_density[:, at], own.log_density, atol=1e-12)
        np.testing.assert_allclose(found.log_future[..., at], own.log_future, atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_filter_goes_on_from_where_it_stopped(compiled):
    chain, eta, log_f = chain_of(4, n=12)
    whole = chains.filters(chain, eta[None], log_f[None], Sequences.of(None, 12))
    first = chains.filters(chain, eta[None, :, :7], log_f[None, :, :7], Sequences.of(None, 7))
    then = chains.filters(
        chain,
        eta[None, :, 7:],
        log_f[None, :, 7:],
        Sequences.of(None, 5),
        np.exp(first.log_last),
        compiled=compiled,
    )
    np.testing.assert_allclose(then.log_density, whole.log_density[:, 7:], atol=1e-12)
    np.testing.assert_allclose(then.log_predicted, whole.log_predicted[..., 7:], atol=1e-12)


def test_stationary_distributions_keep_small_probabilities():
    for gap in (1.0, 1e-8, 1e-14):
        matrix = np.array([[1 - gap, gap], [3 * gap, 1 - 3 * gap]])
        np.testing.assert_allclose(markov_chain.stationary(matrix), [0.75, 0.25], rtol=1e-9)


def test_long_series_neither_overflow_nor_underflow():
    chain, eta, log_f = chain_of(5, n=3000)
    log_f = 400 * log_f[None]
    found = [
        chains.filters(chain, eta[None], log_f, Sequences.of(None, 3000), compiled=compiled)
        for compiled in (False, True)
    ]
    for name in ("log_density", "log_predicted", "log_future"):
        one, other = (getattr(f, name) for f in found)
        assert np.isfinite(one).all()
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9)


def statsmodels_likelihood(experts, tvtp, seed=0):
    """A Markov regression with switching variance, its log likelihood and ours."""
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    rng = np.random.default_rng(seed)
    n = 60
    x, z = rng.normal(size=(n, 2)), rng.normal(size=n)
    y = np.cumsum(rng.normal(size=n)) * 0.3 + x @ [1.0, -0.5]
    features = np.column_stack([np.ones(n), z]) if tvtp else None
    model = MarkovRegression(y, experts, exog=x, switching_variance=True, exog_tvtp=features)
    mu = rng.normal(size=(experts, 3))
    variance = rng.uniform(0.3, 2, experts)
    # Logits of moves to all experts but the last one, from each.
    terms = 2 if tvtp else 1
    beta = rng.normal(size=(experts, experts - 1, terms))
    design = features if tvtp else np.ones((n, 1))
    eta = np.zeros((experts, experts, n))
    eta[:, :-1] = np.einsum("jkp,np->jkn", beta, design)
    names = model.param_names
    params = np.empty(len(names))
    shares = np.exp(eta[..., 0]) / np.exp(eta[..., 0]).sum(axis=1, keepdims=True)
    for j, name in enumerate(names):
        if name.startswith("p["):
            pair, _, term = name.partition(".")
            start, end = (int(k) for k in pair[2:-1].split("->"))
            params[j] = beta[start, end, int(term[-1:] or 0)] if tvtp else shares[start, end]
        else:
            what, k = name.rstrip("]").split("[")
            where = {"const": 0, "x1": 1, "x2": 2}
            params[j] = variance[int(k)] if what == "sigma2" else mu[int(k), where[what]]
    log_f = stats.norm.logpdf(
        y, mu @ np.column_stack([np.ones(n), x]).T, np.sqrt(variance)[:, None]
    )
    found = chains.smoothers(
        Transitions(experts, 0.0),
        eta.reshape(1, -1, n),
        log_f[None],
        Sequences.of(None, n),
    )
    return model, params, found


@pytest.mark.parametrize("experts", [2, 3])
@pytest.mark.parametrize("tvtp", [False, True])
def test_the_likelihood_is_statsmodels(experts, tvtp):
    model, params, found = statsmodels_likelihood(experts, tvtp)
    assert found.log_density.sum() == pytest.approx(model.loglike(params), abs=1e-8)
    theirs = model.smooth(params).smoothed_marginal_probabilities
    np.testing.assert_allclose(found.shares[0], theirs.T, atol=1e-8)
