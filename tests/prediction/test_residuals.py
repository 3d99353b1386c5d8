"""Probability integral transforms and residuals of observed, censored and truncated rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from tests.support.censored import STATED, limited

TRUTH = {
    "mu_coef": [[3.0, 1.0], [0.0, -0.5]],
    "sigma": [1.0, 0.5],
    "gate_coef": [[1.0, 2.0], [0.0, 0.0]],
}
FAILS = 1e-6


def simulated(n=2000, deductible=-np.inf):
    """Rows of the true mixture, of which some 30 % are right-censored at limits of their own."""
    rng = np.random.default_rng(4)
    x, z = rng.normal(size=n), rng.normal(size=n)
    first = rng.random(n) < 1 / (1 + np.exp(-(1 + 2 * z)))
    y = np.where(first, rng.normal(3 + x, 1.0), rng.normal(-0.5 * x, 0.5))
    limit = rng.uniform(1.5, 5.0, n)
    bottom = np.where(rng.random(n) < 0.5, deductible, -np.inf)
    status = np.where(y >= limit, "right", "none")
    table = {"x": x, "z": z, "y": np.minimum(y, limit), "status": status}
    table = pd.DataFrame({**table, "limit": limit, "deductible": bottom})
    return table[y > bottom].reset_index(drop=True)


def at_truth(lhs, table, **truth):
    """A fit whose only draw has the true parameters."""
    spec = bm.mixture_of_experts(f"{lhs} ~ x", experts=2, gate="~ z")
    fit = bm.fit(spec, table.iloc[:200], "em", random_seed=1, restarts=1)
    tree = fit.idata.copy(deep=True)
    for name, value in {**TRUTH, **truth}.items():
        old = tree.posterior[name]
        tree.posterior[name] = old.copy(data=np.broadcast_to(value, old.shape).copy())
    return replace(fit, idata=tree)


def uniform(values):
    """P value of the test that values are uniform."""
    return stats.kstest(np.asarray(values), "uniform").pvalue


@pytest.mark.parametrize("lhs", ["censored(y, status)", "censored(y, upper=limit)"])
def test_values_of_censored_rows_are_uniform_under_the_truth(lhs):
    table = simulated()
    cut = (table["status"] == "right").to_numpy()
    assert 0.25 < cut.mean() < 0.35
    fit = at_truth(lhs, table)
    values = bm.pit(fit, table, random_seed=1).values
    assert uniform(values) > 0.05
    ignored = bm.predict(fit, table).cdf(table["y"]).values  # as if observed
    assert uniform(ignored) < FAILS
    np.testing.assert_allclose(values[~cut], ignored[~cut], atol=1e-12)
    assert (values[cut] >= ignored[cut] - 1e-12).all()
    assert stats.kstest(bm.residuals(fit, table, random_seed=1), "norm").pvalue > 0.05
    wrong = at_truth(lhs, table, sigma=[2.0, 1.0])
    assert uniform(bm.pit(wrong, table, random_seed=1)) < FAILS


def test_values_of_truncated_rows_are_uniform_under_the_truth():
    table = simulated(deductible=0.5)
    fit = at_truth(STATED, table)
    assert uniform(bm.pit(fit, table, random_seed=2)) > 0.05
    ignored = at_truth("censored(y, upper=limit)", table)  # as if all had been recorded
    assert uniform(bm.pit(ignored, table, random_seed=2)) < FAILS
    observed = table[table["status"] == "none"].iloc[:50]
    law, y = bm.predict(fit, observed), observed["y"].to_numpy()
    bottom = np.maximum(observed["deductible"].to_numpy(), -1e3)
    expected = (law.cdf(y) - law.cdf(bottom)) / (1 - law.cdf(bottom))
    np.testing.assert_allclose(bm.pit(fit, observed), expected, rtol=1e-9)
    recorded = bm.predict(fit, observed, observed=True).cdf(y)
    np.testing.assert_allclose(bm.pit(fit, observed), recorded, rtol=1e-9)


def test_values_are_within_what_is_known():
    table = limited("normal", "interval")
    spec = bm.mixture_of_experts("censored(lower=lower, upper=upper) ~ x", experts=2)
    fit = bm.fit(spec, table, "em", random_seed=1)
    law = bm.predict(fit)
    ends = [np.clip(table[name], -1e3, 1e3) for name in ("lower", "upper")]
    low, high = law.cdf(ends[0]), law.cdf(ends[1])
    several = np.stack([bm.pit(fit, random_seed=s) for s in range(40)])
    assert ((several >= low.values - 1e-12) & (several <= high.values + 1e-12)).all()
    known = (table["lower"] == table["upper"]).to_numpy()
    assert (np.ptp(several[:, known], axis=0) < 1e-12).all()
    share = (several - low.values)[:, ~known] / (high - low).values[~known]
    assert uniform(share.ravel()) > 0.01
    np.testing.assert_array_equal(bm.pit(fit, random_seed=3), bm.pit(fit, random_seed=3))


def test_values_of_counts_and_atoms_are_drawn_within_jumps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    counts = {"x": x, "y": rng.poisson(np.exp(0.5 + 0.3 * x))}
    spec = bm.mixture_of_experts("y ~ x", family="poisson", experts=1)
    fit = bm.fit(spec, counts, "em", random_seed=1)
    law, values = bm.predict(fit), bm.pit(fit, random_seed=1)
    assert (values >= law.cdf(counts["y"] - 1.0)).all()
    assert (values <= law.cdf(counts["y"])).all()
    assert uniform(values) > 0.05
    loss = np.where(rng.random(300) < 0.4, 0.0, rng.gamma(2, np.exp(0.5 * x)))
    hurdle = bm.families.Hurdle(bm.families.Gamma())
    spec = bm.mixture_of_experts("y ~ x", family=hurdle, experts=1)
    fit = bm.fit(spec, {"x": x, "y": loss}, "em", random_seed=1)
    values = bm.pit(fit, random_seed=1).values
    assert (values[loss == 0] < bm.predict(fit).cdf(0.0).values[loss == 0]).all()
    assert uniform(values) > 0.05


def test_residuals_are_normal_quantiles_to_the_far_tails():
    table = simulated()
    fit = at_truth("y", table)
    np.testing.assert_allclose(
        bm.residuals(fit, table, random_seed=1),
        stats.norm.ppf(bm.pit(fit, table, random_seed=1)),
        atol=1e-9,
    )
    one = bm.mixture_of_experts("y ~ x", experts=1)
    single = bm.fit(one, table, "em", random_seed=1)
    b, sigma = (single.idata.posterior[n].values[0, 0] for n in ("mu_coef", "sigma"))
    z = np.array([-30.0, -2.0, 0.0, 20.0, 1e3])
    far = pd.DataFrame({"x": 0.0, "y": b[0, 0] + z * sigma[0]}, index=list("abcde"))
    found = bm.residuals(single, far)
    np.testing.assert_allclose(found[:4], z[:4], rtol=1e-9, atol=1e-9)
    assert 37 < found[4] < 38
    assert list(found["obs_id"].values) == list("abcde")


@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")  # of few draws
def test_draws_are_averaged():
    table = simulated(400)
    spec = bm.mixture_of_experts("censored(y, status) ~ x", experts=1)
    fit = bm.fit(spec, table, "laplace", random_seed=1, draws=200)
    observed = (table["status"] == "none").to_numpy()
    expected = bm.predict(fit).cdf(table["y"])
    np.testing.assert_allclose(bm.pit(fit)[observed], expected[observed], rtol=1e-9)


def test_values_that_there_are_not_are_refused():
    table = simulated(100)
    fit = at_truth("censored(y, status)", table)
    with pytest.raises(DataError, match="Unknown column 'status'"):
        bm.pit(fit, table[["x", "z", "y"]])
    both = bm.mixture_of_experts("cbind(y, limit) ~ x", family="mvnormal", experts=1)
    joint = bm.fit(both, table, "em", random_seed=1)
    with pytest.raises(SpecError, match="responses"):
        bm.pit(joint)
    margin = bm.pit(bm.margin(joint, "y"))
    expected = bm.predict(joint).margin("y").cdf(table["y"])
    np.testing.assert_allclose(margin, expected, rtol=1e-9)
    rng = np.random.default_rng(0)
    classes = {"x": rng.normal(size=60), "kind": rng.choice(["a", "b", "c"], 60)}
    spec = bm.mixture_of_experts("kind ~ x", family="categorical", experts=1)
    with pytest.raises(SpecError, match="no order"):
        bm.residuals(bm.fit(spec, classes, "em", random_seed=1))
