"""Dates become numbers by ``time(t)``, counted from the same origin on new rows."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.formula_functions import SECONDS

N = 40


def table(zone=None):
    rng = np.random.default_rng(0)
    days = rng.uniform(0, 900, N)
    t = pd.Series(pd.Timestamp("2021-03-10 06:00") + pd.to_timedelta(days, unit="D"))
    t = t if zone is None else t.dt.tz_localize("UTC").dt.tz_convert(zone)
    y = np.sin(days / 200) + 0.1 * rng.normal(size=N)
    return pd.DataFrame({"t": t, "x": rng.normal(size=N), "y": y})


def values(formula, data, new=None):
    """Values (obs, term) of a formula on the rows it is fitted to, or on new ones."""
    design = Design.from_data("y", {"mu": formula}, data)
    return (design.rows if new is None else design.transform(new)).matrices["mu"].values


@pytest.mark.parametrize("unit", SECONDS)
def test_units_are_counted_from_the_first_date(unit):
    data = table()
    elapsed = (data["t"] - data["t"].min()).dt.total_seconds().to_numpy() / SECONDS[unit]
    np.testing.assert_allclose(values(f"~ time(t, unit='{unit}')", data)[:, 1], elapsed, rtol=1e-9)


def test_a_year_is_365_days_and_a_quarter_on_average():
    assert SECONDS["Y"] == 365.2425 * SECONDS["D"]


@pytest.mark.parametrize("formula", ["~ time(t)", "~ time(t, origin='2020-02-01')"])
def test_new_rows_have_the_origin_of_the_fitted_ones(formula):
    data = table()
    later = data.iloc[5:9].reset_index(drop=True)
    np.testing.assert_array_equal(values(formula, data, later), values(formula, data)[5:9])


def test_an_origin_is_counted_from():
    data = table()
    found = values("~ time(t, origin='2021-03-10T06:00')", data)[:, 1]
    expected = (data["t"] - pd.Timestamp("2021-03-10 06:00")).dt.total_seconds() / 86400
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_dates_with_a_time_zone_are_moments():
    plain, zoned = table(), table("America/New_York")
    np.testing.assert_array_equal(values("~ time(t)", zoned), values("~ time(t)", plain))
    elsewhere = zoned.assign(t=zoned["t"].dt.tz_convert("Asia/Tokyo"))
    np.testing.assert_array_equal(values("~ time(t)", zoned, elsewhere), values("~ time(t)", plain))
    origin = "~ time(t, unit='h', origin='2021-01-01')"
    hours = values(origin, zoned)[:, 1] - values(origin, plain)[:, 1]
    np.testing.assert_allclose(hours, -5.0)  # midnight in New York is 5 hours after that in UTC


@pytest.mark.parametrize(("fitted", "new"), [(None, "UTC"), ("UTC", None)])
def test_a_time_zone_is_not_guessed(fitted, new):
    with pytest.raises(DataError, match="time zone here, unlike those of the fitted rows"):
        values("~ time(t)", table(fitted), table(new))


def test_functions_take_what_time_gives():
    data = table()
    direct = values("~ poly(d, 2)", data.assign(d=values("~ time(t)", data)[:, 1]))
    np.testing.assert_allclose(values("~ poly(time(t), 2)", data), direct, atol=1e-12)


@pytest.mark.parametrize("kind", ["polars", "numpy", "days", "seconds"])
def test_columns_of_dates_of_any_kind(kind):
    data = table()
    expected = values("~ time(t)", data)
    if kind == "polars":
        other = pytest.importorskip("polars").from_pandas(data)
    elif kind == "numpy":
        other = {name: data[name].to_numpy() for name in data}
    else:
        unit = {"days": "D", "seconds": "s"}[kind]
        t = data["t"].to_numpy().astype(f"datetime64[{unit}]")
        data = data.assign(t=t)
        other, expected = {"t": t, "y": data["y"]}, values("~ time(t)", data)
    np.testing.assert_allclose(values("~ time(t)", other), expected, atol=1e-9)


def test_a_column_may_be_called_time():
    data = table().rename(columns={"t": "time"})
    assert values("~ time(time)", data).shape == (N, 2)
    assert values("~ time", data.assign(time=data["x"])).shape == (N, 2)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ t", r"holds dates, such as .*write time\(t\)"),
        ("~ I(t)", r"holds dates, not numbers.*write time\("),
        ("~ x + log(t)", r"write time\(t\)"),
        ("~ time(x)", "'x' holds numbers"),
        ("~ time(x + 1)", "needs a column of dates"),
    ],
)
def test_other_columns_are_refused(formula, message):
    with pytest.raises(DataError, match=message):
        values(formula, table())


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ time(t, unit='M')", "'unit' of 'time' must be 'Y' or 'W'"),
        ("~ time(t, origin='spring')", "a date in quotes"),
        ("~ time(t, origin=2020)", "a date in quotes"),
        ("~ time(t, origin='NaT')", "a date in quotes"),
    ],
)
def test_other_settings_are_refused(formula, message):
    with pytest.raises(SpecError, match=message):
        values(formula, table())


def test_a_missing_date_is_named():
    data = table()
    data.loc[3, "t"] = pd.NaT
    with pytest.raises(DataError, match=r"'t' has 1 missing value\(s\), first at row\(s\) 3"):
        values("~ time(t)", data)


@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
def test_a_saved_fit_and_another_have_the_origin(tmp_path, zone):
    data = table(zone)
    fit = bm.fit(bm.mixture_of_experts("y ~ time(t) + x", gate="~ 1"), data, "em", random_seed=1)
    new = data.iloc[4:9].drop(columns="y")
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    np.testing.assert_array_equal(bm.predict(again, new).mean(), bm.predict(fit, new).mean())
    other = bm.refit(fit, data.iloc[10:], random_seed=1)
    first = other.design.rows.matrices["mu"].values[:, 1].min()
    assert first == 0.0
    assert bm.build(fit, data).model["mu_coef"].eval is not None


def test_there_is_no_plot_along_dates():
    fit = bm.fit(bm.mixture_of_experts("y ~ time(t) + x", gate="~ 1"), table(), "em", random_seed=1)
    with pytest.raises(DataError, match="holds dates, along which there are no plots"):
        bm.plot_experts(fit, feature="t")
