"""The multivariate normal family: density, derivatives, kernel, information, draws and margins."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families import RowData, by_name
from bayes_moe.families.multivariate import MvNormal, pairs, prior_of_correlation
from bayes_moe.kernels.families import has_kernel, kernel_of

ROWS = 40
COUNTS = (2, 3, 4)


def made(count, **settings):
    return by_name("mvnormal", responses=tuple("abcdefgh"[:count]), **settings)


def problem(count, rng, reach=1.0):
    """Responses (response, obs) and predictors (slot, 1, obs)."""
    family = made(count)
    etas = [reach * rng.standard_normal((1, ROWS)) for _ in family.slots]
    return family, 3 * rng.standard_normal((count, ROWS)), etas


def matrices(family, etas):
    """Means (obs, response) and covariances (obs, response, response), by partial correlations."""
    d = family.count
    flat = np.stack([eta[0] for eta in etas])
    mean, sigma = flat[:d].T, np.exp(flat[d : 2 * d]).T
    partial = np.tanh(flat[2 * d :] / 2)
    correlation = np.tile(np.eye(d), (flat.shape[1], 1, 1))
    for row in range(flat.shape[1]):
        at = {pair: partial[j, row] for j, pair in enumerate(pairs(family.count))}
        for k in range(d):
            for j in range(k):
                # From the partial correlation given 0, ..., j - 1 back to the plain one.
                rho = at[j, k]
                for i in reversed(range(j)):
                    first, second = at[i, j], at[i, k]
                    rho = rho * np.sqrt((1 - first**2) * (1 - second**2)) + first * second
                correlation[row, j, k] = correlation[row, k, j] = rho
    return mean, correlation * sigma[:, :, None] * sigma[:, None, :]


@pytest.mark.parametrize("count", COUNTS)
def test_the_log_density_is_scipy_s(count):
    """Covariances are made from partial correlations by the textbook recursion."""
    family, y, etas = problem(count, np.random.default_rng(count))
    params = family.named(etas, {}, NUMERIC)
    mean, covariance = matrices(family, etas)
    expected = [
        stats.multivariate_normal(mean[i], covariance[i]).logpdf(y[:, i]) for i in range(ROWS)
    ]
    np.testing.assert_allclose(family.log_density(y, params, NUMERIC)[0], expected, rtol=1e-9)
    np.testing.assert_allclose(family.covariance(params)[0], covariance, rtol=1e-9)


def test_the_log_density_of_nearly_exact_dependence_is_finite():
    """A response given the other: two normal densities, without a difference of large numbers."""
    family = made(2)
    eta = 60.0  # 1 - rho^2 is 3.5e-26, which a correlation of double precision cannot hold
    etas = [np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), [[eta]]]
    data = RowData(np.array([0.5]), np.array([0.5]), -2 * 0.5 * np.log(2 * np.pi))
    found = family.log_density_at(data, [np.asarray(e, float) for e in etas], NUMERIC)
    log_root = np.log(2) - eta / 2
    expected = stats.norm.logpdf(0.5) - 0.5 * np.log(2 * np.pi) - log_root
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


@pytest.mark.parametrize("count", COUNTS)
def test_derivatives_are_those_of_the_log_density(count):
    family, y, etas = problem(count, np.random.default_rng(count + 10), 0.7)
    data = family.data(y, {}, NUMERIC)
    found = family.derivatives_at(data, etas)
    h = 1e-5

    def moved(j, step):
        return [eta + (step if k == j else 0.0) for k, eta in enumerate(etas)]

    for j in range(len(etas)):
        up, down = (family.log_density_at(data, moved(j, s), NUMERIC) for s in (h, -h))
        np.testing.assert_allclose(found.score[j], (up - down) / (2 * h), rtol=1e-6, atol=1e-6)
        up, down = (family.derivatives_at(data, moved(j, s)).score for s in (h, -h))
        for k in range(len(etas)):
            bend = (up[k] - down[k]) / (2 * h)
            np.testing.assert_allclose(found.second[j][k], bend, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", COUNTS)
def test_the_information_is_the_mean_over_responses(count):
    """Of coupled slots: minus the second derivatives, averaged over draws of the responses."""
    rng = np.random.default_rng(5)
    family = made(count)
    etas = [0.5 * rng.standard_normal((1, 1)) for _ in family.slots]
    params = family.named(etas, {}, NUMERIC)
    y = family.random(params, rng, (1, 200_000))[:, 0]
    found = family.derivatives_at(family.data(y, {}, NUMERIC), etas)
    for group in family.coupled:
        for a in group:
            for b in range(a, group.stop):
                drawn = -np.broadcast_to(found.second[a][b], (1, y.shape[1]))
                error = 5 * drawn.std() / np.sqrt(y.shape[1])
                expected = found.expected_pairs[a, b].item()
                assert abs(drawn.mean() - expected) <= error + 1e-9
            diagonal = found.expected_information[a]
            np.testing.assert_array_equal(diagonal, found.expected_pairs[a, a])
    # Expected information of means and of spreads together is zero.
    cross = found.second[0][count]
    assert abs(np.mean(cross)) < 5 * np.std(cross) / np.sqrt(y.shape[1])


@pytest.mark.parametrize("count", [2, 3, 6])
def test_there_is_a_kernel_for_up_to_six_responses(count):
    """Compiled densities of models with several responses are held to the formulas elsewhere."""
    kernel = kernel_of(made(count))
    assert has_kernel(made(count))
    assert (kernel.parameters, kernel.more) == (len(made(count).slots), count - 2)
    assert not has_kernel(made(7))


def test_draws_have_the_moments():
    rng = np.random.default_rng(3)
    family = made(3)
    etas = [rng.standard_normal((1, 2, 1)) for _ in family.slots]
    params = family.named(etas, {}, NUMERIC)
    drawn = family.random(params, rng, (1, 2, 100_000))[0]  # (response, expert, obs)
    covariance = family.covariance(params)[0, :, 0]
    for k in range(2):
        found = np.cov(drawn[:, k])
        scale = np.sqrt(np.diag(covariance[k]))
        np.testing.assert_allclose(
            found / np.outer(scale, scale), covariance[k] / np.outer(scale, scale), atol=0.02
        )
        error = np.abs(drawn[:, k].mean(axis=1) - family.mean(params)[0, :, k, 0]) / scale
        assert (error < 0.02).all()
    np.testing.assert_allclose(np.sqrt(np.diag(covariance[0])), family.scale(params)[0, :, 0, 0])


def test_a_margin_is_the_normal_of_one_response():
    family, y, etas = problem(3, np.random.default_rng(4))
    params = family.named(etas, {}, NUMERIC)
    mean, covariance = matrices(family, etas)
    for j in range(3):
        law, own = family.margin(j, params)
        expected = stats.norm(mean[:, j], np.sqrt(covariance[:, j, j]))
        np.testing.assert_allclose(law.log_density(y[j], own, NUMERIC)[0], expected.logpdf(y[j]))
        np.testing.assert_allclose(family.cdf(y, params)[j, 0], expected.cdf(y[j]))


def test_pymc_s_distribution_is_the_family_s():
    family, _, etas = problem(3, np.random.default_rng(6))
    params = family.named([eta[:, :1] for eta in etas], {}, NUMERIC)
    law = family.dist({name: value[0] for name, value in params.items()})
    y = np.random.default_rng(7).standard_normal(3)
    found = pm.logp(law, y[None]).eval()
    expected = family.log_density(y[:, None], params, NUMERIC)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-9)


def test_the_lkj_prior_is_uniform_on_correlation_matrices():
    """With ``eta = 1`` the density of every correlation matrix is the same: PyMC's LKJCorr."""
    family = made(3, lkj=1.0)
    rng = np.random.default_rng(8)
    drawn = []
    for first, _ in pairs(family.count):
        shape = prior_of_correlation(3, first, 1.0).arguments["eta"]
        drawn.append(2 * rng.beta(shape, shape, 20_000) - 1)
    zero = np.zeros((1, 20_000))
    etas = [zero] * 6 + [2 * np.arctanh(rho)[None] for rho in drawn]
    covariance = family.covariance(family.named(etas, {}, NUMERIC))[0]
    roots = pm.draw(pm.LKJCorr.dist(n=3, eta=1.0), 20_000, random_seed=9)
    reference = roots @ np.swapaxes(roots, 1, 2)
    for j, k in ((0, 1), (0, 2), (1, 2)):
        # All correlations have one distribution, whatever the order of the responses.
        assert stats.ks_2samp(covariance[:, j, k], reference[:, j, k]).pvalue > 1e-3
    assert made(3).parameters[-1].prior.distribution == "FisherNormal"


def test_settings_and_names():
    family = made(2, lkj=2.0)
    assert by_name(family.kind, **family.settings) == family
    assert [p.name for p in family.parameters] == ["mu_a", "mu_b", "sigma_a", "sigma_b", "rho_a_b"]
    assert MvNormal().names == ("y1", "y2")
    with pytest.raises(bm.SpecError, match="lkj"):
        by_name("mvnormal", lkj=-1.0)
    with pytest.raises(bm.SpecError, match="lkj"):
        by_name("mvnormal", lkj="flat")


# --- multinomial ----------------------------------------------------------------------------------


def counts_problem(count, rng):
    """Counts (response, obs), predictors (slot, 1, obs) and parameters of a multinomial."""
    family = by_name("multinomial", responses=tuple("abcdefgh"[:count]))
    etas = [rng.standard_normal((1, ROWS)) for _ in family.slots]
    trials = rng.integers(0, 9, ROWS).astype(float)
    params = family.named(etas, {"trials": trials}, NUMERIC)
    y = family.random(params, rng, (1, ROWS))[:, 0].astype(float)
    return family, y, etas, params


@pytest.mark.parametrize("count", COUNTS)
def test_the_multinomial_is_scipy_s(count):
    family, y, etas, params = counts_problem(count, np.random.default_rng(count))
    p = np.exp(np.stack([eta[0] for eta in etas]))
    p /= p.sum(axis=0)
    np.testing.assert_allclose(family.shares(params)[:, 0], p)
    laws = [stats.multinomial(int(n), p[:, i]) for i, n in enumerate(params["trials"])]
    expected = [law.logpmf(y[:, i].astype(int)) for i, law in enumerate(laws)]
    np.testing.assert_allclose(family.log_density(y, params, NUMERIC)[0], expected, atol=1e-9)
    for i in (0, 7, 20):
        np.testing.assert_allclose(family.covariance(params)[0, i], laws[i].cov(), atol=1e-12)
    for j in range(count):
        law, own = family.margin(j, params)
        binomial = stats.binom(params["trials"], p[j])
        found = law.log_density(y[j], own, NUMERIC)[0]
        np.testing.assert_allclose(found, binomial.logpmf(y[j]), atol=1e-9)
        np.testing.assert_allclose(family.cdf(y, params)[j, 0], binomial.cdf(y[j]), atol=1e-9)
        np.testing.assert_allclose(family.mean(params)[j, 0], binomial.mean(), atol=1e-12)
        np.testing.assert_allclose(family.variance(params)[j, 0], binomial.var(), atol=1e-12)
    outside = family.log_density(y + np.eye(count)[:, :1], params, NUMERIC)
    assert (outside == -np.inf).all()


def test_derivatives_and_kernel_of_the_multinomial():
    family, y, etas, params = counts_problem(3, np.random.default_rng(1))
    data = family.data(y, params, NUMERIC)
    found = family.derivatives_at(data, etas)
    h = 1e-5
    for j in range(3):
        up, down = (
            family.log_density_at(data, [e + s * (k == j) for k, e in enumerate(etas)], NUMERIC)
            for s in (h, -h)
        )
        np.testing.assert_allclose(found.score[j], (up - down) / (2 * h), atol=1e-6)
    p = family.shares(params)
    expected = params["trials"] * (p[0] * p[1])
    np.testing.assert_allclose(found.second[0][1], expected, atol=1e-9)
    assert has_kernel(family)
    assert kernel_of(family).more == 1


def test_pymc_s_multinomial_is_the_family_s():
    family, y, _, params = counts_problem(3, np.random.default_rng(2))
    law = family.dist({"p": np.moveaxis(params["p"], 0, -1)[0], "trials": params["trials"]})
    found = pm.logp(law, y.T.astype(int)).eval()
    np.testing.assert_allclose(found, family.log_density(y, params, NUMERIC)[0], atol=1e-8)
