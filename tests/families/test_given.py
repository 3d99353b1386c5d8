"""Given log densities: experts that are columns of the table, and what these do not allow."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families.given import Given


@pytest.fixture(scope="module")
def forecasts():
    """Log densities of three forecasts of a response whose law changes with a feature."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=150)
    y = np.where(rng.random(150) < special.expit(z), rng.normal(0, 1, 150), rng.normal(2, 1, 150))
    y[::6] = rng.normal(1, 4, 25)
    named = {"left": stats.norm(0, 1), "right": stats.norm(2, 0.7), "wide": stats.norm(1, 3)}
    return pd.DataFrame({"y": y, "z": z} | {k: law.logpdf(y) for k, law in named.items()})


def stacked(gate="~ 1", discrete=False, **columns):
    named = columns or {"left": "left", "right": "right", "wide": "wide"}
    experts = [
        bm.Expert("y", Given(discrete), name=name, log_density=column)
        for name, column in named.items()
    ]
    return bm.MixtureOfExperts(bm.gates.Softmax(gate), experts)


@pytest.fixture(scope="module")
def fit(forecasts):
    return bm.fit(stacked("~ z"), forecasts, "em", objective="likelihood", random_seed=1)


def test_weights_have_the_optimum_of_scipy_on_the_simplex(forecasts):
    two = stacked(left="left", right="right")
    found = bm.fit(two, forecasts, "em", objective="likelihood", random_seed=1)
    density = np.exp(forecasts[["left", "right"]].to_numpy())
    best = optimize.minimize_scalar(
        lambda w: -np.log(density @ [w, 1 - w]).sum(),
        bounds=(0, 1),
        method="bounded",
        options={"xatol": 1e-10},
    )
    weights = bm.predict(found, forecasts.head(1)).weights().values[0]
    np.testing.assert_allclose(weights, [best.x, 1 - best.x], atol=1e-7)
    assert bm.information(found)["log_likelihood"] == pytest.approx(-best.fun, abs=1e-9)


def test_a_gate_of_features_has_the_optimum_of_scipy(fit, forecasts):
    features = np.column_stack([np.ones(150), forecasts.z])
    logs = forecasts[["left", "right", "wide"]].to_numpy()

    def terms(theta):
        return logs + special.log_softmax(features @ np.append(theta, [0, 0]).reshape(3, 2).T, 1)

    def loss(theta):
        return -special.logsumexp(terms(theta), axis=1).sum()

    best = optimize.minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    assert bm.information(fit)["log_likelihood"] == pytest.approx(-best.fun, abs=1e-6)
    own = special.logsumexp(terms(best.x), axis=1)
    np.testing.assert_allclose(bm.log_density(fit, forecasts).values.ravel(), own, atol=1e-4)
    shares = np.exp(terms(best.x) - own[:, None])
    np.testing.assert_allclose(bm.responsibilities(fit, forecasts).values[0, 0], shares, atol=1e-4)


def test_new_rows_need_the_columns(fit, forecasts):
    other = pd.DataFrame({"y": [0.0], "z": [0.0], "left": [-1.0], "right": [-2.0], "wide": [-3.0]})
    weights = bm.predict(fit, other).weights().values[0]
    expected = np.log(weights @ np.exp([-1.0, -2.0, -3.0]))
    assert float(bm.log_density(fit, other).item()) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(bm.DataError, match="wide"):
        bm.predict(fit, other.drop(columns="wide"))


QUANTITIES = {
    "mean": lambda p: p.mean(),
    "sd": lambda p: p.sd(),
    "pdf": lambda p: p.pdf(0.0),
    "cdf": lambda p: p.cdf(0.0),
    "quantile": lambda p: p.quantile(0.5),
    "interval": lambda p: p.interval(0.9),
    "modes": lambda p: p.modes(),
    "hdr": lambda p: p.hdr(),
    "sample": lambda p: p.sample(random_seed=1),
    "expert_means": lambda p: p.expert_means(),
    "expert_locations": lambda p: p.expert_locations(),
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_what_needs_the_whole_distribution_is_refused(fit, name):
    with pytest.raises(bm.SpecError, match="only the log density of each row's own response"):
        QUANTITIES[name](bm.predict(fit))


def test_other_functions_refuse_or_work(fit, forecasts):
    for ask in (
        lambda: bm.simulate(fit.spec, forecasts, {"gate_coef": np.zeros((3, 2))}, random_seed=1),
        lambda: bm.pit(fit, random_seed=1),
        lambda: bm.residuals(fit, random_seed=1),
        lambda: bm.plot_predictive(fit),
    ):
        with pytest.raises(bm.SpecError, match="only the log density"):
            ask()
    assert "weight of wide" in bm.predict(fit)._repr_html_()


def test_fits_by_other_columns_can_be_compared(fit, forecasts):
    other = stacked("~ z", first="left", second="right")
    two = bm.fit(other, forecasts, "em", objective="likelihood", random_seed=1)
    table = bm.compare({"three": fit, "two": two})
    assert set(table.index) == {"three", "two"}


def test_it_is_saved(fit, forecasts, tmp_path):
    bm.save(fit, tmp_path / "fit.nc")
    loaded = bm.load(tmp_path / "fit.nc")
    assert loaded.spec == fit.spec
    np.testing.assert_array_equal(bm.log_density(loaded, forecasts), bm.log_density(fit, forecasts))


def test_experts_of_other_families_may_be_beside_it(forecasts):
    spec = bm.MixtureOfExperts(
        bm.gates.Softmax("~ 1"),
        [bm.Expert("y", "given", name="left", log_density="left"), bm.Expert("y ~ z", name="line")],
    )
    found = bm.fit(spec, forecasts, "em", random_seed=1)
    assert np.isfinite(bm.information(found)["log_likelihood"])
    count = bm.Expert("y ~ z", "poisson")
    with pytest.raises(bm.SpecError, match="all discrete or all continuous"):
        bm.MixtureOfExperts(bm.gates.Softmax("~ 1"), [stacked().experts[0], count])
    bm.MixtureOfExperts(bm.gates.Softmax("~ 1"), [stacked(discrete=True).experts[0], count])


@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")  # the flat one has no row
def test_a_number_is_a_density_of_every_row(forecasts):
    spec = stacked(left="left", flat=-3.0)
    found = bm.fit(spec, forecasts, "em", random_seed=1)
    weights = bm.predict(found, forecasts.head(1)).weights().values[0]
    expected = np.log(np.exp(forecasts["left"]) * weights[0] + np.exp(-3.0) * weights[1])
    np.testing.assert_allclose(bm.log_density(found, forecasts).values.ravel(), expected)


def test_bad_columns_are_refused(forecasts):
    with pytest.raises(bm.SpecError, match="needs the log_density of each row"):
        bm.Expert("y", "given")
    for wrong in ([1.0], np.inf, True):
        with pytest.raises(bm.SpecError, match="`log_density` must be a column"):
            bm.Expert("y", "given", log_density=wrong)
    with pytest.raises(bm.SpecError, match="no parameters, so features have no use"):
        bm.Expert("y ~ z", "given", log_density="left")
    for value in (np.nan, np.inf, -np.inf):
        table = forecasts.assign(left=forecasts["left"].where(forecasts.index != 7, value))
        with pytest.raises(bm.DataError, match="left"):
            stacked().design(table)
    with pytest.raises(bm.DataError, match="`log_density` needs numbers"):
        stacked().design(forecasts.assign(left="a"))
    with pytest.raises(bm.SpecError, match="`discrete` must be True or False"):
        Given("yes")


def test_a_gate_may_model_its_features(forecasts):
    experts = [bm.Expert("y", "given", name=n, log_density=n) for n in ("left", "right")]
    fit = bm.fit(
        bm.MixtureOfExperts(bm.gates.Gaussian("~ z"), experts),
        forecasts,
        "em",
        random_seed=1,
        restarts=2,
    )
    assert np.isfinite(bm.predict(fit, forecasts).weights()).all()


def test_its_description_and_score():
    assert families.by_name("given") == Given()
    assert families.made(Given(True).to_dict()) == Given(discrete=True)
    params = {"given": np.zeros((2, 1)), "log_density": np.array([-1.0, -2.0, -3.0])}
    found = Given().derivatives(np.zeros(3), params)
    assert not np.any(found.score)
    expected = np.tile(params["log_density"], (2, 1))
    np.testing.assert_array_equal(Given().log_density(np.zeros(3), params, NUMERIC), expected)


def test_its_random_variable_in_a_graph_raises_when_drawn():
    params = {"given": np.zeros((2, 1)), "log_density": np.array([[-1.0, -2.0]])}
    with pytest.raises(bm.SpecError, match="there are no draws"):
        Given().dist(params).eval(mode="FAST_COMPILE")


def test_one_expert_alone_leaves_nothing_to_fit():
    with pytest.raises(bm.SpecError, match="nothing to fit"):
        stacked(left="left")
