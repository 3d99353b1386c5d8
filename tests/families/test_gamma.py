"""The gamma family: large shapes, units, refused responses, and fits by every method."""

from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.errors import DataError

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
BERNOULLI = [(1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510)]
BERNOULLI += [(43867, 798), (-174611, 330), (854513, 138), (-236364091, 2730), (8553103, 6)]

GAMMA = families.by_name("gamma")
unconverged = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, 120)
    mean = np.where(x > 0, np.exp(2 + x), np.exp(-0.5 - x))
    return pd.DataFrame({"x": x, "y": mean * rng.gamma(12.0, size=120) / 12.0})


@pytest.fixture(scope="module")
def engel():
    return sm.datasets.engel.load_pandas().data


def log_gamma(a):
    """Log of the gamma function with 50 digits, by Stirling's series far out."""
    far = a + 200
    value = (far - Decimal("0.5")) * far.ln() - far + (2 * PI).ln() / 2
    for k, (top, bottom) in enumerate(BERNOULLI, 1):
        value += Decimal(top) / bottom / (2 * k * (2 * k - 1)) / far ** (2 * k - 1)
    return value - sum((a + j).ln() for j in range(200))


def exact(ratio, t):
    """Log density at ``eta = 0`` of ``y = exp(ratio)`` and ``alpha = exp(t)``."""
    a = t.exp()
    return a * t - log_gamma(a) + (a - 1) * ratio - a * ratio.exp()


@pytest.mark.parametrize("ratio", [0.0, 1e-6, -1e-3, 0.09, 0.11, -0.5, 2.0])
@pytest.mark.parametrize("log_alpha", [-20.0, -2.0, 3.4, 3.41, 8.0, 14.0, 30.0])
def test_density_and_derivatives_keep_their_digits(log_alpha, ratio):
    y = np.exp([ratio])
    params = {"mu": np.zeros(1), "alpha": np.exp([log_alpha])}
    with localcontext(prec=60):
        # What the family takes is rounded: the oracle starts from that.
        q, t, h = (
            Decimal(float(y[0])).ln(),
            Decimal(float(params["alpha"][0])).ln(),
            Decimal(10) ** -9,
        )
        low, middle, high = exact(q, t - h), exact(q, t), exact(q, t + h)
        slope, bend = float((high - low) / (2 * h)), float((high - 2 * middle + low) / (h * h))
        value, location = float(middle), float(t.exp() * (q.exp() - 1))
    at = GAMMA.derivatives(y, params)
    # The rounding of log y moves the log ratio, and the shape multiplies what that changes.
    loss = {"abs": 1e-12 + 2e-16 * abs(location) + 1e-15 * abs(value), "rel": 1e-12}
    assert GAMMA.log_density(y, params, NUMERIC)[0] == pytest.approx(value, **loss)
    assert at.score[0][0] == pytest.approx(location, rel=1e-12, abs=3e-16 * params["alpha"][0])
    assert at.score[1][0] == pytest.approx(slope, **loss)
    assert at.second[1][1][0] == pytest.approx(bend, **loss)
    # The response's part of both is the same, and its mean cancels in the score.
    assert at.expected_information[1][0] == pytest.approx(slope - bend, **loss)


@pytest.mark.parametrize("bad", [0.0, -2.5])
def test_a_response_that_is_not_positive_is_refused(table, bad):
    spec = bm.mixture_of_experts("y ~ x", family="gamma")
    y = table["y"].copy()
    y[[17, 40]] = bad
    with pytest.raises(DataError, match=rf"'y' is {bad:g} at row 17; .*positive.* \(2 row\(s\)"):
        bm.fit(spec, table.assign(y=y), "em")


@pytest.mark.parametrize("unit", [1e-6, 1000.0])
def test_only_the_intercept_depends_on_the_unit(table, unit):
    spec = bm.mixture_of_experts("y ~ x", gate="~ x", experts=2, family="gamma")
    of = {"method": "em", "random_seed": 1, "progressbar": False}
    one = bm.fit(spec, table, **of).idata["posterior"]
    other = bm.fit(spec, table.assign(y=unit * table["y"]), **of).idata["posterior"]
    moved = one["mu_coef"].values + np.log(unit) * np.array([1.0, 0.0])
    np.testing.assert_allclose(other["mu_coef"].values, moved, rtol=1e-5, atol=1e-6)
    for name in ("alpha", "gate_coef"):
        np.testing.assert_allclose(other[name].values, one[name].values, rtol=1e-4, atol=1e-5)


def test_one_expert_is_a_glm(engel):
    spec = bm.mixture_of_experts("foodexp ~ income", experts=1, family="gamma")
    fit = bm.fit(spec, engel, "em", objective="likelihood")
    family = sm.families.Gamma(sm.families.links.Log())
    glm = sm.GLM(engel["foodexp"], sm.add_constant(engel["income"]), family=family).fit(tol=1e-12)
    found = fit.idata["posterior"]["mu_coef"].values.reshape(-1)
    np.testing.assert_allclose(found, glm.params, rtol=1e-5)


def test_rows_that_are_fitted_exactly_leave_the_shape_finite(table):
    """The prior of the shape is proper enough: the likelihood alone grows without bound."""
    x = table["x"]
    y = np.where(x > 0.4, np.exp(1 + x), table["y"])
    spec = bm.mixture_of_experts("y ~ x", gate="~ x", experts=3, family="gamma")
    fit = bm.fit(spec, table.assign(y=y), "em", random_seed=1, progressbar=False)
    assert np.isfinite(fit.idata["posterior"]["alpha"].values).all()


@unconverged
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("em", {}),
        ("map", {"restarts": 2}),
        ("laplace", {"draws": 50}),
        # On the graph, which takes long to compile; a gate stands for it in the quick tests.
        pytest.param("nuts", {"draws": 50, "tune": 100, "chains": 1}, marks=pytest.mark.slow),
    ],
)
def test_every_method_fits_predicts_and_saves(table, tmp_path, method, settings):
    spec = bm.mixture_of_experts("y ~ x", gate="~ x", experts=2, family="gamma", alpha="~ x")
    fit = bm.fit(spec, table, method, random_seed=1, progressbar=False, **settings)
    predicted = bm.predict(fit, table.head(9))
    mean, low, high = predicted.mean(), predicted.quantile(0.05), predicted.quantile(0.95)
    assert (mean.values > 0).all()
    assert (low.values > 0).all()
    assert (low.values < high.values).all()
    assert (predicted.sd().values > 0).all()
    assert np.isfinite(predicted.pdf(table["y"].head(9)).values).all()
    assert (predicted.sample(random_seed=1).values > 0).all()
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    np.testing.assert_array_equal(bm.predict(again, table.head(9)).mean(), mean)
