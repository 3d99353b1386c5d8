"""Families of counts: one expert without priors is what peers print, under every link."""

import numpy as np
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.families.links import MEANS, PROBABILITIES
from tests.support.one_expert import CASES, table_of

COUNTED = ("poisson", "negativebinomial", "geometric", "bernoulli", "binomial", "betabinomial")
PEERS = [case for case in CASES if case["family"] in COUNTED]


def fitted(formula, table, family, **options):
    spec = bm.mixture_of_experts(formula, experts=1, family=family, **options)
    return bm.fit(spec, table, "em", objective="likelihood", random_seed=1, progressbar=False)


def estimates(fit, name):
    values = fit.idata["posterior"][name].squeeze()
    return np.atleast_1d(values.values)


def compare_with_peer(fit, case, names):
    assert bm.information(fit)["log_likelihood"] == pytest.approx(case["loglik"], abs=1e-6)
    for ours, theirs in names.items():
        expected = case["params"][theirs]
        if isinstance(expected, dict):
            found = fit.idata["posterior"][f"{ours}_coef"].squeeze()
            by_term = dict(zip(found[f"{ours}_term"].values, found.values, strict=True))
            assert by_term == pytest.approx(expected, rel=1e-5, abs=1e-5)
        else:
            assert estimates(fit, ours)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("case", PEERS, ids=lambda case: case["case"])
def test_one_expert_is_the_peer_s(case):
    kind = families.by_name(case["family"])
    family = kind if "link" not in case else families.by_name(kind.kind, link=case["link"])
    fit = fitted(case["formula"], table_of(case), family, **{k: k for k in kind.known_counts})
    compare_with_peer(fit, case, {p.name: p.name for p in kind.parameters})


@pytest.mark.filterwarnings("ignore:The .* link function does not respect")
@pytest.mark.parametrize("link", ["identity", "sqrt"])
def test_a_poisson_mean_may_have_another_link(link):
    statsmodels = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 4, 500)
    y = rng.poisson(0.4 + 1.5 * x)
    links = statsmodels.families.links
    own = {"identity": links.Identity, "sqrt": links.Sqrt}[link]()
    model = statsmodels.GLM(
        y, statsmodels.add_constant(x), family=statsmodels.families.Poisson(link=own)
    )
    expected = model.fit(tol=1e-12)
    fit = fitted("y ~ x", {"x": x, "y": y}, families.by_name("poisson", link=link))
    np.testing.assert_allclose(np.abs(estimates(fit, "mu_coef")), expected.params, rtol=1e-5)
    assert bm.information(fit)["log_likelihood"] == pytest.approx(expected.llf, abs=1e-6)


@pytest.mark.parametrize("link", MEANS)
def test_links_of_a_mean(link):
    """Log and value of the mean are one, and the mean is that of the distribution."""
    family = families.by_name("poisson", link=link)
    eta = np.array([0.3, 1.0, 4.0])
    mean = {"log": np.exp(eta), "identity": eta, "sqrt": eta**2}[link]
    for y in (0.0, 1.0, 7.0):
        found = family.log_density(np.full(3, y), {"mu": eta}, NUMERIC)
        np.testing.assert_allclose(found, stats.poisson(mean).logpmf(y), rtol=1e-12)
        tensor = family.log_density(np.full(3, y), {"mu": eta}, symbolic())
        np.testing.assert_allclose(tensor.eval(mode="FAST_COMPILE"), found, rtol=1e-12)
    np.testing.assert_allclose(family.mean({"mu": eta}), mean)
    drawn = family.dist({"mu": eta[0]})
    assert drawn.owner.inputs[-1].eval() == pytest.approx(mean[0])


def test_a_negative_mean_has_no_density():
    family = families.by_name("poisson", link="identity")
    eta = np.array([-1e-9, -3.0, 0.0])
    for y in (0.0, 2.0):
        at = family.derivatives(np.full(3, y), {"mu": eta})
        assert np.all(family.log_density(np.full(3, y), {"mu": eta}, NUMERIC) == -np.inf)
        assert np.all(np.isfinite(at.score[0]))
    np.testing.assert_array_equal(family.mean({"mu": eta}), 0)


@pytest.mark.parametrize("link", PROBABILITIES)
def test_links_of_a_probability(link):
    """Without loss where the probability is small, or nearly one."""
    family = families.by_name("binomial", link=link)
    eta = np.array([-30.0, -6.0, -1.0, 0.0, 0.7, 2.5])
    p = {
        "logit": special.expit(eta),
        "probit": stats.norm.cdf(eta),
        "cloglog": -np.expm1(-np.exp(eta)),
    }[link]
    q = {
        "logit": special.expit(-eta),
        "probit": stats.norm.sf(eta),
        "cloglog": np.exp(-np.exp(eta)),
    }[link]
    for y in (0.0, 2.0, 9.0):
        known = {"trials": np.full(6, 9.0)}
        found = family.log_density(np.full(6, y), {"p": eta} | known, NUMERIC)
        expected = np.log(special.comb(9, y)) + special.xlogy(y, p) + (9 - y) * np.log(q)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
        tensor = family.log_density(np.full(6, y), {"p": eta} | known, symbolic())
        np.testing.assert_allclose(tensor.eval(mode="FAST_COMPILE"), found, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(family.mean({"p": eta} | known), 9 * p, rtol=1e-10)
    share = family.initial_eta(np.array([2.0]), {"trials": np.array([9.0])})
    assert family.mean({"p": share} | {"trials": np.array([9.0])}) == pytest.approx(2.25)


@pytest.mark.parametrize("name", ["poisson", "bernoulli", "binomial", "betabinomial"])
def test_an_unknown_link_names_the_known_ones(name):
    with pytest.raises(bm.SpecError, match="link"):
        families.by_name(name, link="cauchit")


def test_a_negative_binomial_is_poisson_and_a_beta_binomial_binomial_in_the_limit():
    y = np.array([0.0, 1.0, 5.0, 40.0])
    eta = np.array([1.2])
    nb = families.by_name("negativebinomial").log_density(
        y, {"mu": eta, "alpha": np.array([1e13])}, NUMERIC
    )
    poisson = families.by_name("poisson").log_density(y, {"mu": eta}, NUMERIC)
    np.testing.assert_allclose(nb, poisson, rtol=1e-9, atol=1e-10)
    at = {"p": eta, "trials": np.array([50.0])}
    bb = families.by_name("betabinomial").log_density(y, at | {"phi": np.array([1e14])}, NUMERIC)
    binomial = families.by_name("binomial").log_density(y, at, NUMERIC)
    np.testing.assert_allclose(bb, binomial, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "bad", "what"),
    [
        ("negativebinomial", -1.0, "whole numbers from 0"),
        ("geometric", 2.5, "whole numbers from 0"),
        ("betabinomial", 7.0, "of 6 trials"),
    ],
)
def test_a_bad_count_is_named_with_its_row(name, bad, what):
    y = np.array([0.0, 1.0, bad, 2.0, bad])
    table = {"x": np.arange(5.0), "claims": y, "n": np.full(5, 6.0)}
    family = families.by_name(name)
    spec = bm.mixture_of_experts(
        "claims ~ x", experts=1, family=family, **dict.fromkeys(family.known_counts, "n")
    )
    with pytest.raises(bm.DataError, match=rf"'claims' is {bad:g} at row 2.*{what}"):
        spec.design(table)


@pytest.mark.parametrize("trials", [1, 2, 30, 1500])
@pytest.mark.parametrize("above", [False, True])
def test_tails_of_the_beta_binomial_are_sums_of_probabilities(trials, above):
    """Also where the distribution has poles at its ends, and where it is all but binomial."""
    family, rng, rows = families.by_name("betabinomial"), np.random.default_rng(trials), 60
    n = rng.integers(1, trials + 1, rows).astype(float)
    at = {"p": rng.normal(0, 3, rows), "phi": 10 ** rng.uniform(-3, 8, rows), "trials": n}
    y = rng.uniform(-1, n + 1)
    counts = np.arange(trials + 1.0)[:, None]
    with np.errstate(all="ignore"):  # counts above the trials
        density = np.exp(family.log_density(counts, at, NUMERIC))
    wanted = (counts <= n) & ((counts > np.floor(y)) == above)
    found = (family.sf if above else family.cdf)(y, at)
    np.testing.assert_allclose(found, np.where(wanted, density, 0.0).sum(axis=0), rtol=1e-10)


def test_tails_of_a_million_trials():
    """Against the sum of SciPy's probabilities."""
    family = families.by_name("betabinomial")
    at = {"p": np.zeros(1), "phi": np.array([3.0]), "trials": np.array([1e6])}
    exact = stats.betabinom.pmf(np.arange(1_000_001), 10**6, 1.5, 1.5)
    for y in (100, 400_000, 999_000):
        assert family.cdf(np.array([y]), at) == pytest.approx(exact[: y + 1].sum(), rel=1e-8)
        assert family.sf(np.array([y]), at) == pytest.approx(exact[y + 1 :].sum(), rel=1e-8)
