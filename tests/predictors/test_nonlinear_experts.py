"""Experts whose predictors are not linear: limits, oracles, and every method that fits them."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.gates import Softmax, StickBreaking, Tree
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.predictors import HSGP, MLP, Fourier, Spline
from tests.support.graphs import internal_graph

quiet = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")


def smooth(x):
    return np.sin(2 * np.pi * x) + 0.5 * np.cos(5 * np.pi * x)


def one_curve(seed, n=200, sd=0.3):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 1, n))
    return pd.DataFrame({"x": x, "y": smooth(x) + sd * rng.standard_normal(n)})


def two_curves(n=300, seed=0):
    """A wave at the top and a parabola at the bottom, told apart by z."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-2, 2, (2, n))
    top = rng.uniform(size=n) < 1 / (1 + np.exp(-3 * z))
    y = np.where(top, 4 + np.sin(3 * x), -4 + x**2) + 0.3 * rng.standard_normal(n)
    return pd.DataFrame({"x": x, "z": z, "y": y, "top": top})


def error(fit, truth):
    return float(np.sqrt(np.mean((bm.predict(fit).mean().values - truth) ** 2)))


# --- oracles --------------------------------------------------------------------------------------


def test_a_spline_is_as_near_as_a_generalised_additive_model():
    from statsmodels.gam.api import BSplines, GLMGam

    ours, theirs = [], []
    for seed in range(6):
        data = one_curve(seed)
        truth = smooth(data["x"])
        spec = bm.mixture_of_experts("y ~ x", experts=1, predictor=Spline(df=15))
        ours.append(error(bm.fit(spec, data, "em", random_seed=1), truth))
        basis = BSplines(data["x"], df=[15], degree=[3])
        gam = GLMGam.from_formula("y ~ 1", data, smoother=basis)
        gam.fit()
        gam.alpha = gam.select_penweight()[0]
        theirs.append(np.sqrt(np.mean((gam.fit().fittedvalues - truth) ** 2)))
    assert np.mean(ours) <= 1.05 * np.mean(theirs)


@pytest.mark.parametrize("kernel", ["expquad", "matern52"])
def test_hsgp_is_the_gaussian_process_of_its_length_scale(kernel):
    """Predictions equal those of an exact Gaussian process with the same parameters."""
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    data = one_curve(3, n=150)
    spec = bm.mixture_of_experts("y ~ x", experts=1, predictor=HSGP(m=40, kernel=kernel))
    fit = bm.fit(spec, data, "em", random_seed=1)
    values = {n: float(v.values.ravel()[0]) for n, v in fit.idata["posterior"].items()}
    x, y = data["x"].to_numpy(), data["y"].to_numpy()
    sd = y.std()
    scale = values["mu_lengthscale"] * x.std()
    shape = (
        kernels.RBF(scale, "fixed")
        if kernel == "expquad"
        else kernels.Matern(scale, "fixed", nu=2.5)
    )
    level = kernels.ConstantKernel((2.5 * sd) ** 2, "fixed")
    process = GaussianProcessRegressor(
        kernels.ConstantKernel((values["mu_amplitude"] * sd) ** 2, "fixed") * shape + level,
        alpha=values["sigma"] ** 2,
        optimizer=None,
    ).fit(x[:, None], y - y.mean())
    exact = process.predict(x[:, None]) + y.mean()
    np.testing.assert_allclose(bm.predict(fit).mean().values, exact, atol=0.02)


def test_smoothing_is_at_its_marginal_mode():
    """The marginal density of a spline's smoothing, by integrals of normal densities."""
    from scipy import stats
    from scipy.optimize import minimize_scalar

    data = one_curve(1, n=80)
    known = {"sigma": bm.Prior("LogNormal", mu=np.log(0.3), sigma=1e-6)}
    spec = bm.mixture_of_experts("y ~ x", experts=1, predictor=Spline(df=8), priors=known)
    fit = bm.fit(spec, data, "em", random_seed=1)
    y = data["y"].to_numpy()
    (component, _), matrix = spec.structure.blocks[0].components, fit.design.rows.matrices["mu"]
    place, predictor = component.site, component.predictor
    features = predictor.basis(matrix).values

    def loss(log_s):
        own = {"mu_smoothing": np.array([[np.exp(log_s)]])}
        spread = y.std() * predictor.raw_sds(place.bind(matrix, y), own)[place.raw][:, 0]
        cov = (features * spread**2) @ features.T + 0.3**2 * np.eye(len(y))
        prior = stats.gamma(2).logpdf(np.exp(log_s)) + log_s
        return -stats.multivariate_normal(np.full(len(y), y.mean()), cov).logpdf(y) - prior

    best = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    found = float(fit.idata["posterior"]["mu_smoothing"].values.ravel()[0])
    assert found == pytest.approx(best, rel=1e-3)


def test_linear_predictors_of_three_kinds_are_one_model():
    """Linear, a network without hidden layers, and the linear kernel: the same predictions."""
    data = two_curves()
    fixed = {
        "mu_lengthscale": bm.Prior("LogNormal", mu=0.0, sigma=1e-4),
        "mu_amplitude": bm.Prior("LogNormal", mu=np.log(2.5), sigma=1e-4),
    }
    means = []
    for predictor, priors in (("linear", {}), (MLP(()), {}), (HSGP(kernel="linear"), fixed)):
        spec = bm.mixture_of_experts(
            "y ~ x + z", gate="~ z", experts=2, predictor=predictor, priors=priors
        )
        fit = bm.fit(spec, data, "em", random_seed=1)
        means.append(bm.predict(fit).mean().values)
    np.testing.assert_allclose(means[1], means[0], atol=1e-6)
    np.testing.assert_allclose(means[2], means[0], atol=1e-3)


# --- every method ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves():
    """Two experts with a Gaussian process each, by EM."""
    data = two_curves()
    spec = bm.mixture_of_experts("y ~ x", gate="~ z", experts=2, predictor="hsgp")
    return data, bm.fit(spec, data, "em", random_seed=1)


def test_experts_find_curves_of_their_own(curves):
    data, fit = curves
    means = bm.predict(fit).expert_means().values
    x, top = data["x"].to_numpy(), data["top"].to_numpy()
    np.testing.assert_allclose(means[~top, 0], (-4 + x**2)[~top], atol=0.35)
    np.testing.assert_allclose(means[top, 1], (4 + np.sin(3 * x))[top], atol=0.35)
    posterior = fit.idata["posterior"]
    assert posterior["mu_lengthscale"].dims[2:] == ("expert", "mu_column")
    assert posterior["mu_lengthscale"].values[0, 0, 1] < posterior["mu_lengthscale"].values[0, 0, 0]
    assert "mu_lengthscale[0, x]" in bm.summary(fit).index


def test_a_fit_is_saved_and_repeated(curves, tmp_path):
    data, fit = curves
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    assert again.spec == fit.spec
    rows = data.iloc[:20]
    np.testing.assert_array_equal(bm.predict(again, rows).mean(), bm.predict(fit, rows).mean())
    other = bm.refit(fit, two_curves(seed=1), random_seed=1)
    assert bool(other.idata["fit"]["converged"])


def test_the_graph_and_em_have_one_mode(curves):
    data, fit = curves
    posterior = fit.idata["posterior"]
    surface = GraphLogDensity(internal_graph(fit.spec, data))
    x = surface.point({n: posterior[n].values[0, 0] for n in fit.spec.variables})
    value, gradient = surface(x)
    assert value == pytest.approx(float(fit.idata["fit"]["objective"]), rel=1e-9)
    assert np.abs(gradient).max() < 1e-4 * (1 + abs(value))


@quiet
def test_laplace_draws_about_the_smooth_mode(curves):
    data, fit = curves
    draws = bm.fit(fit.spec, data, "laplace", random_seed=1, draws=100, chains=2)
    means = bm.predict(draws).expert_means()
    mode = bm.predict(fit).expert_means()
    assert float(np.abs(means - mode).median()) < 0.1
    assert float(bm.predict(draws, draws.design.columns).sd().min()) > 0


@pytest.mark.slow
@quiet
def test_nuts_samples_length_scales_too():
    data = two_curves(150)
    spec = bm.mixture_of_experts("y ~ x", gate="~ z", experts=2, predictor=HSGP(m=8))
    fit = bm.fit(spec, data, random_seed=1, draws=300, tune=400, chains=2, progressbar=False)
    means = bm.predict(fit).expert_means().values
    x, top = data["x"].to_numpy(), data["top"].to_numpy()
    assert np.abs(means[top, 1] - (4 + np.sin(3 * x))[top]).mean() < 0.2
    assert float(fit.idata["posterior"]["mu_lengthscale"].std(("chain", "draw")).min()) > 0.01


def test_a_scale_may_be_smooth_too():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, 600)
    sd = np.exp(-1 + np.sin(2 * np.pi * x))
    data = {"x": x, "y": x + sd * rng.standard_normal(600)}
    spec = bm.mixture_of_experts("y ~ x", experts=1, sigma="~ x", predictor={"sigma": "spline"})
    fit = bm.fit(spec, data, "em", random_seed=1)
    found = bm.predict(fit).sd().values
    assert np.abs(np.log(found / sd)).mean() < 0.15


def test_seasons_of_counts():
    rng = np.random.default_rng(3)
    month = rng.integers(0, 48, 400)
    rate = np.exp(2 + np.sin(2 * np.pi * month / 12))
    data = {"month": month.astype(float), "y": rng.poisson(rate)}
    spec = bm.mixture_of_experts(
        "y ~ month", experts=1, family="poisson", predictor=Fourier(period=12, order=3)
    )
    fit = bm.fit(spec, data, "em", random_seed=1)
    np.testing.assert_allclose(bm.predict(fit).mean().values, rate, rtol=0.2)
    later = bm.predict(fit, {"month": np.array([3.0, 15.0, 123.0])}).mean().values
    np.testing.assert_allclose(later, later[0], rtol=1e-9)


@quiet
@pytest.mark.parametrize(
    "gate", [Tree(branching=(2, 2), predictor=Spline(df=5)), StickBreaking(predictor=Spline(df=5))]
)
def test_other_gates_have_curves_too(gate):
    data = two_curves(200)
    spec = bm.mixture_of_experts("y ~ x", gate=gate, experts=4)
    fit = bm.fit(spec, data, "em", random_seed=1, restarts=4)
    assert bm.MixtureOfExperts.from_dict(spec.to_dict()) == spec
    weights = bm.predict(fit).weights()
    np.testing.assert_allclose(weights.sum("expert"), 1, atol=1e-12)
    graph = internal_graph(spec, data)
    values = {n: fit.idata["posterior"][n].values[0, 0] for n in spec.variables}
    logp = graph.model.compile_logp(jacobian=False, mode="FAST_COMPILE")
    objective = float(fit.idata["fit"]["objective"])
    assert logp(graph.unconstrained(values)) == pytest.approx(objective, abs=1e-6)


@quiet
def test_kinds_side_by_side():
    """A line and a wave: the experts of a model need not be alike."""
    rng = np.random.default_rng(4)
    x = rng.uniform(-3, 3, 400)
    y = np.where(x < 0, 1 + x, 4 + np.sin(4 * x)) + 0.2 * rng.standard_normal(400)
    experts = [bm.Expert("y ~ x", name="line"), bm.Expert("y ~ x", name="wave", predictor="hsgp")]
    spec = bm.MixtureOfExperts(Softmax("~ x"), experts)
    fit = bm.fit(spec, {"x": x, "y": y}, "em", random_seed=1)
    assert spec.expert_labels == ["line", "wave"]
    weights = bm.predict(fit, {"x": np.array([-2.0, 2.0])}).weights()
    assert float(weights.sel(expert="line")[0]) > 0.9
    assert float(weights.sel(expert="wave")[1]) > 0.9
    assert "wave_mu_amplitude[wave, expquad]" in bm.summary(fit).index


# --- descriptions ---------------------------------------------------------------------------------


def test_predictors_of_an_expert_are_its_kind():
    plain, curved = bm.Expert("y ~ x"), bm.Expert("y ~ x", predictor="spline")
    assert bm.Expert("y ~ x", predictor="linear") == plain
    assert curved != plain
    assert curved.kind == bm.Expert("y ~ x", name="a", predictor={"mu": Spline()}).kind
    assert curved.linear == plain
    spec = bm.MixtureOfExperts(Softmax("~ x"), [plain, curved, plain])
    assert [len(b.positions) for b in spec.structure.blocks] == [2, 1]
    assert bm.MixtureOfExperts.from_dict(spec.to_dict()) == spec
    assert "Spline" in repr(spec)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"predictor": "splin"}, "Did you mean 'spline'"),
        ({"predictor": {"sigma": "spline"}}, "give sigma='~ x'"),
        ({"predictor": {"mean": "spline"}}, "parameter with a formula"),
        ({"predictor": 3}, "must be a Predictor"),
    ],
)
def test_predictors_that_cannot_be(given, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.Expert("y ~ x", **given)


def test_predictors_of_one_trunk_are_alike():
    net = MLP((4,), trunk="trunk")
    experts = [bm.Expert("y ~ x", predictor=net)] * 2
    with pytest.raises(bm.SpecError, match="same formula and predictor"):
        bm.MixtureOfExperts(Softmax("~ z", predictor=net), experts)
    with pytest.raises(bm.SpecError, match="same formula and predictor"):
        bm.MixtureOfExperts(Softmax("~ x", predictor=MLP((5,), trunk="trunk")), experts)
