"""Rows whose expert is known: against separate regressions, and what tells experts apart."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.results.permuting import permute_draws

sm = pytest.importorskip("statsmodels.api")


@pytest.fixture(scope="module")
def table():
    """Three regressions, of which the first has the highest location."""
    rng = np.random.default_rng(4)
    n = 300
    x, z = rng.normal(0, 1, n), rng.normal(0, 1, n)
    logits = np.stack([0.5 * z, -0.5 * z, 0.3 + 0 * z])
    k = np.array([rng.choice(3, p=p) for p in (np.exp(logits) / np.exp(logits).sum(0)).T])
    mean = np.array([8 - x, 4 + 0.5 * x, 2 * x])[k, np.arange(n)]
    y = mean + np.array([0.5, 1.0, 0.8])[k] * rng.normal(0, 1, n)
    return pd.DataFrame({"x": x, "z": z, "y": y, "label": k})


def spec_of(**more):
    return bm.mixture_of_experts("y ~ x", experts=3, gate="~ z", expert="label", **more)


def mean_of(fit, name):
    return fit.idata["posterior"][name].mean(("chain", "draw")).values


def test_all_experts_known_is_a_regression_each_and_a_multinomial_logit(table):
    fit = bm.fit(spec_of(), table, "em", objective="likelihood", random_seed=0)
    total = 0.0
    for k, own in table.groupby("label"):
        line = sm.OLS(own["y"], sm.add_constant(own["x"])).fit()
        np.testing.assert_allclose(mean_of(fit, "mu_coef")[k], line.params, rtol=1e-6)
        sigma = np.sqrt(line.ssr / len(own))
        assert mean_of(fit, "sigma")[k] == pytest.approx(sigma, rel=1e-6)
        errors = fit.idata["standard_error"]["mu_coef"].values[k]
        np.testing.assert_allclose(errors, line.bse * np.sqrt(1 - 2 / len(own)), rtol=1e-6)
        total += line.llf
    logit = sm.MNLogit(table["label"], sm.add_constant(table["z"])).fit(disp=False, tol=1e-12)
    gate = mean_of(fit, "gate_coef")
    np.testing.assert_allclose((gate[1:] - gate[0]).T, logit.params, rtol=1e-5, atol=1e-6)
    assert bm.information(fit)["log_likelihood"] == pytest.approx(total + logit.llf, rel=1e-9)
    r = bm.responsibilities(fit).values[0, 0]
    np.testing.assert_array_equal(r.argmax(axis=1), table["label"])
    np.testing.assert_array_equal(r.max(axis=1), 1.0)
    same = table["label"] == table["label"][0]
    np.testing.assert_array_equal(bm.coclustering(fit).values[0] == 1, same)


@pytest.mark.parametrize("method", ["em", "map", "laplace"])
def test_labels_say_which_expert_is_which(table, method):
    some = table.assign(label=table["label"].where(table.index % 10 == 0))
    more = {"draws": 50, "chains": 1} if method == "laplace" else {}
    fit = bm.fit(spec_of(), some, method, random_seed=0, **more)
    intercepts = mean_of(fit, "mu_coef")[:, 0]
    np.testing.assert_allclose(intercepts, [8, 4, 0], atol=1.0)
    r = bm.responsibilities(fit).mean(("chain", "draw")).values
    known = some["label"].notna().to_numpy()
    np.testing.assert_array_equal(r[known].argmax(axis=1), table["label"][known])
    assert (r[~known].max(axis=1) < 1).any()
    assert fit.spec.structure.symmetry.trivial
    new = some.drop(columns="label")
    assert not (bm.responsibilities(fit, new).max("expert") == 1).all()
    np.testing.assert_allclose(bm.responsibilities(fit, some).mean(("chain", "draw")), r, rtol=1e-9)


def test_experts_are_known_by_their_names(table, tmp_path):
    words = table["label"].map({0: "high", 1: "middle", 2: "low"})
    named = [bm.Expert("y ~ x", name=name) for name in ("low", "middle", "high")]
    spec = bm.MixtureOfExperts(bm.gates.Softmax("~ z"), named, expert="label")
    fit = bm.fit(spec, table.assign(label=words), "em", random_seed=0)
    np.testing.assert_allclose(mean_of(fit, "mu_coef")[:, 0], [0, 4, 8], atol=0.5)
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    np.testing.assert_array_equal(bm.responsibilities(again), bm.responsibilities(fit))
    other = bm.refit(fit, table.assign(label=words)[:150], random_seed=0)
    np.testing.assert_allclose(mean_of(other, "mu_coef")[:, 0], [0, 4, 8], atol=0.7)


@pytest.fixture(scope="module")
def one_known(table):
    """Draws about the mode where rows of the highest expert alone are known."""
    some = table.assign(label=table["label"].where(table["label"] == 0))
    return some, bm.fit(spec_of(), some, "laplace", draws=50, chains=2, random_seed=0)


def test_experts_without_a_known_row_are_exchangeable(one_known, tmp_path):
    """They are in the order of their locations; draws of either order get the same labels."""
    _, fit = one_known
    np.testing.assert_allclose(mean_of(fit, "mu_coef")[:, 0], [8, 0, 4], atol=0.5)
    pairs = [(a.leaves, b.leaves) for a, b in fit.spec.structure.symmetry.exchanges()]
    assert pairs == [((1,), (2,))]
    order = np.tile([0, 1, 2], (2, 50, 1))
    order[1] = [0, 2, 1]
    order = xr.DataArray(order, dims=("chain", "draw", "expert"))
    mixed = replace(fit, idata=permute_draws(fit.idata, fit.spec, order))
    assert mean_of(mixed, "mu_coef")[1, 0] == pytest.approx(2, abs=0.5)
    mixed.idata.attrs["kind"] = "draws"
    aligned = bm.relabel(mixed)
    np.testing.assert_allclose(mean_of(aligned, "mu_coef"), mean_of(fit, "mu_coef"), rtol=1e-12)
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    assert again.spec == fit.spec == pickle.loads(pickle.dumps(fit.spec))
    assert not again.spec.structure.symmetry.trivial


def test_which_experts_have_no_known_row_is_that_of_the_table(table, one_known):
    some, fit = one_known
    more = bm.refit(fit, table, random_seed=0, draws=50, chains=1, like=None)
    assert more.spec.structure.symmetry.trivial
    np.testing.assert_allclose(mean_of(more, "mu_coef")[:, 0], [8, 4, 0], atol=0.5)
    fewer = bm.refit(more, some, random_seed=0, draws=50, chains=1)  # in the order of `more`
    assert fewer.spec == fit.spec
    np.testing.assert_allclose(mean_of(fewer, "mu_coef")[:, 0], [8, 4, 0], atol=0.5)
    record = fit.spec.to_dict()
    for wrong in ({"experts_without_rows": [7, 8]}, {"expert": None}):
        with pytest.raises(bm.SpecError, match="without a known row"):
            bm.MixtureOfExperts.from_dict(record | wrong)


def test_missing_features_are_integrated_out_of_rows_with_known_experts(table):
    gaps = table.assign(z=table["z"].where(table.index % 4 > 0))
    gaps["label"] = table["label"].where(table.index % 3 == 0)
    spec = bm.mixture_of_experts("y ~ x", experts=3, gate=bm.gates.Gaussian("~ z"), expert="label")
    fit = bm.fit(spec, gaps, "em", missing="model", random_seed=0)
    known = gaps["label"].notna().to_numpy()
    r = bm.responsibilities(fit).values[0, 0]
    np.testing.assert_array_equal(r[known].argmax(axis=1), table["label"][known])
    np.testing.assert_array_equal(r[known].max(axis=1), 1.0)
    post = fit.idata["posterior"].isel(chain=0, draw=0)
    mean, sd = post["gate_mean"].values[:, 0], np.sqrt(post["gate_cov"].values[:, 0, 0])
    coef, sigma = post["mu_coef"].values, post["sigma"].values
    y, x, z = (gaps[c].to_numpy()[:, None] for c in ("y", "x", "z"))
    joint = np.log(post["gate_weight"].values) + stats.norm.logpdf(
        y, coef[:, 0] + coef[:, 1] * x, sigma
    )
    joint = joint + np.nan_to_num(stats.norm.logpdf(z, mean, sd))
    other = known[:, None] & (table["label"].to_numpy()[:, None] != np.arange(3))
    expected = special.logsumexp(np.where(other, -np.inf, joint), axis=1).sum()
    assert bm.information(fit)["log_likelihood"] == pytest.approx(expected, rel=1e-9)


def test_tables_whose_labels_cannot_be(table):
    with pytest.raises(bm.DataError, match=r"expert '7'.*row 3"):
        bm.fit(spec_of(), table.assign(label=table["label"].where(table.index != 3, 7)), "em")
    with pytest.raises(bm.DataError, match="no row's expert"):
        bm.fit(spec_of(), table.assign(label=np.nan), "em")
    pairs = np.repeat(np.arange(150), 2)
    grouped = table.assign(g=pairs, z=table["z"].to_numpy()[2 * pairs])
    with pytest.raises(bm.DataError, match=r"row 0 and .* at row 1, both of the group"):
        bm.fit(spec_of(group="g"), grouped.assign(label=np.arange(300) % 3), "em")
