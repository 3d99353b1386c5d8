"""Models with random effects: modes, against other software and brute force."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

import bayes_moe as bm

moe = bm.mixture_of_experts


def table(groups=25, rows=8, seed=0):
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(groups), rows)
    x, z = rng.normal(size=(2, code.size))
    u = rng.normal(size=(groups, 2)) @ np.array([[1.0, 0.0], [0.3, 0.5]]).T
    eta = 0.5 + x + u[code, 0] + u[code, 1] * x
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "id": code,
            "y": eta + rng.normal(0.0, 0.7, code.size),
            "c": rng.poisson(np.exp(0.5 * eta - 1.0)),
            "b": (rng.random(code.size) < special.expit(eta)).astype(int),
        }
    )


def ml(formula, data, **settings):
    spec = moe(formula, experts=1, **settings)
    return bm.fit(spec, data, "em", objective="likelihood", random_seed=0, progressbar=False)


def mode(fit, name):
    return fit.idata.posterior[name].values[0, 0]


@pytest.mark.parametrize(("formula", "effects"), [("(1 | id)", "~ 1"), ("(x | id)", "~ x")])
def test_the_maximum_likelihood_is_that_of_a_linear_mixed_model(formula, effects):
    mixedlm = pytest.importorskip("statsmodels.formula.api").mixedlm
    data = table()
    fit = ml(f"y ~ x + {formula}", data)
    other = mixedlm("y ~ x", data, groups=data.id, re_formula=effects).fit(reml=False, gtol=1e-9)
    covariance = other.cov_re.to_numpy()
    sds = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(mode(fit, "mu_coef")[0], other.fe_params, atol=1e-4)
    np.testing.assert_allclose(mode(fit, "mu_id_sd")[0], sds, rtol=1e-3)
    np.testing.assert_allclose(mode(fit, "sigma"), np.sqrt(other.scale), rtol=1e-4)
    if len(sds) > 1:
        np.testing.assert_allclose(
            mode(fit, "mu_id_corr")[0], covariance[1, 0] / sds[:1] / sds[1:], atol=1e-3
        )
    errors = fit.idata["standard_error"]["mu_coef"].values[0]
    np.testing.assert_allclose(errors, other.bse_fe, rtol=1e-3)
    effects_of = np.array([other.random_effects[g].to_numpy() for g in range(25)])
    np.testing.assert_allclose(mode(fit, "mu_id_effect")[0], effects_of, atol=1e-3)
    information = bm.information(fit)
    assert information["log_likelihood"] == pytest.approx(other.llf, abs=1e-6)
    assert information["n_parameters"] == 3 + covariance.shape[0] * (covariance.shape[0] + 1) // 2


# Family, log density without constants, mean and variance of a canonical family.
FAMILIES = {
    "c": ("poisson", "mu", lambda y, eta: y * eta - np.exp(eta), np.exp, np.exp),
    "b": (
        "bernoulli",
        "p",
        lambda y, eta: y * eta - np.logaddexp(0.0, eta),
        special.expit,
        lambda eta: special.expit(eta) * special.expit(-eta),
    ),
}


@pytest.mark.parametrize("column", list(FAMILIES))
def test_the_maximum_likelihood_is_that_of_the_laplace_approximation(column):
    family, stem, log_density, mean, variance = FAMILIES[column]
    data = table(groups=40, rows=10, seed=3)
    fit = ml(f"{column} ~ x + (1 | id)", data, family=family)
    y, x = (data[n].to_numpy(dtype=float).reshape(40, 10) for n in (column, "x"))

    def minus_log_likelihood(parameters):
        intercept, slope, log_sd = parameters
        u, precision = np.zeros((40, 1)), np.exp(-2 * log_sd)
        for _ in range(50):
            eta = intercept + slope * x + u
            information = variance(eta).sum(axis=1, keepdims=True) + precision
            u += ((y - mean(eta)).sum(axis=1, keepdims=True) - precision * u) / information
        joint = log_density(y, intercept + slope * x + u).sum() - 0.5 * precision * (u**2).sum()
        return -joint + 40 * log_sd + 0.5 * np.log(information).sum()

    at = np.array([*mode(fit, f"{stem}_coef")[0], np.log(mode(fit, f"{stem}_id_sd")[0, 0])])
    best = optimize.minimize(minus_log_likelihood, at + 0.05, options={"gtol": 1e-5})
    np.testing.assert_allclose(at, best.x, atol=1e-4)
    constant = special.gammaln(y + 1).sum() if column == "c" else 0.0
    found = bm.information(fit)["log_likelihood"]
    assert found == pytest.approx(-best.fun - constant, abs=1e-5)


def test_a_weight_counts_as_so_many_rows():
    data = table(groups=12, rows=6).assign(w=np.tile([1, 2, 3], 24))
    repeated = data.loc[np.repeat(data.index, data.w)].reset_index(drop=True)
    spec = moe("y ~ x + (1 | id)", experts=1, weights="w")
    fit = bm.fit(spec, data, "em", random_seed=0, progressbar=False)
    plain = moe("y ~ x + (1 | id)", experts=1)
    other = bm.fit(plain, repeated, "em", random_seed=0, progressbar=False)
    one, two = (bm.information(f) for f in (fit, other))
    assert one["log_likelihood"] == pytest.approx(two["log_likelihood"], abs=1e-6)
    for name in spec.variables:
        np.testing.assert_allclose(mode(fit, name), mode(other, name), atol=1e-6)
        pair = (f.idata["standard_error"][name].values for f in (fit, other))
        np.testing.assert_allclose(*pair, atol=1e-5)


@pytest.fixture(scope="module")
def two():
    """Two experts whose groups differ, in the gate too: description, table, parameters."""
    rng = np.random.default_rng(5)
    code = np.repeat(np.arange(20), 10)
    x, z = rng.normal(size=(2, code.size))
    spec = moe("y ~ x + (1 | id)", "~ z + (1 | id)", 2)
    truth = {
        "gate_coef": [[0.0, -1.0], [0.0, 1.0]],
        "gate_id_sd": [0.5],
        "mu_coef": [[0.0, 1.0], [5.0, -1.0]],
        "mu_id_sd": [[0.5], [1.0]],
        "sigma": [0.5, 0.7],
    }
    rows = pd.DataFrame({"x": x, "z": z, "id": [f"p{g}" for g in code]})
    data = bm.simulate(spec, rows, truth, random_seed=1)
    return spec, data, data.attrs["parameters"]


@pytest.fixture(scope="module")
def two_fit(two):
    settings = {"restarts": 4, "moves": 0, "progressbar": False}
    return bm.fit(two[0], two[1], "em", random_seed=0, **settings)


def test_two_experts_have_their_own_effects(two, two_fit):
    _, _, truth = two
    assert bool(two_fit.idata["fit"]["converged"])
    for k in (0, 1):
        found = mode(two_fit, "mu_id_effect")[k, :, 0]
        assert np.corrcoef(found, np.array(truth["mu_id_effect"])[k, :, 0])[0, 1] > 0.8
    np.testing.assert_allclose(mode(two_fit, "gate_id_effect").sum(axis=0), 0.0, atol=1e-12)
    for name in ("mu_id_sd", "gate_id_sd", "mu_coef", "sigma"):
        error = two_fit.idata["standard_error"][name].values
        assert (np.abs(mode(two_fit, name) - truth[name]) < 4 * error).all()


def test_a_search_on_some_groups_ends_in_the_same_mode(two, two_fit, monkeypatch):
    monkeypatch.setattr("bayes_moe.em.random_effects.SEARCHED", 30)
    settings = {"restarts": 4, "moves": 0, "progressbar": False}
    fit = bm.fit(two[0], two[1], "em", random_seed=0, **settings)
    for name in two[0].variables:
        np.testing.assert_allclose(mode(fit, name), mode(two_fit, name), atol=1e-4)


def test_map_is_the_same_mode(two, two_fit):
    settings = {"restarts": 4, "progressbar": False}
    fit = bm.fit(two[0], two[1], "map", random_seed=0, **settings)
    for name in two[0].variables:
        np.testing.assert_allclose(mode(fit, name), mode(two_fit, name), atol=1e-4)


def test_draws_of_laplace_are_about_the_mode(two):
    spec, data, _ = two
    settings = {"restarts": 4, "progressbar": False, "draws": 400, "chains": 2}
    fit = bm.fit(spec, data, "laplace", random_seed=0, **settings)
    posterior, errors = fit.idata.posterior, fit.idata["standard_error"]
    for name in ("mu_coef", "mu_id_effect", "gate_id_effect"):
        sds = posterior[name].std(("chain", "draw")).values
        np.testing.assert_allclose(sds, errors[name].values, rtol=0.2)


def test_a_summary_has_effects_if_they_are_asked_for(two_fit):
    shown = bm.summary(two_fit)
    assert not shown.index.str.contains("effect").any()
    assert "mu_id_sd[1, Intercept]" in shown.index
    effects = bm.summary(two_fit, "mu_id_effect")
    assert len(effects) == 40
    assert "mu_id_effect[1, p3, Intercept]" in effects.index
    assert (effects["se"] > 0).all()


def test_a_saved_fit_predicts_the_same(two, two_fit, tmp_path):
    _, data, _ = two
    bm.save(two_fit, tmp_path / "fit.nc")
    loaded = bm.load(tmp_path / "fit.nc")
    new = data.iloc[:3].assign(id=["p1", "q", "r"])
    for unseen in ("average", "sample"):
        one, other = (bm.predict(f, new, unseen=unseen).mean().values for f in (two_fit, loaded))
        np.testing.assert_array_equal(one, other)
    with pytest.raises(bm.DataError, match=r"'q', 'r'.*first at row 1.*unseen='average'"):
        bm.predict(loaded, new)


def test_an_average_group_has_no_effects(two, two_fit):
    _, data, _ = two
    new = data.iloc[:1].assign(id="q")
    found = bm.predict(two_fit, new, unseen="average").expert_means().values.ravel()
    coef = mode(two_fit, "mu_coef")
    np.testing.assert_allclose(found, coef[:, 0] + coef[:, 1] * new.x.iloc[0], atol=1e-10)
    weights = bm.predict(two_fit, new, unseen="average").weights().values.ravel()
    gate = mode(two_fit, "gate_coef")
    expected = special.softmax(gate[:, 0] + gate[:, 1] * new.z.iloc[0])
    np.testing.assert_allclose(weights, expected, atol=1e-10)


def test_effects_of_a_new_group_are_drawn_once(two, two_fit):
    _, data, _ = two
    new = data.iloc[[0, 0, 0]].assign(id=["q", "r", "q"])
    found = bm.log_density(two_fit, new, unseen="sample").values.ravel()
    assert found[0] == found[2] != found[1]
    again = bm.log_density(two_fit, new.iloc[1:], unseen="sample").values.ravel()
    np.testing.assert_array_equal(found[1:], again)
    shares = bm.responsibilities(two_fit, new, unseen="sample").values
    np.testing.assert_allclose(shares.sum(axis=-1), 1.0)


REFUSED = [
    ({"priors": {"mu_coef": bm.Prior("Laplace", mu=0.0, b=1.0)}}, "em", "must be normal"),
    ({"priors": {"mu_id_effect": bm.Prior("Normal", mu=0.0, sigma=1.0)}}, "em", "mu_id_sd"),
    ({"family": "laplace"}, "em", "has a kink"),
    ({"shared": ("sigma",)}, "em", "no shared or fixed"),
    ({"predictor": "spline"}, "em", "not linear"),
    ({"family": "binomial", "trials": "x + (1 | id)"}, "em", "group term"),
    ({}, "ensemble", "ensemble"),
]


@pytest.mark.parametrize(("settings", "method", "message"), REFUSED)
def test_what_does_not_go_with_effects_is_refused(two, settings, method, message):
    def fit():
        spec = moe("y ~ x + (1 | id)", **({"gate": "~ z", "experts": 2} | settings))
        bm.fit(spec, two[1], method, progressbar=False)

    with pytest.raises(bm.SpecError, match=message):
        fit()


def test_a_gate_that_models_its_features_has_no_effects(two):
    with pytest.raises(bm.SpecError, match="group term"):
        bm.gates.Gaussian("~ z + (1 | id)")
    spec = moe("y ~ x + (1 | id)", bm.gates.Gaussian("~ z"), 2)
    data = two[1].copy()
    data.loc[3, "z"] = np.nan
    with pytest.raises(bm.DataError, match="random effects of groups"):
        bm.fit(spec, data, "em", missing="model", progressbar=False)


@pytest.mark.slow
def test_standard_deviations_of_two_experts_are_covered():
    spec = moe("y ~ x + (1 | id)", "~ z", 2)
    truth = {
        "gate_coef": [[0.0, -1.0], [0.0, 1.0]],
        "mu_coef": [[0.0, 1.0], [4.0, -1.0]],
        "mu_id_sd": [[0.5], [1.0]],
        "sigma": [0.5, 0.7],
    }
    inside = {"mu_id_sd": [], "sigma": [], "mu_coef": []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, z = rng.normal(size=(2, 300))
        rows = pd.DataFrame({"x": x, "z": z, "id": np.repeat(np.arange(30), 10)})
        data = bm.simulate(spec, rows, truth, random_seed=seed)
        settings = {"restarts": 4, "moves": 0, "progressbar": False}
        fit = bm.fit(spec, data, "em", random_seed=0, **settings)
        table = bm.summary(fit, [*inside], ci_prob=0.9)
        for name, covered in inside.items():
            own = table[table.index.str.startswith(name)]
            value = np.ravel(truth[name])
            covered.extend((own["ci90_lb"] <= value) & (value <= own["ci90_ub"]))
    for name, covered in inside.items():
        assert 0.8 <= np.mean(covered) <= 0.98, name


@pytest.mark.slow
def test_draws_are_those_of_a_model_by_hand():
    import pymc as pm

    data = table(groups=15, rows=8)
    spec = moe("y ~ x + (x | id)", experts=1)
    settings = {"draws": 1000, "chains": 4, "progressbar": False}
    fit = bm.fit(spec, data, "nuts", random_seed=1, **settings)
    priors = spec.resolve_priors(spec.design(data))
    widths = np.array(priors["mu_id_sd"].arguments["sigma"])
    spread, mean, x = data.y.std(ddof=0), data.y.mean(), data.x.to_numpy()
    centred = (x - x.mean()) / x.std()
    with pm.Model():
        coef = pm.Normal("coef", [mean, 0.0], 2.5 * spread)
        sds = pm.HalfNormal("sds", widths)
        corr = 2 * pm.Beta("beta", 2.0, 2.0) - 1
        z = pm.Normal("z", shape=(15, 2))
        sigma = pm.LogNormal("sigma", np.log(spread / 2), 1.0)
        pm.Deterministic("corr", corr)
        u = sds[0] * z[:, 0]
        v = sds[1] * (corr * z[:, 0] + pm.math.sqrt(1 - corr**2) * z[:, 1])
        code = data.id.to_numpy()
        mu = coef[0] + coef[1] * centred + u[code] + v[code] * x
        pm.Normal("y", mu, sigma, observed=data.y.to_numpy())
        own = pm.sample(1000, tune=1000, chains=4, cores=1, random_seed=2, progressbar=False)
    posterior, by_hand = fit.idata.posterior, own.posterior
    slope = by_hand["coef"].values[..., 1] / x.std()
    pairs = [
        (posterior["mu_coef"].values[..., 0, 1], slope),
        (posterior["mu_id_sd"].values[..., 0, 0], by_hand["sds"].values[..., 0]),
        (posterior["mu_id_sd"].values[..., 0, 1], by_hand["sds"].values[..., 1]),
        (posterior["mu_id_corr"].values[..., 0, 0], by_hand["corr"].values),
        (posterior["sigma"].values[..., 0], by_hand["sigma"].values),
    ]
    for one, other in pairs:
        sd = other.std()
        assert one.mean() == pytest.approx(other.mean(), abs=0.15 * sd)
        assert one.std() == pytest.approx(sd, rel=0.15)
