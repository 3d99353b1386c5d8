"""Predictions: probability theory holds, numbers agree with scipy, memory is bounded."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import bayes_moe as bm
from bayes_moe.model import evaluation as mixture
from tests.support.fits import fake_fit

CASES = {
    "normal": {"sigma": [0.4, 0.8, 0.2]},
    "studentt": {"sigma": [0.4, 0.8, 0.2], "nu": [6.0, 12.0, 30.0]},
}


@pytest.fixture(scope="module", params=list(CASES))
def fit(request):
    spec = bm.mixture_of_experts("y ~ x", gate="~ z", experts=3, family=request.param)
    parameters = {
        "gate_coef": np.array([[0.3, -1.0], [0.0, 1.5], [-0.3, -0.5]]),
        "mu_coef": np.array([[0.0, 1.0], [3.0, -0.5], [-2.0, 0.1]]),
        **{name: np.array(v) for name, v in CASES[request.param].items()},
    }
    rng = np.random.default_rng(0)
    rows = {"x": rng.normal(size=80), "z": rng.uniform(-1, 1, 80)}
    table = bm.simulate(spec, rows, parameters, random_seed=1)
    return fake_fit(spec, table, parameters, chains=2, draws=120, spread=0.05)


@pytest.fixture(scope="module")
def rows():
    return pd.DataFrame(
        {"x": [-1.0, 0.0, 2.0, 0.5], "z": [-0.9, 0.2, 0.0, 0.9]}, index=[7, 7, 1, 0]
    )


def brute_force(fit, rows):
    """Weights and frozen scipy distributions of every draw and expert, row by row."""
    p = fit.idata["posterior"].to_dataset().stack(s=("chain", "draw")).transpose("s", ...)
    for x, z in zip(rows["x"], rows["z"], strict=True):
        logits = p["gate_coef"].values @ [1.0, z]
        w = np.exp(logits - logits.max(axis=1, keepdims=True))
        w /= w.sum(axis=1, keepdims=True)
        mu = p["mu_coef"].values @ [1.0, x]
        if "nu" in p:
            yield w, stats.t(p["nu"].values, mu, p["sigma"].values)
        else:
            yield w, stats.norm(mu, p["sigma"].values)


def test_moments_density_and_cdf_are_brute_forces(fit, rows):
    predictive = bm.predict(fit, rows)
    y = np.array([-0.5, 1.0, 2.0, 3.5])
    for i, (w, law) in enumerate(brute_force(fit, rows)):
        mean = (w * law.mean()).sum(axis=1)
        variance = (w * (law.var() + law.mean() ** 2)).sum(axis=1).mean() - mean.mean() ** 2
        assert predictive.mean().values[i] == pytest.approx(mean.mean(), rel=1e-12)
        assert predictive.sd().values[i] == pytest.approx(np.sqrt(variance), rel=1e-10)
        assert predictive.pdf(y).values[i] == pytest.approx((w * law.pdf(y[i])).sum(axis=1).mean())
        assert predictive.cdf(y).values[i] == pytest.approx((w * law.cdf(y[i])).sum(axis=1).mean())
        np.testing.assert_allclose(predictive.weights().values[i], w.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(
            predictive.expert_means().values[i], law.mean().mean(axis=0), rtol=1e-12
        )
        np.testing.assert_allclose(predictive.mean(draws=True).values[..., i].ravel(), mean)


def test_quantile_inverts_cdf(fit, rows):
    levels = [1e-6, 0.001, 0.05, 0.5, 0.8, 0.975, 1 - 1e-6]
    predictive = bm.predict(fit, rows)
    found = predictive.quantile(levels)
    assert found.dims == ("obs_id", "quantile")
    for j, level in enumerate(levels):
        back = predictive.cdf(found.values[:, j])
        np.testing.assert_allclose(back.values, level, atol=1e-8, rtol=0)
    np.testing.assert_array_equal(predictive.quantile(0.5).values, found.sel(quantile=0.5).values)
    interval = predictive.interval(0.9)
    np.testing.assert_allclose(interval.sel(ci_bound="lower"), found.sel(quantile=0.05))


def test_density_integrates_to_one(fit, rows):
    predictive = bm.predict(fit, rows)
    low, high = (predictive.quantile(p).values for p in (1e-9, 1 - 1e-9))
    nodes, weights = np.polynomial.legendre.leggauss(2000)
    for i in range(len(rows)):
        y = 0.5 * (high[i] - low[i]) * nodes + 0.5 * (high[i] + low[i])
        density = predictive.pdf(y, grid=True)
        assert density.dims == ("obs_id", "y")
        total = 0.5 * (high[i] - low[i]) * (weights * density.values[i]).sum()
        assert total == pytest.approx(1, abs=1e-6)


def test_cdf_is_the_densitys_integral(fit, rows):
    predictive = bm.predict(fit, rows.iloc[:1])
    total, _ = integrate.quad(lambda v: float(predictive.pdf(v)[0]), 0.0, 2.0, epsabs=1e-10)
    assert float((predictive.cdf(2.0) - predictive.cdf(0.0))[0]) == pytest.approx(total, abs=1e-8)


def test_samples_have_the_mean_and_the_quantiles(fit, rows):
    predictive = bm.predict(fit, rows)
    drawn = predictive.sample(100_000, random_seed=3)
    assert drawn.dims == ("sample", "obs_id")
    error = drawn.std("sample") / np.sqrt(drawn.sizes["sample"])
    assert (np.abs(drawn.mean("sample") - predictive.mean()) < 4 * error).all()
    for level in (0.1, 0.5, 0.9):
        below = (drawn <= predictive.quantile(level)).mean("sample")
        np.testing.assert_allclose(below, level, atol=4 * np.sqrt(0.25 / 100_000))
    assert drawn.equals(predictive.sample(100_000, random_seed=3))
    assert not drawn.equals(predictive.sample(100_000, random_seed=4))
    one_a_draw = predictive.sample(random_seed=3)
    assert one_a_draw.dims == ("chain", "draw", "obs_id")
    assert one_a_draw.shape == (2, 120, 4)


def test_log_density_and_responsibilities_of_given_rows(fit, rows):
    table = rows.assign(y=[0.0, 1.0, 2.0, 3.0])
    density, share = bm.log_density(fit, table), bm.responsibilities(fit, table)
    assert density.dims == ("chain", "draw", "obs_id")
    assert share.dims == ("chain", "draw", "obs_id", "expert")
    for i, (w, law) in enumerate(brute_force(fit, rows)):
        joint = w * law.pdf(table["y"].iloc[i])
        np.testing.assert_allclose(density.values[..., i].ravel(), np.log(joint.sum(axis=1)))
        expected = joint / joint.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(share.values[:, :, i].reshape(-1, 3), expected, atol=1e-12)
    np.testing.assert_array_equal(
        bm.log_density(fit).values, fit.idata["log_likelihood"]["y"].values
    )


def test_chunks_change_nothing(fit, rows, monkeypatch):
    whole = bm.predict(fit, rows)
    expected = [whole.mean(), whole.sd(), whole.quantile([0.1, 0.9]), whole.weights(draws=True)]
    expected_sample = whole.sample(50, random_seed=1)
    monkeypatch.setattr(mixture, "CHUNK_ELEMENTS", 1)
    part = bm.predict(fit, rows)
    found = [part.mean(), part.sd(), part.quantile([0.1, 0.9]), part.weights(draws=True)]
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
        assert a.dims == b.dims
    assert part.sample(50, random_seed=1).shape == expected_sample.shape


def test_extreme_responses_and_features_give_no_nan(fit):
    rows = pd.DataFrame({"x": [1e3, -1e3, 0.0], "z": [700.0, -700.0, 0.0]})
    predictive = bm.predict(fit, rows)
    assert np.isfinite(predictive.mean()).all()
    assert np.isfinite(predictive.logpdf([1e3, -1e3, 1e3])).all()
    np.testing.assert_allclose(predictive.weights().sum("expert"), 1, atol=1e-12)
    low, high = (predictive.cdf(v).values for v in (-1e9, 1e9))
    np.testing.assert_allclose([low, high], [[0] * 3, [1] * 3], atol=1e-6)


def test_bad_arguments_are_named(fit, rows):
    predictive = bm.predict(fit, rows)
    for call, message in (
        (lambda: predictive.quantile(0.0), "`p` must lie strictly between 0 and 1"),
        (lambda: predictive.interval(90), "`ci_prob` must lie strictly between"),
        (lambda: predictive.pdf([1.0, 2.0]), "give one value, one a row, or grid=True"),
        (lambda: predictive.sample(0), "`size` must be"),
        (lambda: predictive.sample(random_seed=-1), "`random_seed` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_fitted_rows_are_the_default(fit):
    assert bm.predict(fit).mean().sizes["obs_id"] == 80
    assert "80 rows" in repr(bm.predict(fit))


def test_no_rows_give_empty_answers(fit):
    predictive = bm.predict(fit, {"x": [], "z": []})
    assert predictive.mean().shape == predictive.sd().shape == predictive.cdf(0.0).shape == (0,)
    assert predictive.interval(0.9).shape == (0, 2)
    assert predictive.modes(most=3)["location"].shape == (0, 3)
    assert predictive.hdr()["bounds"].shape[0] == 0
    assert "No rows." in predictive._repr_html_()
    assert predictive.weights().shape == (0, 3)
    assert predictive.sample(5).shape == (5, 0)


def sparse_brute_force(fit, rows, k):
    """As :func:`brute_force`, with the ``k`` largest weights of each draw; and what is lost."""
    for w, law in brute_force(fit, rows):
        least = np.sort(w, axis=1)[:, [-k]]
        kept = np.where(w >= least, w, 0.0)
        yield kept / kept.sum(axis=1, keepdims=True), 1 - kept.sum(axis=1), w, law


@pytest.mark.parametrize("k", [1, 2])
def test_sparse_predictives_are_brute_forces(fit, rows, k):
    sparse = bm.predict(fit, rows, top_k=k)
    error = sparse.approximation_error()
    y = np.array([-0.5, 1.0, 2.0, 3.5])
    for i, (w, lost, full, law) in enumerate(sparse_brute_force(fit, rows, k)):
        mean = (w * law.mean()).sum(axis=1)
        variance = (w * (law.var() + law.mean() ** 2)).sum(axis=1).mean() - mean.mean() ** 2
        assert sparse.mean().values[i] == pytest.approx(mean.mean(), rel=1e-12)
        assert sparse.sd().values[i] == pytest.approx(np.sqrt(variance), rel=1e-10)
        assert sparse.pdf(y).values[i] == pytest.approx((w * law.pdf(y[i])).sum(axis=1).mean())
        assert sparse.cdf(y).values[i] == pytest.approx((w * law.cdf(y[i])).sum(axis=1).mean())
        np.testing.assert_allclose(sparse.weights(draws=True)[:, :, i].values.reshape(-1, 3), w)
        assert error["dropped_weight"].values[i] == pytest.approx(lost.mean(), rel=1e-9)
        shift = mean.mean() - (full * law.mean()).sum(axis=1).mean()
        assert error["mean_shift"].values[i] == pytest.approx(shift, rel=1e-9)
    np.testing.assert_allclose(
        sparse.cdf(sparse.quantile(0.2).values), 0.2, atol=1e-8, err_msg="quantile inverts cdf"
    )
    assert f"the {k} heaviest" in repr(sparse)


def test_all_experts_are_the_full_predictive(fit, rows):
    full, every = bm.predict(fit, rows), bm.predict(fit, rows, top_k=3)
    np.testing.assert_array_equal(every.mean(), full.mean())
    np.testing.assert_array_equal(every.quantile(0.3), full.quantile(0.3))
    assert every.sample(9, random_seed=1).equals(full.sample(9, random_seed=1))
    for seen in (full, every):
        assert not seen.approximation_error().to_array().any()


def test_dropped_weight_bounds_every_probability(fit, rows):
    full, sparse = bm.predict(fit, rows), bm.predict(fit, rows, top_k=1)
    bound = sparse.approximation_error()["dropped_weight"]
    y = np.linspace(-6, 8, 2001)
    apart = np.abs(full.pdf(y, grid=True) - sparse.pdf(y, grid=True)).integrate("y") / 2
    assert (apart <= bound + 1e-6).all()
    assert (apart >= 0.5 * bound - 1e-6).all()


def test_sparse_samples_come_from_the_kept_experts(fit, rows):
    sparse = bm.predict(fit, rows, top_k=1)
    drawn = sparse.sample(20_000, random_seed=2)
    error = drawn.std("sample") / np.sqrt(20_000)
    assert (np.abs(drawn.mean("sample") - sparse.mean()) < 4 * error).all()
    levels = sparse.weights(draws=True)
    np.testing.assert_allclose(levels.max("expert"), 1, atol=1e-12)


def test_experts_left_out_need_no_moments():
    spec = bm.mixture_of_experts("y ~ 1", gate="~ 1", experts=2, family="studentt")
    truth = {
        "gate_coef": [[1.0], [-1.0]],
        "mu_coef": [[0.0], [5.0]],
        "sigma": [1.0, 1.0],
        "nu": [9.0, 0.5],
    }
    fit = fake_fit(spec, {"y": np.linspace(-2, 6, 30)}, truth)
    rows = pd.DataFrame(index=range(2))
    sparse = bm.predict(fit, rows.assign(y=0.0), top_k=1)
    full = bm.predict(fit, rows.assign(y=0.0))
    assert np.isnan(full.mean()).all()
    assert np.isfinite(sparse.mean()).all()
    assert np.isfinite(sparse.sd()).all()
    assert np.isfinite(sparse.interval(0.9)).all()
    assert np.isfinite(sparse.logpdf(3.0)).all()
    assert np.isnan(sparse.approximation_error()["mean_shift"]).all()


def test_sparse_predictives_of_counts():
    spec = bm.mixture_of_experts("y ~ 1", gate="~ 1", experts=3, family="poisson")
    truth = {"gate_coef": [[0.5], [0.0], [-0.5]], "mu_coef": [[0.0], [1.0], [3.0]]}
    fit = fake_fit(spec, {"y": np.arange(30)}, truth)
    sparse = bm.predict(fit, top_k=1)
    assert sparse.quantile([0.1, 0.5, 0.99]).values[0].tolist() == [0.0, 1.0, 4.0]
    assert sparse.logpdf(0.5).values[0] == -np.inf
    assert sparse.sample(50, random_seed=0).dtype.kind == "i"


@pytest.mark.parametrize("bad", [0, 4, -1, 1.5, "2", True])
def test_bad_numbers_of_experts_are_named(fit, rows, bad):
    with pytest.raises(bm.SpecError, match=r"`top_k` must be a whole number between 1 and .* 3"):
        bm.predict(fit, rows, top_k=bad)
