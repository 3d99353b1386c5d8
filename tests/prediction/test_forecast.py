"""Forecasts against closed forms, statsmodels and brute force; tables of rows ahead and errors."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.prediction.filtered_ends import _of_all, filtered_ends
from bayes_moe.results.draws import stacked_draws
from tests.support.given_draws import fit_with

HOURS = pd.date_range("2024-01-01", periods=120, freq="h")


def normal_mixture(x, weights, means, sds):
    return np.sum(weights * stats.norm.pdf(x, means, sds), axis=-1)


@pytest.fixture(scope="module")
def table():
    """Two series of different lengths, an autoregression with two levels."""
    rng = np.random.default_rng(1)
    parts = []
    for name, n in (("a", 120), ("b", 90)):
        y, level = np.zeros(n), np.where(np.arange(n) // 20 % 2, 2.0, -1.0)
        for t in range(1, n):
            y[t] = level[t] + 0.4 * y[t - 1] + 0.4 * rng.normal()
        x = rng.normal(size=n)
        parts.append(pd.DataFrame({"date": HOURS[:n], "y": y, "id": name, "x": x}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def one(table):
    return table[table["id"] == "a"].reset_index(drop=True)


# --- closed forms ---------------------------------------------------------------------------------


def test_a_first_order_autoregression_has_its_closed_form(one):
    spec = bm.mixture_of_experts("y ~ lag(y, 1)", experts=1, time="date")
    fit = fit_with(spec, one, mu_coef=[[[0.5, 0.7]]], sigma=[[1.3]])
    ahead = bm.forecast(fit, 20, random_seed=1)
    mean, variance, means, variances = one["y"].iloc[-1], 0.0, [], []
    for _ in range(20):
        mean, variance = 0.5 + 0.7 * mean, 0.49 * variance + 1.69
        means.append(mean)
        variances.append(variance)
    # The error of a Rao-Blackwell mean is that of the part of the path before.
    error = np.sqrt(np.maximum(np.array(variances) - 1.69, 0) / 4000)
    assert (np.abs(ahead.mean() - means) < 4.5 * error + 1e-12).all()
    np.testing.assert_allclose(ahead.sd(), np.sqrt(variances), rtol=0.04)
    np.testing.assert_allclose(
        ahead.interval(0.8)[:, 1], stats.norm.ppf(0.9, means, np.sqrt(variances)), atol=0.12
    )
    paths = ahead.paths()
    assert paths.dims == ("sample", "step")
    assert paths.shape == (4000, 20)
    np.testing.assert_allclose(paths.mean("sample"), means, atol=4.5 * 1.9 / np.sqrt(4000))
    # The sum of a path has the variance of (1 + phi + ...) weighted errors.
    weights = (1 - 0.7 ** np.arange(20, 0, -1)) / 0.3
    assert float(paths.sum("step").std()) == pytest.approx(
        1.3 * np.sqrt((weights**2).sum()), rel=0.05
    )
    assert float(ahead.logpdf(means[0])[0]) == pytest.approx(stats.norm.logpdf(0, 0, 1.3))


@pytest.mark.slow
def test_a_second_order_autoregression_is_that_of_statsmodels(one):
    from statsmodels.tsa.ar_model import AutoReg

    flat = bm.Prior("Normal", mu=0.0, sigma=1e4)
    spec = bm.mixture_of_experts(
        "y ~ lag(y, 1) + lag(y, 2)", experts=1, time="date", priors={"mu_coef": flat}
    )
    fit = bm.fit(spec, one, method="em", random_seed=1)
    ahead = bm.forecast(fit, 12, paths=40_000, random_seed=2)
    peer = AutoReg(one["y"].to_numpy(), 2, trend="c").fit()
    expected = peer.get_prediction(len(one), len(one) + 11)
    assert np.abs(ahead.mean() - expected.predicted_mean).max() < 0.02
    np.testing.assert_allclose(ahead.sd(), expected.se_mean, rtol=0.04)


def test_weights_of_a_markov_gate_are_moved_on_by_its_transitions(table):
    spec = bm.mixture_of_experts(
        "y ~ 1", experts=3, gate=bm.gates.Markov("~ 1", sticky=1.0), time="date", series="id"
    )
    rng = np.random.default_rng(3)
    draws = {
        "gate_coef": rng.normal(size=(4, 9, 1)),
        "mu_coef": np.array([-1.5, 0.5, 3.0])[None, :, None] + 0.1 * rng.normal(size=(4, 3, 1)),
        "sigma": 0.8 + 0.2 * rng.random((4, 3)),
    }
    fit = fit_with(spec, table, **draws)
    ahead = bm.forecast(fit, 15)
    logits = draws["gate_coef"].reshape(4, 3, 3) + np.eye(3)
    moves = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    for j, name in enumerate(("a", "b")):
        y = table.loc[table["id"] == name, "y"].to_numpy()
        for s in range(4):
            left = np.linalg.matrix_power(moves[s], 400)[0]
            density = stats.norm.pdf(y[:, None], draws["mu_coef"][s, :, 0], draws["sigma"][s])
            state = left * density[0] / (left * density[0]).sum()
            for row in density[1:]:
                state = state @ moves[s] * row
                state /= state.sum()
            found = ahead.weights(draws=True).values[0, s, j]
            for h in range(15):
                expected = state @ np.linalg.matrix_power(moves[s], h + 1)
                np.testing.assert_allclose(found[h], expected, rtol=0, atol=1e-12)
    assert not ahead.simulated
    assert ahead.mean().dims == ("series", "step")
    assert ahead.mean()["time"].values[1, 0] == HOURS[90].to_datetime64()


def test_the_last_rows_are_enough_to_filter(table):
    spec = bm.mixture_of_experts(
        "y ~ lag(y, 1)", experts=2, gate=bm.gates.Markov("~ x"), time="date", series="id"
    )
    rng = np.random.default_rng(4)
    gate = rng.normal(size=(6, 4, 2))
    gate[0, :, 0] = [40, -40, -40, 40]  # from such a state no draw leaves: all rows are read
    mu = np.array([[-1, 0.4], [2, 0.4]]) + 0.1 * rng.normal(size=(6, 2, 2))
    fit = fit_with(spec, table, gate_coef=gate, mu_coef=mu, sigma=np.full((6, 2), 2.5))
    draws = stacked_draws(spec, fit.idata["posterior"].to_dataset())
    found = filtered_ends(spec.structure, draws, fit.design.rows, [0, 1])
    for j in (0, 1):
        rows = fit.design.rows
        own = rows.pick(np.flatnonzero(rows.observation.series == j))
        np.testing.assert_allclose(found[..., j], _of_all(spec.structure, draws, own), atol=1e-12)


def test_two_steps_ahead_are_the_integral_over_the_first(one):
    """A Markov gate whose experts have lags: the predictive is integrated on a grid."""
    spec = bm.mixture_of_experts(
        "y ~ lag(y, 1)", experts=2, gate=bm.gates.Markov("~ lag(y, 1)"), time="date"
    )
    gate = np.array([[[0.5, 0.3], [-0.5, -0.3], [0.2, -0.4], [-0.2, 0.4]]])
    mu, sigma = np.array([[[-1.0, 0.4], [2.0, 0.2]]]), np.array([[0.7, 0.5]])
    fit = fit_with(spec, one, gate_coef=gate, mu_coef=mu, sigma=sigma)
    ahead = bm.forecast(fit, 2, paths=30_000, random_seed=5)
    draws = stacked_draws(spec, fit.idata["posterior"].to_dataset())
    state = filtered_ends(spec.structure, draws, fit.design.rows, [0])[0, :, 0]

    def moves(y):
        logits = (gate[0, :, 0] + np.multiply.outer(y, gate[0, :, 1])).reshape(*np.shape(y), 2, 2)
        shares = np.exp(logits + 2.0 * np.eye(2))
        return shares / shares.sum(axis=-1, keepdims=True)

    last = one["y"].iloc[-1]
    first = state @ moves(last)
    np.testing.assert_allclose(ahead.weights()[0], first, atol=1e-12)
    grid = np.linspace(-9, 9, 4001)
    density = stats.norm.pdf(grid[:, None], mu[0, :, 0] + mu[0, :, 1] * last, sigma[0])
    joint = first * density  # (y1, expert)
    filtered = joint / joint.sum(axis=1, keepdims=True)
    weights = np.einsum("yj,yjk->yk", filtered, moves(grid))
    step = grid[1] - grid[0]
    expected = (joint.sum(axis=1)[:, None] * weights).sum(axis=0) * step
    np.testing.assert_allclose(ahead.weights()[1], expected, atol=0.006)
    at = np.array([-2.0, 0.5, 2.5])
    means = mu[0, :, 0] + mu[0, :, 1] * grid[:, None]
    second = [
        (joint.sum(axis=1) * normal_mixture(y, weights, means, sigma[0])).sum() * step for y in at
    ]
    np.testing.assert_allclose(ahead.pdf(at, grid=True)[1], second, rtol=0.01, atol=1e-3)


# --- without feedback -----------------------------------------------------------------------------


def test_without_feedback_it_is_the_prediction_of_the_rows(table):
    spec = bm.mixture_of_experts("y ~ x + lag(x, 1)", experts=2, time="date", series="id")
    fit = fit_with(spec, table, **given(spec, table, np.random.default_rng(1)))
    steps = fit.design.step
    parts = [
        pd.DataFrame({"date": steps.after(HOURS[n - 1], 4), "id": name, "x": np.arange(4.0)})
        for name, n in (("a", 120), ("b", 90))
    ]
    new = pd.concat(parts, ignore_index=True)
    ahead, plain = bm.forecast(fit, data=new), bm.predict(fit, new)
    np.testing.assert_array_equal(ahead.mean().values.ravel(), plain.mean())
    np.testing.assert_array_equal(ahead.quantile(0.3).values.ravel(), plain.quantile(0.3))
    assert "exact" in repr(ahead)
    paths = ahead.sample(30_000, random_seed=1)
    assert paths.dims == ("sample", "series", "step")
    assert np.abs(paths.mean("sample") - ahead.mean()).max() < 0.05
    shuffled = new.iloc[[5, 0, 4, 1, 6, 2, 7, 3]]
    ordered = bm.forecast(fit, data=shuffled[shuffled["id"] == "b"].sort_values("date"))
    np.testing.assert_array_equal(ordered.mean()[0], ahead.mean()[1])


def test_lags_that_are_all_known_need_no_paths(one):
    spec = bm.mixture_of_experts("y ~ lag(y, 6)", experts=2, time="date")
    rng = np.random.default_rng(6)
    draws = {"gate_coef": rng.normal(size=(3, 2, 2)), "mu_coef": rng.normal(size=(3, 2, 2))}
    fit = fit_with(spec, one, **draws, sigma=np.ones((3, 2)))
    known, simulated = bm.forecast(fit, 6), bm.forecast(fit, 8, random_seed=1)
    assert (known.simulated, simulated.simulated) == (False, True)
    np.testing.assert_allclose(known.mean(), simulated.mean()[:6], atol=1e-12)
    np.testing.assert_allclose(
        known.mean(draws=True), simulated.mean(draws=True)[..., :6], atol=1e-12
    )


def test_joint_paths_of_a_markov_gate_keep_their_experts(one):
    """Of a sticky chain, the sign of a path hardly changes: sums have a wide distribution."""
    spec = bm.mixture_of_experts(
        "y ~ 1", experts=2, gate=bm.gates.Markov("~ 1", sticky=6.0), time="date"
    )
    draws = {"mu_coef": [[[-5.0], [5.0]]], "sigma": [[0.5, 0.5]], "gate_coef": np.zeros((1, 4, 1))}
    table = one.assign(y=np.where(np.arange(len(one)) % 40 < 20, -5.0, 5.0))
    table.loc[len(one) - 1, "y"] = 0.0  # either expert
    ahead = bm.forecast(fit_with(spec, table, **draws), 10)
    drawn = ahead.sample(4000, random_seed=1)
    stay = 1 / (1 + np.exp(-6))
    kept = float((np.sign(drawn).diff("step") == 0).mean())
    assert kept == pytest.approx(stay, abs=0.002)
    assert np.abs(drawn.mean("sample") - ahead.mean()).max() < 0.3


# --- families and formulas ------------------------------------------------------------------------

CASES = {
    "negative binomial": ("n ~ log(lag(n, 1) + 1) + x", {"family": "negativebinomial"}),
    "student": ("y ~ lag(y, 1):x + rolling(y, 3)", {"family": "studentt"}),
    "classes": ("c ~ lag(c, 1)", {"family": "bernoulli"}),
    "own expression": ("log(p) ~ lag(log(p), 1) + rolling(log(p), 2)", {}),
    "sticks, spread": (
        "y ~ lag(y, 1)",
        {"gate": bm.gates.StickBreaking("~ lag(y, 2)"), "sigma": "~ lag(y, 1)"},
    ),
    "gaussian gate": ("y ~ lag(y, 1)", {"gate": bm.gates.Gaussian("~ lag(y, 1) + x")}),
    "random effects": ("y ~ lag(y, 1) + (1 | id)", {"series": "id"}),
    "offset": ("y ~ x + offset(0.5 * lag(y * x, 1))", {}),
    "changes": ("y ~ x + offset(lag(y, 1)) + diff(y, 2)", {}),
    "markov gate of counts": ("n ~ lag(n, 1)", {"family": "poisson", "gate": bm.gates.Markov()}),
    "markov gate, censored": (
        "censored(y, lower=-1) ~ lag(y, 1) + diff(y)",
        {"gate": bm.gates.Markov()},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_path_is_the_prediction_of_a_table_with_its_own_lags(name, table):
    """The mixtures of a path are those of :func:`predict`, given the path as if it was observed."""
    formula, more = CASES[name]
    rng = np.random.default_rng(8)
    table = table.assign(
        n=rng.poisson(3, len(table)),
        c=rng.integers(0, 2, len(table)),
        p=np.exp(table["y"] / 3),
        y=table["y"].clip(lower=-1) if "censored" in formula else table["y"],
    )
    series = {"series": more["series"]} if "series" in more else {}
    data = table if series else table[table["id"] == "a"].reset_index(drop=True)
    spec = bm.mixture_of_experts(formula, experts=2, time="date", **{**more, **series})
    fit = fit_with(spec, data, **given(spec, data, rng))
    times = fit.design.step.after(HOURS[-1], 4)
    new = pd.DataFrame({"date": times, "id": "a", "x": [0.3, -1.0, 0.5, 2.0]})
    ahead = bm.forecast(fit, data=new if not series else None, steps=4, paths=6, random_seed=9)
    if series:
        new = new.assign(x=0.0)
    response = next(
        c for c in ("n", "c", "p", "y") if c in formula.split("~")[0].replace("cens", "")
    )
    drawn = ahead.paths().values.reshape(6, -1, 4)[:, 0]
    recorded = np.exp(drawn) if response == "p" else drawn
    recorded = np.maximum(recorded, -1) if "censored" in formula else recorded
    stored, draws = ahead.stored.mixture, stacked_draws(spec, fit.idata["posterior"].to_dataset())
    for path in (4,):  # of the second draw
        longer = pd.concat([data, new.assign(**{response: recorded[path]})], ignore_index=True)
        longer = longer.sort_values(["id", "date"], kind="stable").reset_index(drop=True)
        again = fit_with(
            spec, longer, **{n: v[path // 3 : path // 3 + 1] for n, v in draws.items()}
        )
        rows = longer.index[(longer["date"].isin(times)) & (longer["id"] == "a")]
        where = np.searchsorted(again.design.rows.obs_id, rows)
        plain = bm.predict(again)
        np.testing.assert_allclose(
            np.exp(stored.log_weights[path, :, :4]).T, plain.weights()[where], atol=1e-9
        )
        if name != "classes":
            own = stored.take_samples(np.array([path])).uncensored.moments("mean")[0]
            own = np.broadcast_to(own, stored.log_weights[path].shape)[:, :4]
            np.testing.assert_allclose(own.T, plain.expert_means()[where], rtol=1e-7)


def given(spec, data, rng):
    """Two draws of all reported variables, about small numbers."""
    design = spec.design(data)
    matrices = design.rows.matrices
    shapes = spec.structure.gate.shapes(matrices)
    for component in spec.structure.components:
        shapes |= component.shapes(matrices)
    found = {}
    for name in spec.variables:
        values = 0.2 * rng.normal(size=(2, *shapes[name]))
        support = spec.structure.supports.get(name, "real")
        found[name] = {"positive": np.exp(values), "unit": 1 / (1 + np.exp(-values))}.get(
            support, values
        )
    return found


# --- face -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ahead(table):
    spec = bm.mixture_of_experts("y ~ lag(y, 1)", experts=2, time="date", series="id")
    fit = fit_with(spec, table, **given(spec, table, np.random.default_rng(1)))
    return bm.forecast(fit, 5, paths=400, random_seed=2)


def test_results_have_steps_series_and_times(ahead):
    assert ahead.mean().dims == ("series", "step")
    assert ahead.interval(0.8).dims == ("series", "step", "ci_bound")
    assert ahead.quantile([0.1, 0.5]).dims == ("series", "step", "quantile")
    assert ahead.weights(draws=True).dims == ("chain", "draw", "series", "step", "expert")
    assert ahead.sample().dims == ("chain", "draw", "series", "step")
    assert ahead.sample(7, random_seed=1).shape == (7, 2, 5)
    assert ahead.modes()["location"].dims == ("series", "step", "mode")
    assert ahead.cdf(0.0).shape == (2, 5)
    assert ahead.logpdf(np.zeros((2, 5))).shape == (2, 5)
    assert list(ahead.mean()["series"].values) == ["a", "b"]
    assert "2 series" in repr(ahead)
    assert "lower" in ahead._repr_html_()
    frame = ahead.to_dataframe([0.5, 0.9])
    assert [*frame][:3] == ["id", "step", "date"]
    assert len(frame) == 10
    assert (frame["lower_90"] < frame["lower_50"]).all()
    same = bm.forecast(ahead.fit, 5, paths=400, random_seed=2)
    np.testing.assert_array_equal(same.paths(), ahead.paths())
    chosen = bm.forecast(ahead.fit, 5, series="b", random_seed=2)
    assert chosen.mean()["series"].values.tolist() == ["b"]


def test_whole_paths_are_inside_a_simultaneous_band(ahead):
    band = ahead.simultaneous_interval(0.8)
    paths = ahead.paths()
    inside = ((paths >= band[..., 0]) & (paths <= band[..., 1])).all("step").mean("sample")
    assert (inside >= 0.8).all()
    assert (inside < 0.87).all()
    wide, narrow = (np.ptp(b.values, axis=-1) for b in (band, ahead.interval(0.8)))
    assert (wide > narrow).all()


def test_more_paths_than_there_are_is_an_error(ahead):
    with pytest.raises(bm.SpecError, match="400 simulated paths, not 500"):
        ahead.sample(500)
    with pytest.raises(bm.SpecError, match=r"\(series, step\) = \(2, 5\)"):
        ahead.logpdf(np.zeros(3))


# --- rows ahead and errors ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_x(table):
    spec = bm.mixture_of_experts("y ~ x + lag(y, 1)", experts=1, time="date", series="id")
    return fit_with(spec, table, **given(spec, table, np.random.default_rng(1)))


def test_features_that_are_not_known_ahead_are_named(with_x):
    with pytest.raises(bm.DataError, match=r"next 48 rows of the series 'a', 'b' need .* 'x'"):
        bm.forecast(with_x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": HOURS[-1] + pd.to_timedelta([2, 3], "h")}, "without a gap"),
        ({"date": HOURS[-2:]}, "only rows after them"),
        ({"id": ["a", "c"]}, "series of 'id' 'c'"),
        ({"y": [1.0, np.nan]}, "values of the response 'y'"),
        ({"x": [1.0, np.nan]}, "'x'"),
        ({"date": HOURS[-1] + pd.to_timedelta([2, 1], "h")}, "increase"),
    ],
)
def test_rows_that_do_not_continue_the_series_are_refused(with_x, change, message):
    new = pd.DataFrame(
        {"date": HOURS[-1] + pd.to_timedelta([1, 2], "h"), "id": "a", "x": [0.0, 1.0]}
    )
    assert bm.forecast(with_x, data=new, random_seed=1).mean().shape == (1, 2)
    with pytest.raises(bm.DataError, match=message):
        bm.forecast(with_x, data=new.assign(**change))
    with pytest.raises(bm.SpecError, match="`steps` is 3, but `data` has 2 rows of each series"):
        bm.forecast(with_x, 3, data=new)
    with pytest.raises(bm.DataError, match="Unknown column 'id'"):
        bm.forecast(with_x, data=new.drop(columns="id"))


def test_lags_of_features_end_with_the_features(one):
    spec = bm.mixture_of_experts("y ~ lag(x, 2)", experts=1, time="date")
    fit = fit_with(spec, one, **given(spec, one, np.random.default_rng(1)))
    assert bm.forecast(fit, 2).mean().shape == (2,)
    with pytest.raises(bm.DataError, match=r"'lag\(x, 2\)' needs 'x' of the rows before"):
        bm.forecast(fit, 3)


def test_models_that_have_no_forecast_are_named(one, table):
    def fitted(spec, data):
        return fit_with(spec, data, **given(spec, data, np.random.default_rng(1)))

    plain = fitted(bm.mixture_of_experts("y ~ x", experts=1), one)
    with pytest.raises(bm.SpecError, match="time='date'"):
        bm.forecast(plain)
    hidden = bm.mixture_of_experts("log(p) ~ lag(p, 1)", experts=1, time="date")
    fit = fitted(hidden, one.assign(p=np.exp(one["y"])))
    assert not bm.forecast(fit, 1).simulated
    with pytest.raises(bm.SpecError, match="reads 'p', which does not follow"):
        bm.forecast(fit, 2)
    gaps = one.drop(index=[50])
    fit = fitted(bm.mixture_of_experts("y ~ 1", experts=1, time="date"), gaps)
    with pytest.raises(bm.DataError, match="regular steps"):
        bm.forecast(fit, 2)
    shared = bm.mixture_of_experts(
        "y ~ lag(y, 1)", experts=2, time="date", series="id", group="id", gate="~ 1"
    )
    fit = fitted(shared, table)
    with pytest.raises(bm.SpecError, match="share an expert by 'id'"):
        bm.forecast(fit, 2)
    assert bm.forecast(fit, 1).mean().shape == (2, 1)
    cut = bm.mixture_of_experts("truncated(y, lower=-9) ~ lag(y, 1)", experts=1, time="date")
    fit = fitted(cut, one)
    with pytest.raises(bm.SpecError, match="is truncated"):
        bm.forecast(fit, 2)
    large = bm.mixture_of_experts("y ~ lag(y, 1)", experts=1, time="date")
    fit = fitted(large, one)
    with pytest.raises(bm.SpecError, match="forecast fewer series"):
        bm.forecast(fit, 10_000, paths=100_000)
