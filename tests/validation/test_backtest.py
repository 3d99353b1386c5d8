"""Backtests: no forecast knows the future, figures go on where a run stopped, errors say why."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.validation import backtest as module
from bayes_moe.validation.origins import SeriesTable
from bayes_moe.validation.step_forecasts import seasonal_naive


def table(n: int = 60, series: tuple[str, ...] = ()) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    parts = []
    for name in series or ("",):
        y = np.zeros(n)
        for t in range(1, n):
            y[t] = 0.7 * y[t - 1] + rng.normal()
        times = pd.date_range("2024-01-01", periods=n, freq="D")
        part = pd.DataFrame({"day": times, "y": y + 2 * np.sin(np.arange(n) * 2 * np.pi / 7)})
        parts.append(part.assign(id=name))
    whole = pd.concat(parts, ignore_index=True)
    return whole if series else whole.drop(columns="id")


def lagged(**settings) -> bm.MixtureOfExperts:
    return bm.mixture_of_experts("y ~ lag(y, 1)", gate="~ 1", experts=1, time="day", **settings)


SPEC = lagged()
ASKED = {"horizon": 3, "origins": 4, "step": 2, "season": 7, "random_seed": 1}


@pytest.fixture(scope="module")
def whole() -> bm.Backtest:
    return bm.backtest(SPEC, table(), **ASKED)


def test_origins_are_the_last_ones(whole):
    days = pd.DatetimeIndex(whole.results["origin"].values)
    assert [*days] == [*pd.date_range("2024-01-01", periods=60)[[50, 52, 54, 56]]]
    np.testing.assert_array_equal(whole.results["y"][0, 0], table()["y"][51:54])
    assert pd.Timestamp(whole.results["time"].values[-1, 0, -1]) == table()["day"].iloc[59]


def test_forecasts_are_those_of_a_fit_to_the_rows_before(whole):
    data = table()
    fit = bm.fit(SPEC, data.iloc[:53], "em", random_seed=1)
    _, b = fit.idata["posterior"]["mu_coef"].values[0, 0, 0]
    a, _ = fit.idata["posterior"]["mu_coef"].values[0, 0, 0]
    sigma = float(fit.idata["posterior"]["sigma"].values.ravel()[0])
    mean = a + b * data["y"].iloc[52]
    here = whole.results.sel(forecast="model").isel(origin=1, series=0, step=0)
    assert float(here["mean"]) == pytest.approx(mean, abs=1e-8)
    came = data["y"].iloc[53]
    assert float(here["log_score"]) == pytest.approx(stats.norm.logpdf(came, mean, sigma))
    for level in (0.8, 0.95):
        low, high = stats.norm.interval(level, mean, sigma)
        assert float(here[f"lower_{level:.0%}"[:-1]]) == pytest.approx(low, abs=1e-8)
        assert float(here[f"upper_{level:.0%}"[:-1]]) == pytest.approx(high, abs=1e-8)
    exact = bm.crps_normal_mixture(came, [1.0], [mean], [sigma])
    assert float(here["crps"]) == pytest.approx(float(exact), abs=0.08 * sigma)


def test_no_forecast_knows_later_rows(whole):
    changed = table()
    changed.loc[changed.index >= 54, "y"] += 100.0
    other = bm.backtest(SPEC, changed.iloc[:56], **{**ASKED, "origins": 2})
    for name in ("mean", "median", "lower_80", "upper_95"):
        before, after = (b.results[name].isel(origin=slice(2)).values for b in (whole, other))
        np.testing.assert_array_equal(before, after)


def test_naive_forecasts_repeat_the_last_season(whole):
    data = table()["y"].to_numpy()
    naive = whole.results.sel(forecast="seasonal naive").isel(origin=0, series=0)
    np.testing.assert_array_equal(naive["mean"], data[44:47])
    sd = np.sqrt(np.mean((data[7:51] - data[:44]) ** 2))
    expected = stats.norm.logpdf(data[51:54], data[44:47], sd)
    np.testing.assert_allclose(naive["log_score"], expected)
    mean, sds = seasonal_naive(data[:14], 7, 15)
    np.testing.assert_array_equal(mean, np.tile(data[7:14], 3)[:15])
    np.testing.assert_allclose(sds / sds[0], np.sqrt(np.repeat([1, 2, 3], 7)[:15]))


def test_tables_are_means_of_the_figures(whole):
    data = table()["y"].to_numpy()
    errors = np.array([data[o + 1 : o + 4] - data[o - 6 : o - 3] for o in (50, 52, 54, 56)])
    differences = [data[7 : o + 1] - data[: o - 6] for o in (50, 52, 54, 56)]
    mase = np.mean([np.abs(e) / np.abs(d).mean() for e, d in zip(errors, differences, strict=True)])
    msse = np.mean([e**2 / (d**2).mean() for e, d in zip(errors, differences, strict=True)])
    line = whole.summary.loc["seasonal naive"]
    assert line["MASE"] == pytest.approx(mase)
    assert line["RMSSE"] == pytest.approx(np.sqrt(msse))
    assert line["n"] == 12
    by_step = whole.table.xs("seasonal naive", level="forecast")
    assert by_step["MASE"].mean() == pytest.approx(mase)
    assert whole.scores("origin").shape == (8, 7)
    only = whole.scores(first=2, last=2).loc["model", "CRPS"]
    assert only == pytest.approx(whole.table.loc[(2, "model"), "CRPS"])
    assert "seasonal naive" in repr(whole)
    assert "<table" in whole._repr_html_()


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"by": "day"}, "by"), ({"first": 4}, "first"), ({"first": 3, "last": 2}, "last")],
)
def test_scores_refuse_unknown_parts(whole, settings, words):
    with pytest.raises(bm.SpecError, match=words):
        whole.scores(**settings)


def test_an_interrupted_run_goes_on(whole, tmp_path, monkeypatch):
    path, fits = tmp_path / "run.json", []
    fit = module.fit

    def counted(*args, **kwargs):
        if len(fits) == 2:
            raise KeyboardInterrupt
        fits.append(1)
        return fit(*args, **kwargs)

    monkeypatch.setattr(module, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        bm.backtest(SPEC, table(), path=path, **ASKED)
    fits.clear()
    again = bm.backtest(SPEC, table(), path=path, **ASKED)
    assert len(fits) == 2
    assert again.results.equals(whole.results)
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    for change, what in (
        ({"horizon": 2}, "setting"),
        ({"random_seed": 2}, "random_seed"),
        ({"spec": lagged(family="studentt")}, "model"),
        ({"data": table().assign(y=0.5 * table()["y"])}, "table"),
    ):
        asked = {"spec": SPEC, "data": table(), **ASKED, **change}
        with pytest.raises(bm.SpecError, match=f"another {what}"):
            bm.backtest(**asked, path=path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(bm.SpecError, match="no file of a backtest"):
        bm.backtest(SPEC, table(), path=path, **ASKED)
    with pytest.raises(FileNotFoundError):
        bm.backtest(SPEC, table(), path=tmp_path / "none" / "a.json", **ASKED)


def test_without_refits_the_posterior_stays_and_lags_go_on(whole, monkeypatch):
    fits = []
    fit = module.fit
    monkeypatch.setattr(module, "fit", lambda *a, **k: fits.append(fit(*a, **k)) or fits[-1])
    kept = bm.backtest(SPEC, table(), refit=False, **ASKED)
    assert len(fits) == 1
    a, b = fits[0].idata["posterior"]["mu_coef"].values[0, 0, 0]
    means = kept.results["mean"].sel(forecast="model", step=1).values[:, 0]
    np.testing.assert_allclose(means, a + b * table()["y"].to_numpy()[[50, 52, 54, 56]], rtol=1e-9)
    assert float(means[0]) == float(whole.results["mean"].sel(forecast="model", step=1)[0, 0])
    bm.backtest(SPEC, table(), refit=2, **{**ASKED, "origins": 3})
    assert len(fits) == 3


def test_shared_and_held_parameters_stay_where_a_posterior_goes_on(monkeypatch):
    fits = []
    fit = module.fit
    monkeypatch.setattr(module, "fit", lambda *a, **k: fits.append(fit(*a, **k)) or fits[-1])
    spec = bm.mixture_of_experts(
        "y ~ lag(y, 1)",
        gate="~ 1",
        time="day",
        shared=("mu_coef[lag(y, 1)]",),
        fixed={"mu_coef[1, Intercept]": 0.25},
    )
    data = table()
    kept = bm.backtest(spec, data, refit=False, restarts=1, **ASKED)
    assert len(fits) == 1
    found = {n: fits[0].idata["posterior"][n].values[0, 0] for n in ("mu_coef", "gate_coef")}
    assert found["mu_coef"][1, 0] == 0.25
    assert np.ptp(found["mu_coef"][:, 1]) == 0
    weights = np.exp(found["gate_coef"][:, 0])
    last = data["y"].to_numpy()[[50, 52, 54, 56]]
    means = (found["mu_coef"] @ [np.ones(4), last]).T @ (weights / weights.sum())
    here = kept.results["mean"].sel(forecast="model", step=1).values[:, 0]
    np.testing.assert_allclose(here, means, rtol=1e-9)


def test_several_series_are_cut_at_the_same_time():
    data = table(series=("a", "b"))
    spec = lagged(series="id")
    # The order of a table's rows does not matter, as long as times increase within a series.
    mixed = data.sort_values("day", kind="stable", ignore_index=True)
    found = [bm.backtest(spec, rows, **{**ASKED, "origins": 1}) for rows in (data, mixed)]
    assert found[0].results["series"].values.tolist() == ["a", "b"]
    np.testing.assert_allclose(found[0].results["mean"], found[1].results["mean"], rtol=1e-6)
    second = data["y"].to_numpy()[60:]
    np.testing.assert_array_equal(found[0].results["y"][0, 1], second[57:60])
    assert found[0].summary["n"].tolist() == [6, 6]


@pytest.mark.parametrize(
    ("start", "frequency", "season", "steps"),
    [
        ("2024-01-01", "D", "7D", 7),
        ("2024-01-01", "MS", "1Y", 12),
        ("2024-03-31", "QE", "2Y", 8),
        ("2024-01-01", "B", "1W", 5),
        ("2024-10-26 22:00+02:00", "h", "1D", 24),
    ],
)
def test_a_season_may_be_a_length_in_time(start, frequency, season, steps):
    times = pd.date_range(start, periods=60, freq=frequency)
    rows = SeriesTable.read(SPEC, table().assign(day=times))
    assert module._season(season, rows) == steps


def test_a_season_of_no_length_is_named():
    for wrong in ("soon", "12h", "1Y", 0):
        with pytest.raises(bm.SpecError, match="season"):
            bm.backtest(SPEC, table(), **{**ASKED, "origins": 1, "season": wrong})


def test_short_series_are_named():
    data = table(series=("a", "b"))
    spec = lagged(series="id")
    late = data.drop(index=range(60, 105))
    with pytest.raises(bm.DataError, match=r"Series 'b' has 6 rows up to the origin 2024-02-20"):
        bm.backtest(spec, late, **ASKED)
    early = data.drop(index=range(116, 120))
    with pytest.raises(bm.DataError, match="Series 'b' ends at row 115, 0 rows after"):
        bm.backtest(spec, early, **{**ASKED, "origins": 1})
    with pytest.raises(bm.DataError, match=r"'y' is missing in row\(s\) 50\. Fill"):
        bm.backtest(SPEC, table().assign(y=table()["y"].mask(table().index == 50)), **ASKED)
    with pytest.raises(bm.DataError, match="60 times, and 40 origins 2 apart"):
        bm.backtest(SPEC, table(), **{**ASKED, "origins": 40})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spec": bm.mixture_of_experts("y ~ 1", experts=1)}, "time='date'"),
        ({"spec": "y ~ 1"}, "MixtureOfExperts"),
        ({"horizon": 0}, "horizon"),
        ({"origins": 0}, "origins"),
        ({"step": 0}, "step"),
        ({"refit": 0}, "refit"),
        ({"draws": 10}, "Unknown"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    with pytest.raises(bm.SpecError, match=words):
        bm.backtest(**{"spec": SPEC, "data": table(), **ASKED, **change})


def test_models_of_the_fitted_table_need_refits():
    data = table().assign(x=np.sin(np.arange(60)))
    for formula in ("y ~ bs(x, df=4)", "y ~ trend(day)"):
        spec = bm.mixture_of_experts(formula, gate="~ 1", experts=1, time="day")
        with pytest.raises(bm.SpecError, match="refit=True"):
            bm.backtest(spec, data, refit=False, **ASKED)
    season = 'y ~ season(day, "7D", 2)'
    spec = bm.mixture_of_experts(season, gate="~ 1", experts=1, time="day")
    asked = {**ASKED, "origins": 2}
    assert bm.backtest(spec, data, refit=False, **asked).summary.shape == (2, 7)
