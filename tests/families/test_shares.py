"""Beta regression against statsmodels, and refused responses."""

import numpy as np
import pandas as pd
import pytest
from scipy import special
from statsmodels.othermod.betareg import BetaModel

import bayes_moe as bm
from bayes_moe.core.errors import DataError


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, 200)
    mean = special.expit(0.5 - 0.8 * x)
    return pd.DataFrame({"x": x, "y": rng.beta(12 * mean, 12 * (1 - mean))})


def test_one_expert_is_statsmodels_beta_regression(table):
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="beta")
    fit = bm.fit(spec, table, "em", objective="likelihood")
    features = np.column_stack([np.ones(len(table)), table["x"]])
    other = BetaModel(table["y"].to_numpy(), features).fit(disp=0, gtol=1e-10, maxiter=500)
    posterior = fit.idata["posterior"]
    np.testing.assert_allclose(posterior["mu_coef"].values.ravel(), other.params[:2], atol=1e-5)
    np.testing.assert_allclose(np.log(posterior["nu"].values.item()), other.params[2], atol=1e-5)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.2, 1.5])
def test_a_response_that_is_no_share_is_refused(table, bad):
    spec = bm.mixture_of_experts("y ~ x", family="beta")
    y = table["y"].copy()
    y[[17, 40]] = bad
    with pytest.raises(DataError, match=rf"'y' is {bad:g} at row 17; family 'beta' .*\(2 row"):
        bm.fit(spec, table.assign(y=y), "em")
