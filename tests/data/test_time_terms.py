"""Terms of the rows before, held to pandas: fitted tables, tables that follow, and errors."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.ar_model import AutoReg

import bayes_moe as bm
from bayes_moe.data.time_terms import TimeTerm, time_terms
from tests.support.given_draws import fit_with

FORMULA = (
    "y ~ lag(y, 1) + lag(log(x), k=2) + diff(x) + diff(y, 3) + rolling(x, 4) + "
    "rolling(x, 3, 'sd') + rolling(x, 2, 'min') + rolling(x, n=2, how='max') + "
    "rolling(log(`x 2`), 5, 'sum')"
)


def panel():
    """Two monthly series, their rows in turn, the second shorter than the first."""
    rng = np.random.default_rng(7)
    months = pd.date_range("2001-01-01", periods=40, freq="MS")
    parts = [
        pd.DataFrame({"date": months, "id": "a"}),
        pd.DataFrame({"date": months[13:], "id": "b"}),
    ]
    table = pd.concat(parts).sort_values(["date", "id"], ignore_index=True)
    n = len(table)
    return table.assign(
        y=rng.normal(size=n), x=rng.uniform(1, 2, size=n), **{"x 2": rng.uniform(1, 2, size=n)}
    )


def shifted(table):
    """The columns of the formula, by pandas."""
    of = table.groupby("id")
    log = {name: np.log(table[name]).groupby(table["id"]) for name in ("x", "x 2")}
    before = {name: of[name].shift(1).groupby(table["id"]) for name in ("x", "y")}

    def rolled(values, n, how):
        return getattr(values.rolling(n), how)().droplevel(0).sort_index()

    return pd.DataFrame(
        {
            "lag(y, 1)": of["y"].shift(1),
            "lag(log(x), k=2)": log["x"].shift(2),
            "diff(x)": before["x"].diff(),
            "diff(y, 3)": before["y"].diff(3),
            "rolling(x, 4)": rolled(before["x"], 4, "mean"),
            "rolling(x, 3, 'sd')": rolled(before["x"], 3, "std"),
            "rolling(x, 2, 'min')": rolled(before["x"], 2, "min"),
            "rolling(x, n=2, how='max')": rolled(before["x"], 2, "max"),
            "rolling(log(`x 2`), 5, 'sum')": rolled(
                log["x 2"].shift(1).groupby(table["id"]), 5, "sum"
            ),
        }
    )


def described(formula, **more):
    return bm.mixture_of_experts(formula, experts=1, **({"time": "date", "series": "id"} | more))


@pytest.fixture(scope="module")
def design():
    return described(FORMULA).design(panel())


def test_terms_are_those_of_pandas(design):
    wanted = shifted(panel()).dropna()
    matrix = design.rows.matrices["mu"]
    np.testing.assert_array_equal(design.rows.obs_id, wanted.index)
    for name in wanted:
        np.testing.assert_allclose(
            matrix.values[:, matrix.terms.index(name)], wanted[name], atol=1e-12
        )
    assert design.n_lost == 10 == 67 - design.rows.size
    assert design.past.lost == {"a": 5, "b": 5}


def test_rows_may_be_in_any_order_between_series(design):
    table = panel().sort_values(["id", "date"], ascending=[False, True], ignore_index=True)
    other = described(FORMULA).design(table).rows
    by_row = {
        tuple(table.loc[at, ["date", "id"]]): row
        for at, row in zip(other.obs_id, other.matrices["mu"].values, strict=True)
    }
    first = panel().loc[design.rows.obs_id, ["date", "id"]]
    found = np.array([by_row[tuple(row)] for row in first.itertuples(index=False)])
    np.testing.assert_array_equal(found, design.rows.matrices["mu"].values)


def test_windows_make_the_same_values_for_many_paths():
    paths = np.random.default_rng(1).normal(size=(20, 3, 2))
    for term in time_terms(["~ lag(y, 2) + diff(y, 4) + rolling(y, 6, 'sd') + rolling(y, 3)"]):
        along = np.array([[term.along(paths[:, i, j]) for j in range(2)] for i in range(3)])
        for row in (term.reach, 12, 19):
            window = paths[row - term.reach : row + 1]
            np.testing.assert_allclose(term.of(window), along[..., row], atol=1e-14)
        assert np.isnan(along[..., : term.reach]).all()
        assert not np.isnan(along[..., term.reach :]).any()


def test_what_a_term_says_of_itself():
    (term,) = time_terms(["~ I(rolling(log(y + 1), 7, 'max') ** 2):x"])
    assert term == TimeTerm(
        "rolling(log(y + 1), 7, 'max')", "log(y + 1)", ("y",), "rolling", 7, "max"
    )
    assert term.reach == 7
    assert time_terms(["~ lag(y)"], ["lag(y)"]) == ()


def test_terms_inside_other_terms_and_formulas():
    spec = described(
        "log(x) ~ I(lag(y, 1) ** 2) + bs(lag(x, 1), df=4) + lag(y, 2):`x 2` + log(lag(x, 1))",
        sigma="~ lag(y, 1)",
    )
    design, table = spec.design(panel()), panel()
    of, at = table.groupby("id"), design.rows.obs_id
    matrix = design.rows.matrices["mu"]
    lag = of["y"].shift(1)[at].to_numpy()
    column = {t: matrix.values[:, j] for j, t in enumerate(matrix.terms)}
    np.testing.assert_allclose(column["I(lag(y, 1) ** 2)"], lag**2)
    np.testing.assert_allclose(column["lag(y, 2):x 2"], (of["y"].shift(2) * table["x 2"])[at])
    np.testing.assert_allclose(column["log(lag(x, 1))"], np.log(of["x"].shift(1))[at])
    assert sum(t.startswith("bs(lag(x, 1)") for t in matrix.terms) == 4
    np.testing.assert_array_equal(design.rows.matrices["sigma"].values[:, 1], lag)


def test_an_autoregression_is_that_of_statsmodels():
    table = panel()
    table = table[table["id"] == "a"].reset_index(drop=True)
    fit = bm.fit(
        bm.mixture_of_experts(
            "y ~ lag(y, 1) + lag(y, 2)",
            experts=1,
            time="date",
            priors={"mu_coef": bm.Prior("Normal", mu=0, sigma=1e6)},
        ),
        table,
        "em",
        random_seed=1,
    )
    wanted = AutoReg(table["y"].to_numpy(), lags=2).fit()
    found = fit.idata["posterior"]["mu_coef"].values.ravel()
    np.testing.assert_allclose(found, wanted.params, atol=1e-6)
    assert "(2 without earlier rows)" in repr(fit)
    assert "2 first rows" in bm.diagnose(fit).verdict


# --- other tables --------------------------------------------------------------------------------


def same(design, table, at):
    """Whether rows of a table have the features that the fitted rows have at positions."""
    found = design.transform(table).matrices["mu"].values
    where = np.searchsorted(design.rows.obs_id, at)
    np.testing.assert_allclose(found, design.rows.matrices["mu"].values[where], atol=1e-12)


def test_rows_of_the_fitted_table_find_their_past(design):
    table, kept = panel(), design.rows.obs_id
    same(design, table.loc[kept], kept)
    some = np.random.default_rng(3).permutation(kept)[:20]
    same(design, table.loc[some], some)
    same(design, table.loc[kept].drop(columns="y"), kept)
    with pytest.raises(
        bm.DataError,
        match=r"rolling\(log\(`x 2`\), 5, 'sum'\)\" needs 5 row\(s\) before a row; there are 0 "
        r"before row 0 \(2001-01-01 00:00:00 of series 'a'\).*10 row\(s\) have too few: 0, 1, 2",
    ):
        design.transform(table)


def test_a_table_goes_on_where_the_fitted_rows_end():
    table = panel()
    first = table[table["date"] < "2004-01-01"]
    design, whole = described(FORMULA).design(first), described(FORMULA).design(table)
    rest = table[table["date"] >= "2004-01-01"].iloc[::-1]
    found = design.transform(rest).matrices["mu"].values
    where = np.searchsorted(whole.rows.obs_id, rest.index)
    np.testing.assert_allclose(found, whole.rows.matrices["mu"].values[where], atol=1e-12)


def test_a_new_series_has_rows_of_its_own(design):
    table = panel()
    new = table[table["id"] == "a"].assign(id="c")
    with pytest.raises(bm.DataError, match=r"of series 'c'.*5 row\(s\) have too few"):
        design.transform(new)
    given = shifted(table)[table["id"] == "a"]
    whole = pd.concat([new, given], axis=1).dropna()
    at = whole.index
    same(design, whole, at)  # the columns of terms themselves
    same(design, whole.drop(columns=["date", "id"]), at)


def test_other_tables_without_their_past(design):
    table = panel()
    last = table[table["date"] == table["date"].max()]
    following = last.assign(date=last["date"] + pd.offsets.MonthBegin(1))
    assert design.transform(following.drop(columns="y")).size == 2
    later = last.assign(date=last["date"] + pd.offsets.MonthBegin(2))
    two = pd.concat([following, later]).drop(columns="y")
    twice = pd.concat([following, following.assign(y=9.0), later])
    for message, other in {
        "regular steps of 1 month: 2004-06-01 00:00:00 comes after 2004-04-01": later,
        r"'lag\(y, 1\)' at row 2 needs 'y' at 2004-05-01 00:00:00 of series 'a', which n": two,
        "rows of one time with different values": twice,
        r"Unknown column 'date'.*'lag\(y, 1\)' needs it": last.drop(columns="date"),
        "The times 'date' hold numbers here, but dates": last.assign(date=3.0),
        "have a time zone here": last.assign(date=last["date"].dt.tz_localize("UTC")),
    }.items():
        with pytest.raises(bm.DataError, match=message):
            design.transform(other)


def test_fits_are_saved_with_all_rows_in_time(tmp_path):
    table = panel().assign(date=lambda t: t["date"].dt.tz_localize("Europe/Berlin"))
    table.loc[40, "y"] = np.nan
    spec = described("y ~ lag(y, 2) + lag(x, 4) + trend(date) + season(date, '1Y', order=2)")
    with pytest.warns(bm.MissingRowsWarning, match="left out 2 of"):
        fit = bm.fit(spec, table, "em", missing="drop", random_seed=1)
    assert "(2 dropped, 8 without earlier rows)" in repr(fit)
    bm.save(fit, tmp_path / "fit.nc")
    again = bm.load(tmp_path / "fit.nc")
    assert repr(again) == repr(fit)
    own, its = again.design, fit.design
    assert own.past.lost == its.past.lost
    assert own.step == its.step
    assert own.time_terms == its.time_terms
    pd.testing.assert_frame_equal(own.past.timeline.table, its.past.timeline.table)
    for name in ("time", "series"):
        np.testing.assert_array_equal(
            getattr(own.rows.observation, name), getattr(its.rows.observation, name)
        )
    last = table.groupby("id").tail(1)
    following = last.assign(date=last["date"] + pd.DateOffset(months=1)).drop(columns=["y"])
    np.testing.assert_array_equal(
        bm.predict(again, following).mean(), bm.predict(fit, following).mean()
    )


def test_a_fit_says_that_the_row_itself_is_not_in():
    spec = described("y ~ rolling(x, 3) + diff(x, 2) + rolling(y, 2) + lag(x, 1)")
    fit = fit_with(spec, panel(), mu_coef=np.zeros((1, 1, 5)), sigma=np.ones((1, 1)))
    shown = repr(fit).splitlines()[-1]
    assert shown == (
        "rows before: rolling(x, 3) is the mean of x in the 3 rows before, without the row itself; "
        "diff(x, 2) is the change of x in the 2 step(s) up to the row before, without the row "
        "itself"
    )
    assert fit.design.time_terms[-1].words == "x of the row before"


def test_rows_without_a_lag_are_dropped_and_rows_without_weight_are_the_past():
    table = panel()
    gap = table.assign(y=table["y"].mask(table.index == 30))
    with pytest.raises(bm.DataError, match="'y' has 1 missing value"):
        described("y ~ lag(y, 1)").design(gap)
    with pytest.warns(bm.MissingRowsWarning, match="left out 2 of"):
        dropped = described("y ~ lag(y, 1)").design(gap, missing="drop")
    after = table.index[(table["id"] == table.loc[30, "id"]) & (table.index > 30)][0]
    assert not {30, after} & {*dropped.rows.obs_id}
    assert (dropped.n_dropped, dropped.n_lost) == (2, 2)
    weighted = table.assign(w=(table.index != 30).astype(float))
    rows = described("y ~ lag(y, 1)", weights="w").design(weighted).rows
    at = int(np.flatnonzero(rows.obs_id == after)[0])
    assert rows.columns["lag(y, 1)"].iloc[at] == table.loc[30, "y"]
    assert 30 not in rows.obs_id


def test_simulation_and_plots():
    table = panel()
    drawn = bm.simulate(described("y ~ lag(x, 2)"), table, random_seed=1)
    assert len(drawn) == len(table) - 4
    assert drawn["y"].notna().all()
    spec = described("y ~ lag(y, 1) + x")
    with pytest.raises(bm.DataError, match=r"Unknown feature 'y'. Valid: 'lag\(y, 1\)', 'x'"):
        bm.plot_predictive(bm.fit(spec, table, "em", random_seed=1), feature="y")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ lag(lag(y, 1), 1)", r"'lag\(y, 1\)' inside lag\(\): one of them looks back"),
        ("y ~ lag(y, 0)", "would look at the row itself"),
        ("y ~ diff(y, -1)", "would look at later rows"),
        ("y ~ lag(y, 1.5)", "must be a whole number from 1"),
        ("y ~ lag(bs(x, df=4), 1)", r"has bs\(\) inside lag\(\).*write bs\(lag\(\.\.\.\)\)"),
        ("y ~ lag(2, 1)", r"lag\(\) of no column"),
        ("y ~ rolling(y)", "needs the argument 'n'"),
        ("y ~ rolling(y, 1, 'sd')", "standard deviation of one row"),
        ("y ~ rolling(y, 3, 'median')", "must be 'mean' or 'sd'"),
        ("lag(y, 1) ~ x", r"The response cannot have 'lag\(y, 1\)'"),
        ("y ~ lead(y, 1)", "it would look at later rows"),
    ],
)
def test_terms_that_cannot_be(formula, message):
    with pytest.raises(bm.SpecError, match=message):
        described(formula)


def test_terms_need_the_order_of_rows():
    with pytest.raises(
        bm.SpecError, match=r"'lag\(y, 1\)' is of the rows before: say which.*time="
    ):
        bm.mixture_of_experts("y ~ lag(y, 1)", experts=1)
    with pytest.raises(bm.SpecError, match="The weight cannot have"):
        described("y ~ x", weights="lag(x, 1)")


def test_tables_whose_times_cannot_be():
    table, spec = panel(), described("y ~ lag(y, 13)")
    for wrong, message in [
        (table.drop(index=20), r"series 'b' the step is mostly 1 month, but .* comes after"),
        (table.iloc[::-1], r"of series 'b' is 2004-03-01.*at row 2, after.*Sort the table"),
        (pd.concat([table, table.iloc[[-1]]]), "Leave out one of the rows"),
        (table.assign(date=table["date"].astype(str)), "such as '2001-01-01'.*to_datetime"),
        (table.assign(date=table["date"].mask(table.index == 3)), "1 missing value.*row 3"),
        (table.iloc[:30], r"needs 13 row\(s\) before a row; the series 'b' has only \d row"),
        (table.assign(y="a"), "must be numeric|column of numbers"),
    ]:
        with pytest.raises(bm.DataError, match=message):
            spec.design(wrong)
    with pytest.raises(bm.DataError, match="Leave out one of the rows, or say by series="):
        bm.mixture_of_experts("y ~ lag(y, 1)", experts=1, time="date").design(table)


def test_patterns_of_columns_take_no_terms():
    spec = described("y ~ cols('[lx]*') + lag(x, 1)")
    assert spec.design(panel()).rows.matrices["mu"].terms == ("Intercept", "x", "x 2", "lag(x, 1)")
