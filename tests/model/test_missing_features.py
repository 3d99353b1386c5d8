"""Rows with missing features under a gate that models them: reading, fitting, refusals."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayes_moe as bm
from bayes_moe.em.missing_e_step import ObservedObjective, mean_imputed_design
from bayes_moe.em.missing_search import em_run
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model import evaluation as mixture
from bayes_moe.results.draws import stacked_draws, standard_tree
from bayes_moe.results.fit import Fit
from bayes_moe.results.mode_tree import dataset

TRUTH = {
    "gate_coef": np.array([[-0.3], [0.3]]),
    "gate_x1_mu_coef": np.array([[-1.0], [1.2]]),
    "gate_x1_sigma": np.array([0.8, 0.6]),
    "gate_x2_mu_coef": np.array([[0.5, 0.7], [-0.2, -0.6]]),
    "gate_x2_sigma": np.array([0.7, 0.9]),
    "mu_coef": np.array([[0.5, 1.5, -1.0], [1.0, -0.5, 0.8]]),
    "sigma": np.array([0.4, 0.7]),
}
GRID = np.linspace(-9, 9, 121)


def two_features(experts=2, **own):
    return bm.MixtureOfExperts(
        bm.gates.Gaussian("~ x1 + x2"), [bm.Expert("y ~ x1 + x2", **own)] * experts
    )


def planted_rows(n, seed, experts=2, truth=TRUTH):
    """Rows from the joint density that the model states."""
    rng = np.random.default_rng(seed)
    weight = np.exp(truth["gate_coef"][:, 0])
    k = rng.choice(experts, n, p=weight / weight.sum())
    x1 = rng.normal(truth["gate_x1_mu_coef"][k, 0], truth["gate_x1_sigma"][k])
    mean = (truth["gate_x2_mu_coef"][k] * np.column_stack([np.ones(n), x1])).sum(axis=1)
    x2 = rng.normal(mean, truth["gate_x2_sigma"][k])
    mu = (truth["mu_coef"][k] * np.column_stack([np.ones(n), x1, x2])).sum(axis=1)
    return pd.DataFrame({"x1": x1, "x2": x2, "y": rng.normal(mu, truth["sigma"][k])})


def punched(table, share, seed, columns=("x1", "x2")):
    """The table with a share of the entries of some columns missing completely at random."""
    rng = np.random.default_rng(seed)
    table = table.copy()
    for column in columns:
        table.loc[rng.random(len(table)) < share, column] = np.nan
    return table


def pdf_of(x, mean, sd):
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


def joint(values, x1, x2, y):
    """Densities (expert, ...) of features and response under the experts, times their shares."""
    found = []
    weight = np.exp(values["gate_coef"][:, 0])
    for k, w in enumerate(weight / weight.sum()):
        a, b = values["gate_x2_mu_coef"][k], values["mu_coef"][k]
        found.append(
            w
            * pdf_of(x1, values["gate_x1_mu_coef"][k, 0], values["gate_x1_sigma"][k])
            * pdf_of(x2, a[0] + a[1] * x1, values["gate_x2_sigma"][k])
            * pdf_of(y, b[0] + b[1] * x1 + b[2] * x2, values["sigma"][k])
        )
    return np.stack(found)


def integrated(values, row, y):
    """Joint densities (expert,) of a row's observed features and ``y``, by sums over a grid."""
    axes = [GRID if np.isnan(row[c]) else np.array([row[c]]) for c in ("x1", "x2")]
    step = (GRID[1] - GRID[0]) ** sum(len(a) > 1 for a in axes)
    x1, x2 = np.meshgrid(*axes, indexing="ij")
    return joint(values, x1, x2, y).sum(axis=(1, 2)) * step


@pytest.fixture(scope="module")
def known():
    spec, rng = two_features(), np.random.default_rng(0)
    design = spec.design(planted_rows(60, 1))
    draws = {n: v * np.exp(0.05 * rng.normal(size=(1, 3, *v.shape))) for n, v in TRUTH.items()}
    posterior = dataset(spec, design, draws, ("chain", "draw"))
    posterior = posterior.assign_coords(chain=[0], draw=[0, 1, 2])
    tree = xr.DataTree.from_dict({"posterior": posterior})
    return Fit(spec, design, standard_tree(tree, spec, design, log_likelihood=True))


@pytest.mark.parametrize(
    "row",
    [
        {"x1": np.nan, "x2": 0.7},
        {"x1": 0.4, "x2": np.nan},
        {"x1": np.nan, "x2": np.nan},
        {"x1": 0.4, "x2": 0.7},
    ],
    ids=["first", "second", "both", "none"],
)
def test_reading_equals_integration_over_what_is_missing(known, row):
    ys = np.linspace(-14, 14, 141)
    seen = bm.predict(known, pd.DataFrame([row]))
    pdf = seen.pdf(ys, grid=True).values[0]
    draws = stacked_draws(known.spec, known.idata["posterior"].to_dataset())
    each = [{n: v[s] for n, v in draws.items()} for s in range(3)]
    density = np.array([[integrated(v, row, y) for y in ys] for v in each])  # (draw, y, expert)
    weights = density.sum(axis=1) * (ys[1] - ys[0])
    total = weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        seen.weights().values[0], (weights / total).mean(axis=0), rtol=1e-6, atol=1e-9
    )
    expected = (density.sum(axis=2) / total).mean(axis=0)
    np.testing.assert_allclose(pdf, expected, rtol=1e-6, atol=1e-9)
    mean = (ys * expected).sum() * (ys[1] - ys[0])
    np.testing.assert_allclose(seen.mean().values[0], mean, rtol=1e-6)
    shares = bm.responsibilities(known, pd.DataFrame([row | {"y": 0.9}])).values[0, :, 0]
    at = np.array([integrated(v, row, 0.9) for v in each])
    np.testing.assert_allclose(shares, at / at.sum(axis=1, keepdims=True), rtol=1e-6, atol=1e-9)


def test_complete_rows_among_incomplete_ones_read_as_alone(known):
    rows = planted_rows(40, 2)
    mixed = pd.concat([rows, punched(rows, 0.5, 3)], ignore_index=True)
    alone, among = bm.log_density(known, rows), bm.log_density(known, mixed)
    np.testing.assert_allclose(among.values[..., :40], alone.values, rtol=1e-10)
    assert np.isfinite(among.values).all()


def test_nothing_missing_reads_by_the_usual_way(known, monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(mixture, "evaluate_incomplete", refuse)
    bm.predict(known, planted_rows(5, 2)).mean()


def test_experts_without_the_missing_feature_may_be_of_any_family():
    rng = np.random.default_rng(5)
    side, z = rng.choice([-2.0, 2.0], 200), rng.normal(size=200)
    x, rate = side + rng.normal(size=200), np.exp(np.where(side > 0, 2.5 + 0.3 * z, 0.5 - 0.3 * z))
    table = pd.DataFrame({"x": x, "z": z, "y": rng.poisson(rate)})
    spec = bm.MixtureOfExperts(
        bm.gates.Gaussian("~ x + z"), [bm.Expert("y ~ z", family="poisson")] * 2
    )
    fit = by_em(spec, punched(table, 0.2, 1, ["x"]), missing="model")
    assert np.isfinite(bm.predict(fit, pd.DataFrame({"x": [np.nan], "z": [0.1]})).mean()).all()
    with pytest.raises(bm.DataError, match=r"'z' has 1 missing.*row\(s\) 0.*family 'poisson'"):
        bm.predict(fit, pd.DataFrame({"x": [1.0], "z": [np.nan]}))


# --- fitting --------------------------------------------------------------------------------------


def by_em(spec, table, **settings):
    return bm.fit(spec, table, "em", random_seed=1, progressbar=False, **settings)


def expected_of(spec, table, likelihood):
    design = spec.design(table, "model")
    moving = parameter_vector(spec, mean_imputed_design(spec, design), likelihood=likelihood)
    return ObservedObjective(moving, design.rows)


def classical_em(z, rounds=2000):
    """Mean and covariance of a normal sample (obs, column) with missing entries, by plain EM."""
    n, p = z.shape
    mean, cov = np.nanmean(z, axis=0), np.diag(np.nanvar(z, axis=0))
    for _ in range(rounds):
        full, extra = np.array(z), np.zeros((p, p))
        for i in range(n):
            m = np.isnan(z[i])
            if not m.any():
                continue
            gain = cov[np.ix_(m, ~m)] @ np.linalg.inv(cov[np.ix_(~m, ~m)])
            full[i, m] = mean[m] + gain @ (z[i, ~m] - mean[~m])
            extra[np.ix_(m, m)] += cov[np.ix_(m, m)] - gain @ cov[np.ix_(~m, m)]
        before, mean = cov, full.mean(axis=0)
        cov = ((full - mean).T @ (full - mean) + extra) / n
        if np.abs(cov - before).max() < 1e-13:
            break
    return mean, cov


def test_one_normal_is_the_classical_em():
    rng = np.random.default_rng(7)
    root = np.array([[1.0, 0, 0], [0.6, 0.8, 0], [0.9, -0.7, 0.5]])
    z = np.array([1.0, -2.0, 3.0]) + rng.normal(size=(150, 3)) @ root.T
    table = punched(pd.DataFrame(z, columns=["x1", "x2", "y"]), 0.25, 3)
    mean, cov = classical_em(table.to_numpy())
    # Two experts that are the same stay so, and are one.
    expected = expected_of(two_features(), table, likelihood=True)
    same = {
        "gate_coef": np.zeros((2, 1)),
        "gate_x1_mu_coef": np.zeros((2, 1)),
        "gate_x1_sigma": np.ones(2),
        "gate_x2_mu_coef": np.zeros((2, 2)),
        "gate_x2_sigma": np.ones(2),
        "mu_coef": np.zeros((2, 3)),
        "sigma": np.ones(2),
    }
    start = expected.vector.points({k: v[None] for k, v in same.items()})[0]
    end = em_run(expected, start, max_iter=3000, tol=1e-12, newton=False)
    assert (np.diff(end.path[:, 0]) >= 0).all()
    found = expected.vector.variables(end.theta)
    slopes = np.linalg.solve(cov[:2, :2], cov[:2, 2])
    line = [mean[2] - slopes @ mean[:2], *slopes]
    np.testing.assert_allclose(found["mu_coef"][0], [line, line], atol=1e-6)
    np.testing.assert_allclose(found["sigma"][0] ** 2, cov[2, 2] - slopes @ cov[:2, 2], atol=1e-6)
    derived = two_features().gate.structure(2).features.derived(found)
    np.testing.assert_allclose(derived["gate_mean"][0, 1], mean[:2], atol=1e-6)
    np.testing.assert_allclose(derived["gate_cov"][0, 1], cov[:2, :2], atol=1e-6)


def observed_log_likelihood(values, table):
    """From the experts' joint normal densities of what is observed of (x1, x2, y)."""
    total = np.zeros((2, len(table)))
    weight = np.exp(values["gate_coef"][:, 0])
    for k in range(2):
        a, b = values["gate_x2_mu_coef"][k], values["mu_coef"][k]
        rest = np.array([[1, 0, 0], [-a[1], 1, 0], [-b[1], -b[2], 1]])
        sd = [values[n][k] for n in ("gate_x1_sigma", "gate_x2_sigma", "sigma")]
        root = np.linalg.inv(rest)
        mean = root @ [values["gate_x1_mu_coef"][k, 0], a[0], b[0]]
        cov = root @ np.diag(np.square(sd)) @ root.T
        for i, z in enumerate(table[["x1", "x2", "y"]].to_numpy()):
            o = ~np.isnan(z)
            density = multivariate_normal(mean[o], cov[np.ix_(o, o)]).logpdf(z[o])
            total[k, i] = np.log(weight[k] / weight.sum()) + density
    return float(logsumexp(total, axis=0).sum())


def test_the_mode_is_one_of_the_observed_likelihood():
    table = punched(planted_rows(120, 8), 0.25, 9)
    fit = by_em(two_features(), table, missing="model", objective="likelihood")
    values = {n: fit.idata["posterior"][n].values[0, 0] for n in TRUTH}
    found = fit.idata["fit"]
    at = observed_log_likelihood(values, table)
    np.testing.assert_allclose(float(found["log_likelihood"]), at, rtol=1e-9)
    assert bool(found["converged"])
    assert float(found["gradient_norm"]) < 1e-5
    assert (np.diff(found["path"].values) >= -1e-9).all()
    for name, value in values.items():
        for index in np.ndindex(value.shape):
            both = []
            for step in (1e-5, -1e-5):
                moved = value.copy()
                moved[index] += step
                both.append(observed_log_likelihood(values | {name: moved}, table))
            assert abs(both[0] - both[1]) / 2e-5 < 1e-3, name


@pytest.mark.parametrize("likelihood", [False, True])
@pytest.mark.parametrize(
    "spec",
    [
        two_features(),
        bm.MixtureOfExperts(
            bm.gates.Gaussian("~ x2 + x1", covariance="diag"),
            [bm.Expert("y ~ x1", name="a", sigma="~ z"), bm.Expert("y ~ x2 + z", name="b")],
        ),
        bm.MixtureOfExperts(
            bm.gates.Gaussian("~ x1 + x2"),
            [bm.Expert("y ~ z", "studentt", "a"), *[bm.Expert("y ~ x1 + x2", name="b")] * 2],
        ),
    ],
    ids=["one kind", "two kinds", "three experts"],
)
def test_fisher_identity(spec, likelihood):
    rng = np.random.default_rng(3)
    table = punched(planted_rows(80, 4), 0.3, 5).assign(z=rng.normal(size=80))
    expected = expected_of(spec, table, likelihood)
    theta = 0.3 * rng.normal(size=expected.vector.size)
    step = 1e-5 * np.eye(len(theta))
    differences = [(expected.value(theta + s) - expected.value(theta - s)) / 2e-5 for s in step]
    gradient = expected.gradient(theta)
    np.testing.assert_allclose(gradient, differences, atol=1e-5 * np.abs(gradient).max())


def test_the_objective_without_gaps_is_the_usual_one():
    spec, table = two_features(), planted_rows(100, 6)
    design = spec.design(table)
    moving = parameter_vector(spec, design)
    objective, expected = Objective(moving), ObservedObjective(moving, design.rows)
    theta = 0.3 * np.random.default_rng(1).normal(size=(1, moving.size))
    usual = objective.evaluate(theta, Curvature.OBSERVED)
    np.testing.assert_allclose(expected.value(theta[0]), usual.value[0], rtol=1e-12)
    np.testing.assert_allclose(expected.gradient(theta[0]), usual.gradient[0], rtol=1e-9, atol=1e-9)
    size = np.abs(usual.curvature[0]).max()
    found = expected.information(theta[0])
    np.testing.assert_allclose(found, usual.curvature[0], atol=1e-6 * size)


def test_climbs_never_fall():
    table = punched(planted_rows(150, 10), 0.3, 11)
    expected = expected_of(two_features(), table, likelihood=False)
    theta = 0.5 * np.random.default_rng(2).normal(size=expected.vector.size)
    end = em_run(expected, theta, max_iter=60, tol=1e-9, newton=False)
    assert (np.diff(end.path[:, 0]) >= 0).all()
    assert len(end.path) > 10


PLANTED = {
    "gate_coef": np.array([[0.2], [0.0], [-0.2]]),
    "gate_x1_mu_coef": np.array([[-2.0], [0.0], [2.0]]),
    "gate_x1_sigma": np.array([0.7, 0.6, 0.8]),
    "gate_x2_mu_coef": np.array([[0.5, 0.7], [-1.0, -0.6], [1.0, 0.4]]),
    "gate_x2_sigma": np.array([0.6, 0.7, 0.5]),
    "mu_coef": np.array([[-3.0, 1.5, -1.0], [0.0, -0.5, 0.8], [4.0, 1.0, 1.0]]),
    "sigma": np.array([0.4, 0.5, 0.3]),
}


@pytest.fixture(scope="module")
def planted_three():
    table = planted_rows(600, 21, 3, PLANTED)
    return table, by_em(two_features(3), punched(table, 0.2, 22), missing="model")


def test_a_fifth_missing_costs_little(planted_three):
    table, fit = planted_three
    spec = two_features(3)
    complete = by_em(spec, table)
    for name in spec.variables:
        one, other = (f.idata["posterior"][name].values[0, 0] for f in (fit, complete))
        error = fit.idata["standard_error"][name].values
        assert np.isfinite(error).all()
        assert (error >= 0.95 * complete.idata["standard_error"][name].values).all()
        assert np.abs((one - other) / error).max() < 3
    assert float(fit.idata["fit"]["gradient_norm"]) < 1e-5
    new = punched(planted_rows(1500, 23, 3, PLANTED), 0.2, 24)
    with pytest.warns(bm.MissingRowsWarning):
        dropped = by_em(spec, punched(table, 0.2, 22), missing="drop")
    scores = [float(bm.log_density(f, new).mean()) for f in (fit, dropped)]
    assert scores[0] >= scores[1]


def test_a_fit_with_gaps_comes_back_from_its_file(planted_three, tmp_path):
    table, fit = planted_three
    assert fit.design.rows.size == len(table)
    assert fit.design.columns["x1"].isna().any()
    back = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(back.design.columns, fit.design.columns)
    new = pd.DataFrame({"x1": [0.5, None, None], "x2": [None, 0.5, None]}, dtype=object)
    for rows in (None, new):
        one, other = (bm.predict(f, rows) for f in (fit, back))
        np.testing.assert_array_equal(one.mean().values, other.mean().values)
        assert np.isfinite(one.interval().values).all()
    for stem, matrix in fit.design.rows.matrices.items():
        np.testing.assert_array_equal(back.design.rows.matrices[stem].scale, matrix.scale)


def test_starts_by_hand(planted_three):
    table, fit = planted_three
    start = bm.responsibilities(fit)
    again = by_em(two_features(3), punched(table, 0.2, 22), missing="model", start=start)
    values = {n: fit.idata["posterior"][n].values[0, 0] for n in PLANTED}
    there = by_em(two_features(3), punched(table, 0.2, 22), missing="model", start=values)
    for other in (again, there):
        np.testing.assert_allclose(
            float(other.idata["fit"]["objective"]), float(fit.idata["fit"]["objective"]), rtol=1e-9
        )


def test_scaling_is_of_what_is_observed():
    table = punched(planted_rows(50, 1), 0.3, 2)
    matrix = two_features().design(table, "model").rows.matrices["mu"]
    np.testing.assert_allclose(matrix.center[1:], table[["x1", "x2"]].mean())
    np.testing.assert_allclose(matrix.scale[1:], table[["x1", "x2"]].std(ddof=0))
    np.testing.assert_array_equal(np.isnan(matrix.values[:, 1:]), table[["x1", "x2"]].isna())
    assert not np.isnan(matrix.values[:, 0]).any()


def test_nothing_missing_fits_as_ever():
    table = planted_rows(100, 1)
    one, other = by_em(two_features(), table), by_em(two_features(), table, missing="model")
    for name in TRUTH:
        np.testing.assert_array_equal(
            one.idata["posterior"][name].values, other.idata["posterior"][name].values
        )


# --- refusals -------------------------------------------------------------------------------------


def test_what_cannot_be_fitted_with_gaps():
    table = punched(planted_rows(50, 1), 0.3, 2)
    softmax = bm.mixture_of_experts("y ~ x1 + x2", experts=2)
    with pytest.raises(bm.SpecError, match=r"gates\.Gaussian.*missing='drop'"):
        bm.fit(softmax, table, "em", missing="model")
    with pytest.raises(bm.SpecError, match="one expert has none"):
        bm.fit(two_features(1), table, "em", missing="model")
    for method in ("nuts", "laplace", "map"):
        with pytest.raises(bm.SpecError, match=f"method='em'; method='{method}'"):
            bm.fit(two_features(), table, method, missing="model")
    with pytest.raises(bm.SpecError, match="cannot integrate missing features out"):
        bm.build(two_features(), table, missing="model")
    with pytest.raises(bm.SpecError, match=r"'modle'.*Did you mean 'model'"):
        bm.fit(two_features(), table, "em", missing="modle")
    with pytest.raises(bm.DataError, match=r"'x1' has .* missing='model' with method='em'"):
        bm.fit(two_features(), table, "em")


def holes(**columns):
    table = planted_rows(40, 1).assign(z=np.linspace(0, 1, 40) ** 2)
    for column, row in columns.items():
        table.loc[row, column] = np.nan
    return table


@pytest.mark.parametrize(
    ("expert", "gate", "gap", "message"),
    [
        ("y ~ log(x1 + 20)", "~ x1", "x1", r"row\(s\) 7, .* 'mu' .*'log\(x1 \+ 20\)'"),
        ("y ~ x1 + x1:z", "~ x1", "x1", r"row\(s\) 7, .* 'mu' of an expert uses 'x1:z'"),
        ("y ~ z", "~ x1 + I(x1**2)", "x1", r"row\(s\) 7, .*the gate uses"),
        ("I(y - x1) ~ z", "~ x1", "x1", r"row\(s\) 7, .*the response uses it"),
        ("y ~ z", "~ x1", "z", r"'z' has 1 missing value.*row\(s\) 7\. The gate does not model"),
        ("y ~ z", "~ x1", "y", r"'y' has 1 missing value.*row\(s\) 7\."),
    ],
)
def test_columns_that_cannot_be_integrated_out(expert, gate, gap, message):
    spec = bm.MixtureOfExperts(bm.gates.Gaussian(gate), [bm.Expert(expert)] * 2)
    with pytest.raises(bm.DataError, match=message):
        spec.design(holes(**{gap: 7}), "model")


def test_gaps_of_other_parameters_and_types():
    spec = bm.MixtureOfExperts(bm.gates.Gaussian("~ x1"), [bm.Expert("y ~ z", sigma="~ x1")] * 2)
    with pytest.raises(bm.DataError, match="'sigma' of an expert uses it"):
        spec.design(holes(x1=7), "model")
    spec = two_features()
    with pytest.raises(bm.DataError, match="'x1' has no value at all"):
        spec.design(holes(x1=slice(None)), "model")
    text = holes().assign(x1=[None, *["a"] * 39])
    with pytest.raises(bm.DataError, match=r"'x1' has 1 missing .*row\(s\) 0.* no numbers"):
        spec.design(text, "model")
    infinite = holes(x1=7)
    infinite.loc[3, "x1"] = np.inf
    with pytest.raises(bm.DataError, match=r"'x1' has 1 infinite value.*row\(s\) 3"):
        spec.design(infinite, "model")


def test_new_rows_with_gaps_elsewhere(known):
    with pytest.raises(bm.DataError, match=r"'y' has 1 missing value.*row\(s\) 1"):
        bm.log_density(known, pd.DataFrame({"x1": [0.1, 0.2], "x2": [np.nan, 1], "y": [1, np.nan]}))


def test_responses_without_noise_are_told_of():
    """All modes on rows without gaps are singular then, and none is a start."""
    x = np.random.default_rng(0).normal(size=100)
    table = pd.DataFrame({"x": np.where(np.arange(100) % 7 > 0, x, np.nan), "y": 2 + 3 * x})
    spec = bm.mixture_of_experts("y ~ x", experts=2, gate=bm.gates.Gaussian("~ x"))
    with pytest.warns(bm.ConvergenceWarning):
        fit = bm.fit(spec, table, "em", missing="model", random_seed=0, restarts=4)
    assert fit.design.rows.size == 100
