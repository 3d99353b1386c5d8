"""ADVI and Pathfinder: near the posterior where it is near normal, and saying where it is not."""

import arviz_stats as azs
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.inference import advi
from bayes_moe.inference.advi_families import FullRank, MeanField
from bayes_moe.inference.importance import pareto_k, smoothed
from bayes_moe.inference.normal_approximation import Normal, Reader

SPEC = bm.mixture_of_experts("y ~ x", gate="~ 1", experts=2)
QUIET = {"random_seed": 1, "progressbar": False}
some_steps = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")


def lines(size, seed=2):
    """Two lines far apart."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size)
    y = np.where(rng.random(size) < 0.4, 1 + x, 9 - x) + rng.normal(0, 0.5, size)
    return pd.DataFrame({"x": x, "y": y})


@pytest.fixture(scope="module")
def table():
    return lines(600)


@pytest.fixture(scope="module")
def exact(table):
    """Laplace's method is exact here but for a tenth of a standard deviation."""
    return bm.fit(SPEC, table, method="laplace", draws=4000, **QUIET)


@pytest.fixture(scope="module")
def mean_field(table):
    return bm.fit(SPEC, table, method="advi", **QUIET)


@pytest.fixture(scope="module")
def pathfinder(table):
    return bm.fit(SPEC, table, method="pathfinder", paths=3, **QUIET)


def distance(fit, other):
    """Largest distance of means in standard deviations, and the range of ratios of deviations."""
    errors, ratios = [], []
    for name in fit.spec.variables:
        one, two = (f.idata["posterior"][name] for f in (fit, other))
        sd = two.std(("chain", "draw")).values
        away = one.mean(("chain", "draw")).values - two.mean(("chain", "draw")).values
        errors.append(np.abs(away / sd).ravel())
        ratios.append((one.std(("chain", "draw")).values / sd).ravel())
    ratios = np.concatenate(ratios)
    return np.concatenate(errors).max(), ratios.min(), ratios.max()


def test_mean_field_has_the_means_and_too_small_deviations(mean_field, exact):
    error, low, high = distance(mean_field, exact)
    assert error < 0.2
    assert low > 0.75
    assert high < 1.05
    assert bm.diagnose(mean_field).ok


def test_full_rank_has_the_deviations_too(table, exact):
    fit = bm.fit(SPEC, table, method="advi", full_rank=True, **QUIET)
    error, low, high = distance(fit, exact)
    assert error < 0.2
    assert low > 0.93
    assert high < 1.07


def test_pathfinder_has_means_and_deviations(pathfinder, exact):
    error, low, high = distance(pathfinder, exact)
    assert error < 0.2
    assert low > 0.93
    assert high < 1.07
    assert bm.diagnose(pathfinder).ok
    assert set(np.unique(pathfinder.idata["sample_stats"]["path"])) <= {0, 1, 2}


def test_experts_differ_and_are_in_order(mean_field, pathfinder):
    for fit in (mean_field, pathfinder):
        level = fit.idata["posterior"]["mu_coef"].sel(mu_term="Intercept")
        means = level.mean(("chain", "draw")).values
        assert means[1] - means[0] > 6


@pytest.mark.parametrize("which", ["mean_field", "pathfinder"])
def test_a_fit_is_read_saved_and_repeated(which, request, table, tmp_path):
    fit = request.getfixturevalue(which)
    back = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    rows = {"x": [-0.5, 0.5]}
    np.testing.assert_allclose(
        bm.predict(back, rows).interval(0.9), bm.predict(fit, rows).interval(0.9)
    )
    pd.testing.assert_frame_equal(bm.summary(back), bm.summary(fit))
    assert "r_hat" not in bm.summary(fit)
    assert bm.diagnose(back).verdict == bm.diagnose(fit).verdict
    assert bm.information(back).equals(bm.information(fit))
    assert np.isfinite(azs.loo(fit.idata).elpd)
    again = bm.refit(back, table, random_seed=1)
    assert again.idata["posterior"].identical(fit.idata["posterior"])


def test_weights_are_target_over_approximation(mean_field):
    stats = mean_field.idata["sample_stats"]
    figures = mean_field.idata["fit"]
    weights = stats["log_weight"].values.ravel()
    assert float(figures["pareto_k"]) == pytest.approx(pareto_k(weights))
    assert float(figures["elbo"]) == pytest.approx(weights.mean())
    # Late iterations estimate the bound from one draw each, a little off the average of them all.
    late = figures["path"].values[500:]
    error = late.std() / np.sqrt(late.size)
    assert weights.mean() - 1 < late.mean() < weights.mean() + 5 * error


@some_steps
@pytest.mark.parametrize("full_rank", [False, True])
def test_few_iterations_say_so(full_rank, table):
    with pytest.warns(bm.ConvergenceWarning, match="raise iterations"):
        fit = bm.fit(SPEC, table, method="advi", iterations=200, full_rank=full_rank, **QUIET)
    assert not bool(fit.idata["fit"]["converged"])
    assert "Not converged after 200 iterations" in bm.diagnose(fit).verdict


@pytest.mark.parametrize("method", ["advi", "pathfinder"])
def test_what_is_far_from_normal_is_seen(method):
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="studentt")
    settings = {"paths": 2} if method == "pathfinder" else {"iterations": 1000}
    with pytest.warns(bm.ConvergenceWarning):
        fit = bm.fit(spec, lines(12), method=method, **settings, **QUIET)
    assert not bm.diagnose(fit).ok


SPECS = {
    "tree": bm.mixture_of_experts("y ~ x", gate=bm.gates.Tree([0, [1, 2]], formula="~ x")),
    "sticks": bm.mixture_of_experts("y ~ x", gate=bm.gates.StickBreaking("~ x"), experts=2),
    "gaussian": bm.mixture_of_experts("y ~ x", gate=bm.gates.Gaussian("~ x"), experts=2),
    "attention": bm.mixture_of_experts("y ~ x", gate=bm.gates.Attention("~ x"), experts=2),
    "spline": bm.mixture_of_experts(
        "y ~ x", gate=bm.gates.Softmax("~ x", predictor=bm.predictors.Spline(df=5)), experts=2
    ),
    "one expert": bm.mixture_of_experts("y ~ x", experts=1, sigma="~ x"),
}


@pytest.mark.parametrize("name", SPECS)
def test_many_points_are_read_as_one_is(name, table):
    """Variables and log densities at many vectors are those of the graph at each."""
    spec = SPECS[name]
    design = spec.design(table.head(60))
    graph = build_design(spec, design, "fused")
    surface = GraphLogDensity(graph, jacobian=True)
    start = np.concatenate([np.ravel(v) for v in graph.model.initial_point().values()])
    points = start + 0.3 * np.random.default_rng(1).standard_normal((3, start.size))
    reader = Reader(graph)
    values, log_prior = reader(points)
    found = reader.log_density(values, log_prior)
    np.testing.assert_allclose(found, [surface(x)[0] for x in points], rtol=1e-6)
    for j, x in enumerate(points):
        for variable, value in surface.variables(x).items():
            np.testing.assert_allclose(values[variable][j], value, rtol=1e-6, atol=1e-9)


def trials(size):
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": rng.uniform(-1, 1, size), "n": rng.integers(2, 9, size)})
    return data.assign(y=rng.binomial(data["n"], 0.3 + 0.4 * (data["x"] > 0)))


@pytest.mark.parametrize("likelihood", ["fused", "symbolic"])
def test_batches_are_unbiased(likelihood):
    """On average over batches the log density is that of all rows: features, counts, response."""
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="binomial", trials="n")
    design = spec.design(trials(300))
    whole, parts = (build_design(spec, design, likelihood, batch_size=b) for b in (None, 30))
    point = whole.model.initial_point()
    point = {name: v + 0.3 * np.arange(v.size).reshape(v.shape) for name, v in point.items()}
    exact = float(whole.model.compile_logp(mode="FAST_COMPILE")(point))
    density = parts.model.compile_logp(mode="FAST_COMPILE", random_seed=1)
    drawn = np.array([float(density(point)) for _ in range(1000)])
    assert drawn.std() > 1
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / np.sqrt(drawn.size)


def test_a_batch_has_all_data_of_the_same_rows():
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="binomial", trials="n")
    data = trials(300)
    data["y"] = data["n"] - (np.arange(300) % 50 == 0)  # too many for most other rows
    parts = build_design(spec, spec.design(data), "symbolic", batch_size=20)
    density = parts.model.compile_logp(mode="FAST_COMPILE", random_seed=1)
    point = parts.model.initial_point()
    assert np.isfinite([float(density(point)) for _ in range(100)]).all()


@some_steps
def test_batches_find_the_same_distribution(table, mean_field):
    settings = {"method": "advi", "batch_size": 200} | QUIET
    fit = bm.fit(SPEC, table, iterations=2500, **settings)
    error, low, high = distance(fit, mean_field)
    assert error < 0.3
    assert low > 0.8
    assert high < 1.2
    one, two = (bm.fit(SPEC, table, iterations=200, draws=10, **settings) for _ in range(2))
    assert one.idata["posterior"].identical(two.idata["posterior"])


@pytest.mark.slow
@some_steps  # a twentieth of the rows at a time is on the edge of what 20,000 steps settle
def test_batches_of_a_long_table():
    table = lines(5000)
    exact = bm.fit(SPEC, table, method="laplace", draws=4000, **QUIET)
    fit = bm.fit(SPEC, table, method="advi", batch_size=250, **QUIET)
    error, low, high = distance(fit, exact)
    assert error < 0.2
    assert low > 0.75
    assert high < 1.1


@pytest.mark.parametrize(
    ("method", "setting", "value", "message"),
    [
        ("advi", "iterations", 10, "whole number >= 200"),
        ("advi", "learning_rate", 2, "between 0 and 1"),
        ("advi", "full_rank", "yes", "True or False"),
        ("advi", "batch_size", 1, "whole number >= 2"),
        ("advi", "batch_size", 601, "at most the number of rows, 600"),
        ("advi", "tune", 5, "Unknown setting of ADVI"),
        ("pathfinder", "paths", 0, "whole number >= 1"),
        ("pathfinder", "max_iter", 2, "whole number >= 5"),
    ],
)
def test_settings_are_checked(method, setting, value, message, table):
    with pytest.raises(bm.SpecError, match=message):
        bm.fit(SPEC, table, method=method, **{setting: value})


def test_no_batches_where_the_gate_models_features(table):
    with pytest.raises(bm.SpecError, match="batch_size is not for it"):
        bm.fit(SPECS["gaussian"], table, method="advi", batch_size=50, **QUIET)


def test_pathfinder_names_the_extra(monkeypatch, table):
    monkeypatch.setattr("bayes_moe.core.errors.find_spec", lambda package: None)
    with pytest.raises(ImportError, match=r"bayes_moe\[jax\]"):
        bm.fit(SPEC, table, method="pathfinder", **QUIET)


@pytest.mark.parametrize("form", [MeanField(), FullRank()])
def test_a_form_begins_at_the_curvature(form):
    rng = np.random.default_rng(1)
    root = rng.standard_normal((4, 4))
    information = root @ root.T + 2 * np.eye(4)
    found = form.root(form.begin(information))
    if isinstance(form, FullRank):
        np.testing.assert_allclose(found @ found.T, np.linalg.inv(information), rtol=1e-9)
    else:
        np.testing.assert_allclose(np.diag(found) ** -2, np.diag(information), rtol=1e-9)
    assert np.all(form.units(form.begin(information)) > 0)
    assert np.isfinite(form.root(form.begin(-information))).all()  # where it is no maximum


def test_normal_density_is_scipys():
    from scipy.stats import multivariate_normal

    root = np.array([[1.0, 0.0], [0.5, 2.0]])
    normal = Normal(np.array([1.0, -1.0]), root)
    points = normal.draw(5, np.random.default_rng(0))
    expected = multivariate_normal(normal.mean, root @ root.T).logpdf(points)
    np.testing.assert_allclose(normal.log_density(points), expected)


def test_smoothed_weights_are_those_of_a_known_ratio():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(4000)
    weight = smoothed(-0.5 * (x - 0.5) ** 2 + 0.5 * x**2)  # from N(0, 1) to N(0.5, 1)
    assert weight.sum() == pytest.approx(1)
    assert (weight * x).sum() == pytest.approx(0.5, abs=0.05)


def test_what_still_moves_has_not_settled():
    """A mean that creeps, at steady noise of the ELBO."""
    rng = np.random.default_rng(0)
    steady, creeping = (advi.ADVIHistory(MeanField(), 1) for _ in range(2))
    for j in range(40):
        noise = rng.standard_normal(advi.BLOCK)
        steady.add(noise, np.array([0.01 * rng.standard_normal(), 0.0]))
        creeping.add(noise, np.array([0.05 * j, 0.0]))
    assert steady.settled
    assert not creeping.settled
    with pytest.raises(bm.SpecError, match="lower learning_rate"):
        steady.add(noise, np.array([np.nan, 0.0]))
