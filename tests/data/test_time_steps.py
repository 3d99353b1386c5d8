"""Steps of times: which are regular, the next ones, and where gaps are."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.data.class_labels import ResponseRule
from bayes_moe.data.design import Design
from bayes_moe.data.observation import RowColumns
from bayes_moe.data.sequences import Sequences
from bayes_moe.data.time_steps import gap_in, series_steps


def steps(*series):
    """Steps of several series of times, one after the other."""
    codes = np.repeat(np.arange(len(series)), [len(s) for s in series])
    column = pd.concat([pd.Series(s) for s in series], ignore_index=True)
    return series_steps(column, Sequences.of(codes, len(codes)))


REGULAR = {
    "hours": ("2020-03-28 20:00", "h", "01:00:00"),
    "half hours": ("2020-01-01", "30min", "00:30:00"),
    "days": ("2020-02-27", "D", "1 days"),
    "weeks": ("2020-01-05", "W", "7 days"),
    "month starts": ("2020-01-01", "MS", "1 month"),
    "month ends": ("2020-01-31", "ME", "1 month"),
    "quarters": ("2020-01-01", "QS", "3 months"),
    "quarter ends": ("2020-03-31", "QE", "3 months"),
    "years": ("2015-01-01", "YS", "12 months"),
    "business days": ("2020-01-01", "B", "1 business day"),
    "business month ends": ("2020-01-31", "BME", "BME"),
}


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("name", REGULAR)
def test_regular_dates_go_on_as_those_of_pandas(name, zone):
    start, frequency, shown = REGULAR[name]
    dates = pd.date_range(start, periods=40, freq=frequency, tz=zone)
    (step,) = steps(dates[:20])
    assert str(step) in (shown, "1 day", "7 days")
    found = step.after(dates[19], 20)
    np.testing.assert_array_equal(found, dates[20:])
    column = pd.Series(dates)
    assert not step.breaks(column).any()
    assert step.breaks(column.drop(index=7)).sum() == 1


def test_days_follow_clocks_over_the_change_of_summer_time():
    days = pd.date_range("2020-03-20", "2020-04-05", freq="D", tz="Europe/Berlin")
    (step,) = steps(days)
    assert str(step) == "1 day"
    (before,) = steps(days[:5])
    np.testing.assert_array_equal(before.after(days[4], 12), days[5:])
    hours = pd.date_range("2020-10-24", periods=60, freq="h", tz="Europe/Berlin")
    (step,) = steps(hours[:10])
    np.testing.assert_array_equal(step.after(hours[9], 50), hours[10:])


def test_days_of_the_month_that_short_months_lack():
    dates = pd.to_datetime(["2021-01-30", "2021-02-28", "2021-03-30", "2021-04-30"])
    (step,) = steps(dates)
    assert (step.unit, step.anchor) == ("month", 30)
    assert list(step.after(dates[-1], 2)) == [
        pd.Timestamp("2021-05-30"),
        pd.Timestamp("2021-06-30"),
    ]
    ends = pd.to_datetime(["2021-02-28", "2021-03-31", "2021-04-30"])
    assert list(steps(ends)[0].after(ends[-1], 1)) == [pd.Timestamp("2021-05-31")]


def test_numbers():
    (step,) = steps(np.arange(1990, 2000))
    assert (str(step), step.after(np.int64(1999), 2).tolist()) == ("1", [2000, 2001])
    (step,) = steps(0.1 * np.arange(1000))
    np.testing.assert_allclose(step.after(99.9, 3), [100.0, 100.1, 100.2])
    (step,) = steps(np.round(1950 + np.arange(60) / 12, 3))
    assert step.size == pytest.approx(1 / 12, rel=1e-3)
    assert steps([0.0, 1.0, 3.0, 4.0]) == (None,)


def test_several_series():
    hours = pd.date_range("2020-01-01", periods=10, freq="h")
    days = pd.date_range("2020-01-01", periods=10, freq="D")
    assert [str(s) for s in steps(hours, hours[3:], hours[:1])] == ["01:00:00"] * 3
    assert [str(s) for s in steps(hours, days)] == ["01:00:00", "1 days"]
    assert steps(hours, hours.delete(4))[1] is None
    months = pd.date_range("2020-01-01", periods=5, freq="MS")
    assert [str(s) for s in steps(months, months[:2])] == ["1 month"] * 2
    assert steps(hours[:1]) == (None,)


@pytest.mark.parametrize(
    ("times", "gone", "usual"),
    [
        (pd.date_range("2020-01-01", periods=20, freq="MS"), 9, "1 month"),
        (pd.date_range("2020-01-01", periods=20, freq="h"), 3, "01:00:00"),
        (pd.date_range("2020-01-01", periods=20, freq="B"), 8, "1 business day"),
        (pd.Index(np.arange(20)), 5, "1"),
    ],
)
def test_gaps_are_found(times, gone, usual):
    assert gap_in(pd.Series(times.delete(gone))) == (gone, usual)


def test_periods_are_their_first_moments():
    months = pd.period_range("2020-01", periods=12, freq="M")
    table = pd.DataFrame({"m": months, "y": np.arange(12.0) ** 2})
    design = bm.mixture_of_experts("y ~ lag(y, 1)", experts=1, time="m").design(table)
    assert str(design.step) == "1 month"
    following = pd.DataFrame({"m": pd.period_range("2021-01", periods=1, freq="M")})
    assert design.transform(following).matrices["mu"].values[0, 1] == 121


def test_whole_series_are_in_the_matrices():
    table = pd.DataFrame({"t": [0, 0, 1, 1, 2, 2], "s": list("abbaab"), "x": np.arange(6.0)})
    table["y"] = table["x"] ** 2
    design = bm.mixture_of_experts("y ~ x", experts=1, time="t", series="s").design(table)
    sequences = design.rows.matrices["mu"].sequences
    np.testing.assert_array_equal(sequences.code, [0, 1, 1, 0, 0, 1])
    np.testing.assert_array_equal(sequences.order, [0, 3, 4, 1, 2, 5])
    assert design.rows.pick(slice(0, 3)).matrices["mu"].sequences is None
    assert design.transform(table.iloc[::-1]).sequences is None
    assert design.transform(table[["x"]]).sequences is None
    assert design.n_lost == 0
    new = table.assign(t=table["t"] + 3, s=table["s"].replace("b", "c"))
    np.testing.assert_array_equal(design.transform(new).observation.series, [0, 2, 2, 0, 0, 2])


def test_models_with_memory_read_every_row():
    rule = ResponseRule("y", row_columns=RowColumns(time="t", series="s", memory=True))
    table = pd.DataFrame({"t": np.tile(np.arange(10), 2), "s": np.repeat([*"ab"], 10)})
    table["y"] = np.random.default_rng(0).normal(size=20)

    def design(rows, missing="raise"):
        return Design.from_data(rule, {"mu": "~ 1"}, rows, missing=missing)

    fitted = design(table)
    following = table.iloc[10:13].assign(t=[10, 11, 12])
    rows = fitted.transform(following)
    assert rows.before.size == 10
    np.testing.assert_array_equal(rows.before.observation.series, 1)
    np.testing.assert_array_equal(rows.before.observed, table["y"][10:])
    assert rows.before.sequences is not None
    assert fitted.transform(following.assign(s="c")).before is None
    assert fitted.transform(table.iloc[4:8]).before.size == 4
    gap = table.assign(y=table["y"].mask(table.index == 14))
    with (
        pytest.warns(bm.MissingRowsWarning),
        pytest.raises(bm.DataError, match=r"row\(s\) 14 of series 'b' are between others"),
    ):
        design(gap, "drop")
    with pytest.raises(bm.DataError, match="A model with memory needs times in regular steps"):
        design(table.drop(index=3))
    for other in (following.iloc[1:], following.iloc[[0, 2]], table.iloc[[12, 15]]):
        with pytest.raises(bm.DataError, match=r"of series 'b'. comes after .* not one step"):
            fitted.transform(other)
