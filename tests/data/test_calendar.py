"""Trends, seasons and features of the calendar, held to NumPy and pandas."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.formulas import FittedFormula


def table(zone=None, n=24 * 16):
    dates = pd.date_range("2020-03-20 05:00", periods=n, freq="h", tz=zone)
    return pd.DataFrame({"t": dates, "k": np.arange(n) * 0.5, "g": "a"})


def columns(formula, rows):
    fitted, values = FittedFormula.fit(formula, rows, np.arange(len(rows)))
    return fitted, dict(zip(fitted.columns, values.T, strict=True))


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_seasons_are_waves_of_the_clock(zone):
    rows = table(zone)
    fitted, found = columns("~ 0 + season(t, period='1D', order=2) + season(t, '7D')", rows)
    clock = rows["t"].dt.hour / 24
    for j in (1, 2):
        for name, wave in (("sin", np.sin), ("cos", np.cos)):
            values = found[f"season(t, period='1D', order=2)[{name}{j}]"]
            np.testing.assert_allclose(values, wave(2 * np.pi * j * clock), atol=1e-9)
    days = (rows["t"].dt.tz_localize(None) - pd.Timestamp("1970-01-01")) / pd.Timedelta("7D")
    np.testing.assert_allclose(found["season(t, '7D')[cos1]"], np.cos(2 * np.pi * days), atol=1e-9)
    later = rows.assign(t=rows["t"] + pd.Timedelta("28D"))
    again = fitted.apply(later.iloc[3:9], np.arange(6))
    wanted = np.column_stack(list(columns(fitted.formula, later)[1].values()))[3:9]
    np.testing.assert_allclose(again, wanted, atol=1e-12)


def test_seasons_of_years_and_of_numbers():
    rows = pd.DataFrame({"t": pd.date_range("2000-01-01", periods=3000, freq="D")})
    _, found = columns("~ 0 + season(t, '1Y')", rows)
    years = (rows["t"] - pd.Timestamp("1970-01-01")) / pd.Timedelta("1D") / 365.2425
    np.testing.assert_allclose(found["season(t, '1Y')[sin1]"], np.sin(2 * np.pi * years), atol=1e-9)
    _, found = columns("~ 0 + season(k, period=12, order=3)", table())
    wanted = np.cos(2 * np.pi * 3 * table()["k"] / 12)
    np.testing.assert_allclose(found["season(k, period=12, order=3)[cos3]"], wanted, atol=1e-9)


def test_the_fastest_wave_is_one_column():
    for shift in (0.0, 0.5, 3.25):
        rows = table().assign(k=lambda r, by=shift: r["k"] + by)
        fitted, found = columns("~ season(k, 12, order=12)", rows)
        assert len(fitted.columns) == 24
        assert np.linalg.matrix_rank(np.column_stack(list(found.values()))) == 24
    with pytest.raises(DataError, match=r"more waves than its times, which are 24 to a period.*12"):
        columns("~ season(k, 12, order=13)", table())
    with pytest.raises(DataError, match="order of at most 12"):
        columns("~ season(t, '1D', 13)", table())


def test_trends():
    rows = table()
    fitted, found = columns("~ trend(t) + trend(t, unit='W') + trend(k)", rows)
    np.testing.assert_allclose(found["trend(t)"], np.linspace(0, 1, len(rows)))
    np.testing.assert_allclose(found["trend(t, unit='W')"], np.arange(len(rows)) / 168)
    np.testing.assert_allclose(found["trend(k)"], np.linspace(0, 1, len(rows)))
    later = rows.assign(t=rows["t"] + pd.Timedelta("2D")).iloc[-1:]
    assert fitted.apply(later, np.arange(1))[0, 1] == pytest.approx(1 + 48 / (len(rows) - 1))


def test_features_of_the_calendar_are_those_of_pandas():
    rows = pd.DataFrame({"t": pd.date_range("2019-11-03 07:10", periods=300, freq="31h")})
    of = {
        "year": "year", "quarter": "quarter", "month": "month", "monthday": "day",
        "yearday": "day_of_year", "weekday": "day_of_week", "hour": "hour",
    }  # fmt: skip
    _, found = columns("~ " + " + ".join(f"{name}(t)" for name in of), rows)
    for name, accessor in of.items():
        np.testing.assert_array_equal(found[f"{name}(t)"], getattr(rows["t"].dt, accessor))
    _, found = columns("~ C(weekday(t))", rows)
    assert list(found) == ["Intercept", *(f"C(weekday(t))[T.{j}]" for j in range(1, 7))]
    hour = rows.assign(hour=rows["t"])
    assert "hour(hour)" in columns("~ hour(hour)", hour)[1]


@pytest.mark.parametrize(
    ("formula", "error", "message"),
    [
        ("~ season(t, 24)", DataError, "period of season.t. is 24.0.*dates take a period such as"),
        ("~ season(k, '1D')", DataError, "'k' holds numbers: numbers take a number"),
        ("~ season(t, '1M')", SpecError, "length of time such as '1Y', '1W'"),
        ("~ season(t, '0D')", SpecError, "'period' of 'season'"),
        ("~ season(k, -3)", SpecError, "'period' of 'season'"),
        ("~ season(t)", SpecError, "needs the argument 'period'"),
        ("~ season(t, '1D', 0)", SpecError, "whole number from 1"),
        ("~ season(g, '1D')", DataError, "season.. needs dates or numbers; 'g' holds categories"),
        ("~ hour(k)", DataError, "hour.. needs a column of dates; 'k' holds numbers"),
        ("~ trend(k, unit='D')", DataError, "needs a column of dates"),
        ("~ log(season(t, '1D'))", DataError, "makes several columns"),
    ],
)
def test_what_is_refused(formula, error, message):
    with pytest.raises(error, match=message):
        columns(formula, table())


def test_another_time_zone_is_refused():
    fitted, _ = columns("~ season(t, '1D')", table("Europe/Berlin"))
    with pytest.raises(DataError, match="time zone UTC here, but Europe/Berlin"):
        fitted.apply(table("UTC").iloc[:4], np.arange(4))


def test_a_wave_that_two_seasons_have_is_in_one():
    """The seventh wave of a week is the first of a day; in products each season has all."""
    times = pd.date_range("2020-01-01", periods=400, freq="h")
    table = pd.DataFrame({"t": times, "x": np.arange(400.0) % 5, "y": np.arange(400.0) ** 0.5})
    both = 'season(t, "1D", 2) + season(t, "7D", 15)'
    design = bm.mixture_of_experts(f"y ~ {both}", experts=1, time="t").design(table)
    terms = design.rows.matrices["mu"].terms
    assert len(terms) == 1 + 2 * (2 + 15 - 2)
    absent = {f"season(t, '7D', 15)[{name}{j}]" for name in ("sin", "cos") for j in (7, 14)}
    assert not absent & {*terms}
    some = design.transform(table[100:200]).matrices["mu"]
    np.testing.assert_array_equal(some.values, design.rows.matrices["mu"].values[100:200])
    product = 'season(t, "1D", 2):x + season(t, "7D", 15)'
    design = bm.mixture_of_experts(f"y ~ {product}", experts=1, time="t").design(table)
    assert len(design.rows.matrices["mu"].terms) == 1 + 2 * (2 + 15)
