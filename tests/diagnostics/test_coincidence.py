"""Experts that predict the same are named by every method's verdict, distinct ones are not."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import bayes_moe as bm
from bayes_moe.diagnostics.coincidence import coincidence, distances
from tests.support.fits import fake_fit

N = 300
MORE = {"normal": {"sigma": 0.5}, "studentt": {"sigma": 0.5, "nu": 6.0}, "gamma": {"alpha": 5.0}}
TRIALS = 8
STEPS = {"duplicate": 0.0, "near": 0.02, "overlapping": 0.8}
"""Difference of two experts' locations on the scale of the predictor."""


def experts(family, step, seed=0):
    """A model of three experts, of which the first two differ by ``step``, and its parameters."""
    options = {"trials": "n"} if family == "binomial" else {}
    spec = bm.mixture_of_experts("y ~ x", experts=3, family=family, gate="~ x", **options)
    parameters = {
        "gate_coef": [[0.4, -1.0], [-0.4, -1.0], [0.0, 2.0]],
        "mu_coef": [[0.5, 0.3], [0.5 + step, 0.3], [3.0, -0.5]],
        **{name: np.full(3, value) for name, value in MORE.get(family, {}).items()},
    }
    if "mu_coef" not in spec.variables:
        location = next(v for v in spec.variables if v.endswith("_coef") and v != "gate_coef")
        parameters[location] = parameters.pop("mu_coef")
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"x": rng.uniform(-1, 1, N), "n": TRIALS})
    return spec, bm.simulate(spec, table, parameters, random_seed=seed), parameters


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "family", ["normal", "studentt", "poisson", "bernoulli", "binomial", "gamma"]
)
def test_coinciding_experts_are_named_for_every_family(family, step):
    spec, table, parameters = experts(family, STEPS[step])
    fit = fake_fit(spec, table, parameters, spread=1e-3)
    diagnosis = bm.diagnose(fit)
    named = [p for p in diagnosis.problems if "coincide" in p]
    shares = diagnosis.usage["mean"].to_numpy()
    if step == "overlapping":
        assert not named
        pooled = shares
    else:
        (message,) = named
        assert message.startswith("Experts 0 and 1 coincide: they ")
        assert "Use 2 experts instead of 3." in message
        pooled = np.array([shares[:2].sum(), shares[2]])
    expected = np.exp(stats.entropy(pooled))
    assert float(bm.effective_experts(fit).mean()) == pytest.approx(expected, rel=1e-3)
    assert float(diagnosis.table.loc["effective experts", "value"]) == pytest.approx(
        expected, abs=0.01
    )


@pytest.mark.parametrize("shift", [0.3, 1.0, 2.5])
def test_the_distance_is_the_jeffreys_divergence(shift):
    """Estimate at the rows' responses against quadrature by SciPy."""
    spec = bm.mixture_of_experts("y ~ 1", experts=2, gate="~ 1")
    parameters = {
        "gate_coef": [[0.0], [0.0]],
        "mu_coef": [[0.0], [shift]],
        "sigma": [1.0, 1.3],
    }
    table = bm.simulate(spec, pd.DataFrame({"x": np.zeros(40_000)}), parameters, random_seed=3)
    fit = fake_fit(spec, table, parameters, chains=1, draws=1, spread=0.0)
    f, g = stats.norm(0, 1), stats.norm(shift, 1.3)
    expected, _ = integrate.quad(
        lambda y: (f.pdf(y) - g.pdf(y)) * (f.logpdf(y) - g.logpdf(y)), -12, 15
    )
    divergence, evidence = distances(fit.idata, fit.spec, fit.design)
    assert divergence[0, 1] == pytest.approx(expected, rel=0.06)
    assert evidence[0, 1] == pytest.approx(40_000 * divergence[0, 1], rel=1e-9)
    assert np.isinf(np.diag(divergence)).all()


def test_many_rows_tell_near_experts_apart():
    """Rare events with shares of 2 and 3 % differ little a row, and clearly over 60,000 rows."""
    spec = bm.mixture_of_experts("y ~ 1", experts=2, family="bernoulli", gate="~ x")
    odds = [[np.log(0.02 / 0.98)], [np.log(0.03 / 0.97)]]
    parameters = {"gate_coef": [[0.0, -40.0], [0.0, 40.0]], "p_coef": odds}
    for n, same in ((600, True), (60_000, False)):
        x = np.linspace(-1, 1, n)
        table = bm.simulate(spec, pd.DataFrame({"x": x}), parameters, random_seed=0)
        fit = fake_fit(spec, table, parameters, chains=1, draws=1, spread=0.0)
        assert bool(coincidence(fit.idata, fit.spec, fit.design).groups) is same


def test_groups_are_transitive_and_all_experts_may_be_one():
    spec = bm.mixture_of_experts("y ~ 1", experts=3, family="bernoulli", gate="~ 1")
    y = np.random.default_rng(0).random(400) < 0.4
    with pytest.warns(bm.ConvergenceWarning, match="Experts 0, 1 and 2 coincide"):
        fit = bm.fit(spec, {"y": y.astype(int)}, method="em", random_seed=1)
    diagnosis = bm.diagnose(fit)
    assert "Fit the model with experts=1." in diagnosis.verdict
    assert diagnosis.table.loc["effective experts", "value"] == "1.00"


SETTINGS = {
    "em": {},
    "map": {"restarts": 4},
    "laplace": {"draws": 100},
    "advi": {"draws": 100, "iterations": 1000},
    "nuts": {"draws": 60, "tune": 60, "chains": 2},
}


SLOW = {"advi", "nuts"}
"""Methods that compile the model: their verdicts are read by the same function."""


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.slow] * (m in SLOW)) for m in SETTINGS]
)
@pytest.mark.parametrize("same", [True, False], ids=["one line", "two lines"])
def test_every_method_names_coinciding_experts(method, same):
    """Two binomial experts whose rows the gate separates; tight priors hold equal ones together."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, 200)
    share = np.where(x > 0, 0.3 if same else 0.8, 0.3)
    table = pd.DataFrame({"x": x, "n": 20, "y": rng.binomial(20, share)})
    priors = {"p_coef": bm.Prior("Normal", mu=np.log(3 / 7), sigma=0.01)} if same else {}
    spec = bm.mixture_of_experts(
        "y ~ 1", experts=2, family="binomial", trials="n", gate="~ x", priors=priors
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        fit = bm.fit(
            spec, table, method=method, random_seed=1, progressbar=False, **SETTINGS[method]
        )
    problems = [p for p in bm.diagnose(fit).problems if "coincide" in p]
    assert len(problems) == same
    if same:
        assert problems[0].startswith("Experts 0 and 1 coincide")
        assert problems[0].endswith("Fit the model with experts=1.")
