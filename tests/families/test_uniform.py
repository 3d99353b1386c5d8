"""The uniform distribution: of outliers beside other experts, without parameters."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.families.uniform import Uniform

Y = np.array([-3.1, -3.0, 0.0, 2.5, 5.0, 5.1])
PARAMS = {"lower": np.full((2, 1), -3.0), "upper": np.full((2, 1), 5.0)}
LAW = stats.uniform(-3, 8)


def test_its_distribution():
    family, both = Uniform(-3, 5), np.ones((2, 1))
    expected = LAW.logpdf(Y) * both
    np.testing.assert_allclose(family.log_density(Y, PARAMS, NUMERIC) * both, expected)
    tensor = family.log_density(Y, PARAMS, symbolic()).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(tensor * both, expected)
    np.testing.assert_allclose(family.cdf(Y, PARAMS), LAW.cdf(Y) * both)
    np.testing.assert_allclose(family.sf(Y, PARAMS), LAW.sf(Y) * both)
    np.testing.assert_allclose(family.mean(PARAMS), LAW.mean() * both)
    np.testing.assert_allclose(family.location(PARAMS), LAW.mean() * both)
    np.testing.assert_allclose(family.variance(PARAMS), LAW.var() * both)
    np.testing.assert_allclose(family.scale(PARAMS), LAW.std() * both)
    drawn = family.random(PARAMS, np.random.default_rng(0), (5000, 2, 4))
    assert stats.kstest(drawn.ravel(), LAW.cdf).pvalue > 1e-3


def test_its_density_is_pymc_s():
    import pymc as pm

    found = pm.logp(Uniform(-3, 5).dist({"lower": -3.0, "upper": 5.0}), Y)
    expected = Uniform(-3, 5).log_density(Y, PARAMS, NUMERIC)[0]
    np.testing.assert_allclose(found.eval(mode="FAST_COMPILE"), expected)


def test_it_has_no_parameters_and_a_score_of_zero():
    family = Uniform(-3, 5)
    assert family.parameters == ()
    found = family.derivatives(Y, PARAMS)
    assert not np.any(found.score)
    assert not np.any(found.second)


def test_its_description():
    assert families.by_name("uniform") == Uniform() == Uniform(0, 1)
    assert families.made(Uniform(-3, 5).to_dict()) == Uniform(-3.0, 5.0)
    assert Uniform().to_dict() == "uniform"
    for wrong in ({"upper": np.inf}, {"lower": 1.0}, {"lower": 2}, {"upper": "1"}):
        with pytest.raises(bm.SpecError, match=r"`(lower|upper)`"):
            Uniform(**wrong)


@pytest.fixture(scope="module")
def outliers():
    """A line, and every eighth row anywhere between -20 and 40."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 2, 200)
    y = 1 + 3 * x + rng.normal(0, 0.7, 200)
    y[::8] = rng.uniform(-20, 40, 25)
    return pd.DataFrame({"x": x, "y": y})


def beside(*experts):
    return bm.MixtureOfExperts(bm.gates.Softmax("~ 1"), list(experts))


BACKGROUND = bm.Expert("y", Uniform(-20, 40), name="background")


@pytest.mark.parametrize("first", [False, True])
def test_outliers_have_scipy_s_optimum(outliers, first):
    line = bm.Expert("y ~ x", name="line")
    spec = beside(*([BACKGROUND, line] if first else [line, BACKGROUND]))
    fit = bm.fit(spec, outliers, "em", objective="likelihood", random_seed=1)

    def terms(theta):
        own = stats.norm(theta[0] + theta[1] * outliers.x, np.exp(theta[2])).logpdf(outliers.y)
        return own + special.log_expit(theta[3]), special.log_expit(-theta[3]) - np.log(60)

    def loss(theta):
        return -np.logaddexp(*terms(theta)).sum()

    posterior = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    theta = [*posterior["line_mu_coef"].values.ravel(), np.log(posterior["line_sigma"].item())]
    shares = bm.predict(fit).weights().isel(obs_id=0)
    theta.append(special.logit(float(shares.sel(expert="line"))))
    best = optimize.minimize(loss, [1.0, 3.0, -0.3, 2.0], method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(theta, best.x, atol=1e-5)
    assert bm.information(fit)["log_likelihood"] == pytest.approx(-best.fun, abs=1e-8)
    own, background = terms(best.x)
    found = bm.responsibilities(fit, outliers).sel(expert="background").values
    np.testing.assert_allclose(found.ravel(), special.expit(background - own), atol=1e-5)


def test_a_row_outside_is_of_another_expert(outliers):
    table = outliers.copy()
    table.loc[3, "y"] = 300.0
    fit = bm.fit(beside(bm.Expert("y ~ x", name="line"), BACKGROUND), table, "em", random_seed=1)
    found = bm.responsibilities(fit, table).sel(expert="background").values.ravel()
    assert found[3] == 0.0
    assert np.isfinite(found).all()


def test_it_is_for_experts_beside_others():
    with pytest.raises(bm.SpecError, match="beside others"):
        beside(BACKGROUND)
