"""Comparison of fits whose responses are functions of one column."""

import warnings

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import bayes_moe as bm
from tests.support.fits import fake_fit

N = 60


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, N)
    y = np.exp(1 + np.abs(x) + 0.3 * rng.standard_normal(N))
    count = rng.poisson(2, N)
    return pd.DataFrame({"x": x, "y": y, "k": count, "n": count + 3, "m": count + 4})


def lines(response, table, method="laplace", rows=None, **options):
    spec = bm.mixture_of_experts(f"{response} ~ x", experts=options.pop("experts", 2), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bm.fit(spec, table if rows is None else table[rows], method, random_seed=1)


@pytest.fixture(scope="module")
def by_response(table):
    return {r: lines(r, table) for r in ("y", "log(y)", "np.sqrt(y)", "I(y / 10)")}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about Pareto k of so few rows
        yield


TRANSFORMS = {
    "y": (lambda y: y, lambda y: 1 + 0 * y),
    "log(y)": (np.log, lambda y: 1 / y),
    "np.sqrt(y)": (np.sqrt, lambda y: 0.5 / np.sqrt(y)),
    "I(y / 10)": (lambda y: y / 10, lambda y: 0.1 + 0 * y),
}


def test_elpd_is_that_of_densities_of_the_column(by_response, table):
    """The densities of y are written out in SciPy, row by row and draw by draw."""
    result = bm.compare(by_response)
    y, x = table["y"].to_numpy(), table["x"].to_numpy()
    design = np.column_stack([np.ones(N), x])
    for name, (g, slope) in TRANSFORMS.items():
        posterior = by_response[name].idata["posterior"].to_dataset()
        gate = posterior["gate_coef"].values @ design.T
        weights = np.exp(gate) / np.exp(gate).sum(axis=-2, keepdims=True)
        means = posterior["mu_coef"].values @ design.T
        sd = posterior["sigma"].values[..., None]
        density = (weights * stats.norm(means, sd).pdf(g(y))).sum(axis=-2) * slope(y)
        log_likelihood = xr.DataArray(np.log(density), dims=("chain", "draw", "obs_id"))
        tree = xr.DataTree.from_dict(
            {
                "posterior": posterior,
                "log_likelihood": xr.Dataset({"y": log_likelihood}),
            }
        )
        expected = az.loo(tree, reff=1.0)
        assert result.loc[name, "elpd"] == pytest.approx(expected.elpd, abs=1e-8)
        assert result.loc[name, "se"] == pytest.approx(expected.se, abs=1e-8)
        assert result.loc[name, "log_jacobian"] == pytest.approx(np.log(slope(y)).sum())
        assert result.loc[name, "response"] == name
    assert result.index[0] == "log(y)"
    assert result["elpd"].is_monotonic_decreasing
    assert "'log(y)' (of log(y)) contains" in result.attrs["note"]


def test_units_of_the_response_do_not_matter(by_response):
    result = bm.compare({name: by_response[name] for name in ("y", "I(y / 10)")})
    assert result.loc["y", "elpd"] == pytest.approx(result.loc["I(y / 10)", "elpd"], abs=1.0)
    plain = az.compare({k: az.loo(by_response[k].idata, reff=1.0) for k in ("y", "I(y / 10)")})
    assert abs(np.diff(plain["elpd"].astype(float))[0]) > 100


def test_cross_validation_equals_leaving_each_row_out(table):
    """One lognormal line, fitted anew without each row; densities of y by SciPy."""
    rows = table.iloc[:30]
    one = {r: lines(r, rows, experts=1) for r in ("log(y)", "y")}
    total = 0.0
    for i in range(len(rows)):
        fit = lines("log(y)", rows.drop(index=i), experts=1)
        posterior = fit.idata["posterior"].to_dataset()
        x, y = rows.loc[i, ["x", "y"]]
        mean = posterior["mu_coef"].values @ [1, x]
        law = stats.lognorm(posterior["sigma"].values[..., 0], scale=np.exp(mean[..., 0]))
        total += np.log(law.pdf(y).mean())
    assert bm.compare(one).loc["log(y)", "elpd"] == pytest.approx(total, abs=0.8)


def test_equal_responses_are_compared_as_they_are(table, by_response):
    other = lines("log( y )", table, experts=1)
    fits = {"two": by_response["log(y)"], "one": other}
    result = bm.compare(fits, method="pseudo-BMA", reference="one")
    expected = az.compare(
        {k: az.loo(f.idata, reff=1.0) for k, f in fits.items()},
        method="pseudo-BMA",
        reference="one",
        round_to="none",
    )
    pd.testing.assert_frame_equal(result[expected.columns], expected, check_flags=False)
    assert result["log_jacobian"].eq(0).all()
    assert result.attrs["note"] == "All figures are of densities of log(y)."


def test_log_likelihoods_that_are_not_stored_are_computed(table, by_response):
    bare = lines("log(y)", table)
    del bare.idata["log_likelihood"]
    pair = {"y": by_response["y"], "log(y)": bare}
    expected = bm.compare({k: by_response[k] for k in pair})
    pd.testing.assert_frame_equal(bm.compare(pair), expected)


def test_criteria_of_modes_contain_the_jacobian(table):
    fits = {r: lines(r, table, "em") for r in ("y", "log(y)", "I(y / 10)")}
    result = bm.compare(fits)
    shift = {"y": 0.0, "log(y)": -np.log(table["y"]).sum(), "I(y / 10)": -N * np.log(10)}
    for name, fit in fits.items():
        figures = bm.information(fit)
        row = result.loc[name]
        assert row["log_likelihood"] == pytest.approx(figures["log_likelihood"] + shift[name])
        for criterion in ("aic", "bic", "icl"):
            assert row[criterion] == pytest.approx(figures[criterion] - 2 * shift[name])
    assert result.index[0] == "log(y)"
    assert result["bic_diff"].iloc[0] == 0
    assert result.loc["y", "bic"] == pytest.approx(result.loc["I(y / 10)", "bic"], abs=1.0)


def test_discrete_responses_have_no_jacobian(table):
    fits = {r: lines(r, table, family="poisson") for r in ("k", "I(2 * k)")}
    result = bm.compare(fits)
    assert result["log_jacobian"].eq(0).all()
    assert result.attrs["note"] == "All figures are of probabilities of k."
    assert bm.compare({"a": fits["k"], "b": fits["k"]}).loc["a", "elpd_diff"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: lines("n", t), "'n' of 'n'. Compare models of one column"),
        (lambda t: lines("y", t.assign(y=np.log(t["y"]))), "'y' differs in 60 of 60 rows, first"),
        (lambda t: lines("y", t.iloc[:-2]), "'a' has 60 rows and 'b' 58: fit both"),
        (lambda t: lines("I(y + n)", t), "'y' is made of 'y', 'I\\(y \\+ n\\)' of 'y', 'n'"),
        (lambda t: lines("np.round(y, 1)", t), "'b' cannot be compared .*'round'"),
        (lambda t: lines("k", t, family="poisson"), "one has a discrete family"),
        (lambda t: lines("y", t, "em"), "'b' is a single mode and 'a' has draws"),
        (lambda t: "fit", "'b' is mapped to a str"),
    ],
)
def test_fits_that_cannot_be_compared_are_refused(table, by_response, change, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.compare({"a": by_response["y"], "b": change(table)})


def test_numbers_of_trials_must_be_the_same(table):
    fits = {n: lines("k", table, family="binomial", trials=n) for n in ("n", "m", "I(m - 1)")}
    with pytest.raises(bm.SpecError, match="different numbers of trials"):
        bm.compare({n: fits[n] for n in ("n", "m")})
    assert len(bm.compare({n: fits[n] for n in ("n", "I(m - 1)")})) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(fits=[1, 2]), "dict of at least two fits"),
        (dict(fits={}), "dict of at least two fits"),
        (dict(method="staking"), "Did you mean 'stacking'"),
        (dict(reference="log(z)"), "Unknown fit 'log\\(z\\)'. Did you mean 'log\\(y\\)'"),
    ],
)
def test_arguments_are_checked(by_response, arguments, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.compare(**{"fits": by_response} | arguments)


def test_the_tree_says_what_the_log_likelihood_is_of(by_response, tmp_path):
    fit = by_response["log(y)"]
    for tree in (fit.idata, bm.load(bm.save(fit, tmp_path / "fit.nc")).idata):
        assert tree.attrs["response"] == "log(y)"
        assert tree["log_likelihood"]["y"].attrs["response"] == "log(y)"


def test_draws_by_hand_are_compared():
    spec = bm.mixture_of_experts("y ~ x", experts=1)
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": rng.normal(size=40), "y": rng.normal(size=40)})
    good, bad = (
        fake_fit(spec, data, {"mu_coef": np.array([[level, 0.0]]), "sigma": np.ones(1)})
        for level in (0.0, 2.0)
    )
    assert list(bm.compare({"bad": bad, "good": good}).index) == ["good", "bad"]
