"""Modes of growth mixtures, against direct maximisation and other software."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

import bayes_moe as bm
from tests.support.growth import TIMES, growth_table

moe = bm.mixture_of_experts
QUIET = {"random_seed": 1, "progressbar": False}


@pytest.fixture(scope="module")
def table():
    return growth_table(60)


@pytest.fixture(scope="module")
def fit(table):
    spec = moe("y ~ t + (t | id)", "~ 1", 2, group="id")
    return bm.fit(spec, table, "em", objective="likelihood", **QUIET)


def mode(fit, name):
    return fit.idata.posterior[name].values[0, 0]


def coordinates(fit):
    """The reported values, free: log odds, then coefficients, scales and a spread an expert."""
    coef, sds, corr, sigma = (mode(fit, n) for n in ("mu_coef", "mu_id_sd", "mu_id_corr", "sigma"))
    own = np.column_stack([coef, np.log(sds), np.arctanh(corr), np.log(sigma)])
    gate = mode(fit, "gate_coef")[:, 0]
    return np.array([gate[1] - gate[0], *own[0], *own[1]])


def minus_log_likelihood(table):
    """Function of such coordinates, from the multivariate normal density of a group."""
    y = table.sort_values(["id", "t"]).y.to_numpy().reshape(-1, len(TIMES))
    x = np.column_stack([np.ones(len(TIMES)), TIMES])

    def value(at):
        joint = special.log_softmax([0.0, at[0]])[:, None] + np.zeros((2, len(y)))
        for k, own in enumerate(at[1:].reshape(2, 6)):
            sd, corr = np.exp(own[2:4]), np.tanh(own[4])
            effects = np.outer(sd, sd) * [[1.0, corr], [corr, 1.0]]
            covariance = x @ effects @ x.T + np.exp(2 * own[5]) * np.eye(len(x))
            lower = np.linalg.cholesky(2 * np.pi * covariance)
            z = np.linalg.solve(lower, (y - x @ own[:2]).T)
            joint[k] -= np.pi * (z**2).sum(axis=0) + np.log(np.diag(lower)).sum()
        return -special.logsumexp(joint, axis=0).sum()

    return value


def test_the_maximum_is_that_of_direct_maximisation(table, fit):
    value, at = minus_log_likelihood(table), coordinates(fit)
    assert bm.information(fit)["log_likelihood"] == pytest.approx(-value(at), rel=1e-12)
    best = optimize.minimize(value, at + 0.05, options={"gtol": 1e-6})
    assert best.fun == pytest.approx(value(at), abs=1e-7)
    np.testing.assert_allclose(at, best.x, atol=1e-4)
    assert bool(fit.idata["fit"]["converged"])
    assert bm.information(fit)["n_parameters"] == 13
    assert bm.information(fit)["n_obs"] == 60


def test_standard_errors_are_those_of_differences(table, fit):
    value, at, step = minus_log_likelihood(table), coordinates(fit), 1e-3
    axes = step * np.eye(len(at))
    hessian = [
        [
            (value(at + a + b) - value(at + a - b) - value(at - a + b) + value(at - a - b))
            for b in axes
        ]
        for a in axes
    ]
    errors = np.sqrt(np.diag(np.linalg.inv(np.array(hessian) / (4 * step**2))))
    found = {n: v.values for n, v in fit.idata["standard_error"].items()}
    assert 2 * found["gate_coef"][1, 0] == pytest.approx(errors[0], rel=1e-4)
    for k, own in enumerate(errors[1:].reshape(2, 6)):
        np.testing.assert_allclose(found["mu_coef"][k], own[:2], rtol=1e-4)
        np.testing.assert_allclose(
            found["mu_id_sd"][k] / mode(fit, "mu_id_sd")[k], own[2:4], rtol=1e-4
        )
        corr = found["mu_id_corr"][k] / (1 - mode(fit, "mu_id_corr")[k] ** 2)
        np.testing.assert_allclose(corr, own[4:5], rtol=1e-4)
        assert found["sigma"][k] / mode(fit, "sigma")[k] == pytest.approx(own[5], rel=1e-4)


def test_groups_are_told_apart(table, fit):
    shares = bm.responsibilities(fit)
    names = shares.group_id.values
    fast = table.groupby("id").fast.first()[names].to_numpy()
    found = shares.values[0, 0, :, 1] > 0.5
    assert max(np.mean(found == fast), np.mean(found != fast)) > 0.95
    own = shares.values[0, 0].mean(axis=0)
    np.testing.assert_allclose(bm.usage(fit).values[0, 0], own, atol=1e-10)


def test_one_expert_is_a_linear_mixed_model(table):
    mixedlm = pytest.importorskip("statsmodels.formula.api").mixedlm
    spec = moe("y ~ t + (t | id)", experts=1, group="id")
    one = bm.fit(spec, table, "em", objective="likelihood", **QUIET)
    other = mixedlm("y ~ t", table, groups=table.id, re_formula="~ t").fit(reml=False, gtol=1e-9)
    assert bm.information(one)["log_likelihood"] == pytest.approx(other.llf, abs=1e-6)
    np.testing.assert_allclose(mode(one, "mu_coef")[0], other.fe_params, atol=1e-4)
    sds = np.sqrt(np.diag(other.cov_re))
    np.testing.assert_allclose(mode(one, "mu_id_sd")[0], sds, rtol=1e-3)
    errors = one.idata["standard_error"]["mu_coef"].values[0]
    np.testing.assert_allclose(errors, other.bse_fe, rtol=1e-3)


def test_map_and_a_given_start_end_in_the_same_mode(table):
    spec = moe("y ~ t + (1 | id)", "~ a", 2, group="id")
    fit = bm.fit(spec, table, "em", restarts=4, **QUIET)
    others = [bm.fit(spec, table, "map", restarts=4, **QUIET)]
    others.append(bm.fit(spec, table, "em", start=bm.responsibilities(fit), **QUIET))
    others.append(bm.fit(spec, table.sort_values(["id", "t"]), "em", restarts=4, **QUIET))
    for other in others:
        for name in ("mu_coef", "mu_id_sd", "gate_coef", "sigma"):
            np.testing.assert_allclose(mode(other, name), mode(fit, name), atol=1e-4)


def test_a_group_of_weight_two_counts_twice(table):
    table = table[table.id < "p25"].assign(w=lambda d: np.where(d.id < "p10", 2.0, 1.0))
    more = table[table.w == 2].assign(id=lambda d: "q" + d.id)
    repeated = pd.concat([table, more], ignore_index=True)
    spec = moe("y ~ t + (1 | id)", "~ a", 2, group="id", weights="w")
    plain = moe("y ~ t + (1 | id)", "~ a", 2, group="id")
    settings = QUIET | {"objective": "likelihood", "restarts": 4}
    one, other = bm.fit(spec, table, "em", **settings), bm.fit(plain, repeated, "em", **settings)
    values = [bm.information(f)["log_likelihood"] for f in (one, other)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    for name in ("mu_coef", "mu_id_sd", "gate_coef", "sigma"):
        np.testing.assert_allclose(mode(one, name), mode(other, name), atol=1e-4)
        errors = [f.idata["standard_error"][name].values for f in (one, other)]
        np.testing.assert_allclose(*errors, rtol=1e-3)


REFUSED = [
    ({"gate": "~ a + (1 | id)"}, "em", "nothing tells their effects"),
    ({"formula": "y ~ t + (1 | visit)"}, "em", "not within the groups"),
    ({"gate": "~ 1 + (1 | school)"}, "map", "not within the groups"),
    ({"formula": "y ~ t + (1 | visit)"}, "laplace", "not within the groups"),
]


@pytest.mark.parametrize(("settings", "method", "message"), REFUSED)
def test_effects_of_other_groups_are_refused(table, settings, method, message):
    given = {"formula": "y ~ t + (1 | id)", "gate": "~ 1", "experts": 2, "group": "id"} | settings

    def fit():
        schools = table.assign(school=table.id.str[2])
        bm.fit(moe(**given), schools, method, progressbar=False)

    with pytest.raises(bm.SpecError, match=message):
        fit()
