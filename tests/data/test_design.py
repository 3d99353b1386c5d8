"""The design: matrices from formulas, the same recipe on new rows, and nothing bad let through."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

from bayes_moe.core.errors import DataError, MissingRowsWarning, SpecError
from bayes_moe.data.design import Design

N = 24


def table(seed=0, n=N):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(3, 2, size=n),
            "z": rng.uniform(1, 5, size=n),
            "k": rng.permutation(np.arange(n) % 3),
            "b": rng.permutation(np.arange(n) % 2 == 0),
            "g": rng.permutation(np.array(["a", "b", "c"])[np.arange(n) % 3]),
        }
    )


def design(formula="~ x", data=None, response="y", **settings):
    data = table() if data is None else data
    return Design.from_data(response, {"mu": formula}, data, **settings)


def values(formula, data=None, **settings):
    matrix = design(formula, data, **settings).rows.matrices["mu"]
    return matrix.terms, matrix.values


T = table()
ONE = np.ones(N)
ORACLE = {  # formula: term names and columns by hand
    "~ 1": (["Intercept"], [ONE]),
    "~ x": (["Intercept", "x"], [ONE, T.x]),
    "~ 0 + x": (["x"], [T.x]),
    "~ x*b": (["Intercept", "x", "b", "x:b"], [ONE, T.x, T.b, T.x * T.b]),
    "~ g": (["Intercept", "g[T.b]", "g[T.c]"], [ONE, T.g == "b", T.g == "c"]),
    "~ 0 + g": (["g[a]", "g[b]", "g[c]"], [T.g == "a", T.g == "b", T.g == "c"]),
    "~ C(k)": (["Intercept", "C(k)[T.1]", "C(k)[T.2]"], [ONE, T.k == 1, T.k == 2]),
    "~ log(z) + I(x**2)": (["Intercept", "log(z)", "I(x ** 2)"], [ONE, np.log(T.z), T.x**2]),
    "~ x + x": (["Intercept", "x"], [ONE, T.x]),
}


@pytest.mark.parametrize("formula", ORACLE)
def test_matrices_are_what_the_formula_says(formula):
    terms, columns = ORACLE[formula]
    found, matrix = values(formula)
    assert list(found) == terms
    np.testing.assert_allclose(matrix, np.column_stack(columns), rtol=1e-12)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("formula", ["~ x + z", "~ 0 + x + z", "~ 1", "~ g*x"])
def test_standardised_features_and_the_way_back(formula, center):
    matrix = design(formula, center=center).rows.matrices["mu"]
    raw = np.random.default_rng(1).normal(size=(5, len(matrix.terms)))
    np.testing.assert_allclose(
        matrix.standardised @ raw.T, matrix.values @ (raw @ matrix.to_user).T, atol=1e-12
    )
    free = [j for j in range(len(matrix.terms)) if j != matrix.intercept]
    scaled = matrix.standardised[:, free]
    if matrix.intercept is None:
        np.testing.assert_allclose((scaled**2).mean(axis=0), 1)
    elif center:
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(scaled.std(axis=0), 1)
    else:
        assert np.all(matrix.center == 0)


@pytest.mark.parametrize("power", [-12, 0, 12])
def test_any_unit_gives_the_same_standardised_features(power):
    scaled = table().assign(x=table()["x"] * 10.0**power)
    found = design("~ x + I(x**2)", scaled).rows.matrices["mu"].standardised
    expected = design("~ x + I(x**2)").rows.matrices["mu"].standardised
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "index",
    [
        np.zeros(N, int),
        np.arange(N)[::-1],
        list("ab") * (N // 2),
        pd.MultiIndex.from_product([range(4), range(6)]),
    ],
    ids=["constant", "reversed", "text", "multi"],
)
def test_the_index_does_not_matter(index):
    data = table().set_axis(index, axis=0)
    found = design("~ x*g + bs(z, df=4)", data)
    expected = design("~ x*g + bs(z, df=4)")
    np.testing.assert_array_equal(
        found.rows.matrices["mu"].values, expected.rows.matrices["mu"].values
    )
    np.testing.assert_array_equal(found.rows.obs_id, np.arange(N))
    again = found.transform(data.iloc[[5, 2]])
    np.testing.assert_array_equal(
        again.matrices["mu"].values, expected.rows.matrices["mu"].values[[5, 2]]
    )


ODD = ["X", "y", "expert", "obs_id", "chain", "draw", "mu", "C", "log", "np", "I", "list", "id"]
ODD += ["my col", "größe", "日本", "a/b", "2x", "x.y", "for", "é", "a~b", "x:z", "a'b", "2", "None"]


@pytest.mark.parametrize("name", ODD)
def test_any_column_name_works(name):
    data = table().rename(columns={"x": name, "y": "y0"})
    quoted = name if name.isidentifier() and name not in ("for", "None") else f"`{name}`"
    matrix = design(f"~ {quoted} + z", data, response="y0").rows.matrices["mu"]
    assert matrix.terms == ("Intercept", name, "z")
    np.testing.assert_array_equal(matrix.values[:, 1], data[name])
    as_response = design("~ z", data, response=quoted)
    np.testing.assert_array_equal(as_response.response, data[name])
    new = as_response.transform({name: [2.0], "z": [1.0]}, with_response=True)
    assert new.observed.tolist() == [2.0]


def test_integer_column_names_are_strings_in_formulas():
    data = table()[["y", "x"]].rename(columns={"x": 0})
    assert design("~ `0`", data).transform({0: [1.5]}).matrices["mu"].values.tolist() == [
        [1.0, 1.5]
    ]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ one", "design column 'one' of 'mu' is constant .*1 in every row"),
        ("~ 0 + zero", "design column 'zero' of 'mu' is constant"),
        ("~ one + x", "design column 'one'"),
        ("~ x + twice", "'x' and 'twice' of 'mu' are duplicates"),
        ("~ x + minus", "'x' and 'minus' of 'mu' are duplicates"),
        ("~ x + shifted", "'x' and 'shifted' of 'mu' are duplicates"),
        ("~ g + same", r"'g\[T.b\]' and 'same\[T.b\]' of 'mu' are duplicates"),
        ("~ levels", r"'levels\[T.d\]' of 'mu' is 0 in every row.*remove_unused_categories"),
        ("~ single", "'single' is constant: every row has the category 'q'"),
        ("~ when", "Column 'when' holds dates, such as 2020-01-01"),
        (
            "~ mixed",
            r"'mixed' is neither all numbers nor all text: .* row 0, 'x' \(str\) at row 3",
        ),
        ("~ huge", "design column 'huge' of 'mu' has values up to 1e\\+200.*Change the unit"),
        ("~ tiny", "design column 'tiny' of 'mu' .*Change the unit"),
        ("~ far", "design column 'far' of 'mu' is constant up to rounding"),
        (
            "~ gap",
            r"Column 'gap' has 2 missing value\(s\), first at row\(s\) 1, 5\..*missing='drop'",
        ),
        ("~ inf", r"Column 'inf' has 1 infinite value\(s\), first at row\(s\) 4"),
        ("~ none", r"Column 'none' has 1 missing value\(s\), first at row\(s\) 2"),
        ("~ nope", "Unknown column 'nope'. Did you mean 'none'"),
    ],
)
def test_bad_columns_are_named(formula, message):
    data = table()
    data = data.assign(
        one=1.0, zero=0.0, twice=2 * data.x, minus=-data.x, shifted=data.x + 7, same=data.g,
        levels=pd.Categorical(data.g, categories=list("abcd")), single="q",
        when=pd.date_range("2020", periods=N), huge=1e200 * (data.x > 3), tiny=1e-200 * data.x,
        far=1e14 + data.x, gap=data.x.where(~data.index.isin([1, 5])),
        inf=data.x.where(data.index != 4, np.inf),
        none=data.g.astype(object).where(data.index != 2, None),
        mixed=data.x.astype(object).where(data.index != 3, "x"),
    )  # fmt: skip
    with pytest.raises(DataError, match=message):
        design(formula, data)
    design("~ x + z", data)  # what is not used does not matter


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("g", "response 'g' holds categories, such as 'a'; it must be numeric"),
        ("cat", "response 'cat' holds categories"),
        ("when", "response 'when' holds dates"),
        ("text", "response 'text' holds categories, such as '1.5'"),
        ("poly(y, 2)", r"response 'poly\(y, 2\)' makes 2 columns"),
        ("log(y - 100)", r"term 'log\(y - 100\)' is not finite in 24 row\(s\)"),
        ("nope", "Unknown column 'nope'"),
    ],
)
def test_bad_responses_are_named(response, message):
    data = table()
    data = data.assign(
        cat=data.g.astype("category"), when=pd.date_range("2020", periods=N), text="1.5"
    )
    data["g"] = ["a", *data["g"][1:]]
    with pytest.raises(DataError, match=message):
        design("~ x", data, response=response)
    with pytest.raises(SpecError, match=r"reaches for 'y.mean'.*center"):
        design("~ x", data, response="I(y - y.mean())")


@pytest.mark.parametrize("formula", ["~ y", "~ x + I(y**2)", "~ x:y"])
def test_a_response_is_not_its_own_feature(formula):
    with pytest.raises(SpecError, match="response cannot be its own feature"):
        design(formula)
    # A rate may have its denominator among the features.
    design("~ x", response="I(y / x)")


@pytest.mark.parametrize(("rows", "message"), [(0, r"0 row\(s\)"), (1, r"1 row\(s\).*at least 2")])
def test_too_few_rows(rows, message):
    with pytest.raises(DataError, match=message):
        design(data=table().iloc[:rows])


def test_missing_rows_are_dropped_on_request_and_counted():
    data = table()
    data.loc[[3, 7], "x"] = np.nan
    data["g"] = data["g"].astype(object).where(data.index != 10, None)
    data["z"] = np.nan  # not used
    with pytest.warns(MissingRowsWarning, match="left out 3 of 24 rows.*'x', 'g'") as caught:
        found = design("~ x + g", data, missing="drop")
    assert caught[0].filename == __file__
    assert found.n_dropped == 3
    kept = [i for i in range(N) if i not in (3, 7, 10)]
    assert found.rows.obs_id.tolist() == kept
    np.testing.assert_array_equal(found.response, data["y"][kept])
    data["z"] = 1.0
    data.loc[11, "z"] = -1.0
    with pytest.warns(MissingRowsWarning), pytest.raises(DataError, match=r"first at row\(s\) 11"):
        design("~ x + g + log(z)", data, missing="drop")


@pytest.mark.parametrize(
    ("data", "missing", "error", "message"),
    [
        (table().assign(x=np.nan), "drop", DataError, "would leave 0 of 24 rows.*in 'x'"),
        (table().assign(x=[np.inf] + [1.0] * 23), "drop", DataError, "'x' has 1 infinite"),
        (table(), "dropp", SpecError, "'dropp'. Did you mean 'drop'"),
        (table(), None, SpecError, "None. Valid: 'drop', 'model', 'raise'"),
    ],
)
def test_missing_means_raise_or_drop(data, missing, error, message):
    with pytest.raises(error, match=message):
        design(data=data, missing=missing)


FORMULA = "~ x + g + C(k, contr.sum) + level + bs(z, df=4)"


def fitted():
    return design(FORMULA, table().assign(level=pd.Categorical(table(1).k * 10)))


NEW = {"x": [1.0, 2.0], "g": ["b", "a"], "k": [0, 2], "level": [10, 0], "z": [2.0, 3.0]}


def test_new_rows_of_any_kind_are_seen_alike():
    whole = fitted()
    expected = whole.transform(NEW).matrices["mu"].values
    assert expected.shape == (2, len(whole.rows.matrices["mu"].terms))
    floats = {**NEW, "k": [0.0, 2.0], "level": [10.0, 0.0]}
    levels = {**NEW, "g": pd.Categorical(["b", "a"], categories=["b", "a"], ordered=True)}
    for new in (
        pd.DataFrame(NEW, index=[9, 9]),
        floats,
        levels,
        {**NEW, "y": ["?", "?"], "w": [[], {}]},
    ):
        np.testing.assert_array_equal(whole.transform(new).matrices["mu"].values, expected)
    one = whole.transform({name: column[1:] for name, column in NEW.items()})
    np.testing.assert_array_equal(one.matrices["mu"].values, expected[1:])
    none = whole.transform({name: [] for name in NEW})
    assert none.matrices["mu"].values.shape == (0, expected.shape[1])
    assert whole.transform(None) is whole.rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": [1.0, np.nan]},
            r"'x' has 1 missing value\(s\), first at row\(s\) 1. Fill or remove",
        ),
        ({"x": [1.0, np.inf]}, r"'x' has 1 infinite value\(s\), first at row\(s\) 1"),
        ({"x": ["1", "2"]}, "'x' holds categories here, such as '1' at row 0, but numbers"),
        ({"x": pd.date_range("2020", periods=2)}, "'x' holds dates here"),
        ({"g": [1, 2]}, "'g' holds numbers here, such as 1 at row 0, but categories"),
        (
            {"g": ["a", "A"]},
            r"'g' .* not: 'A' \(first at row 1\). Did you mean 'a'.*Known: 'a', 'b'",
        ),
        ({"k": [0, 9]}, r"'k' .* not: 9 \(first at row 1\).*Known: 0, 1, 2"),
        ({"k": ["0", "1"]}, "'k' holds categories here"),
        ({"level": [10, 11]}, r"'level' .* not: 11 \(first at row 1\).*Known: 0, 10, 20"),
        ({"level": ["10", "0"]}, "'level' .* not: '10', '0'"),
        ({"z": [2.0, 99.0]}, "bounds.*extrapolation.*First at row 1"),
        ({"x": None}, "Unknown column 'x'.*The model needs it"),
    ],
)
def test_new_rows_that_cannot_be_seen(change, message):
    whole = fitted()
    expected = whole.transform(NEW).matrices["mu"].values
    new = {k: v for k, v in {**NEW, **change}.items() if v is not None}
    with pytest.raises(DataError, match=message):
        whole.transform(new)
    # A refusal changes nothing in what the design remembers.
    np.testing.assert_array_equal(whole.transform(NEW).matrices["mu"].values, expected)


def test_a_response_of_new_rows_is_asked_for():
    found = design("~ x", response="log(z)")
    rows = found.transform({"x": [1.0], "z": [np.e]}, with_response=True)
    np.testing.assert_allclose(rows.observed, 1)
    with pytest.raises(DataError, match="no response"):
        _ = found.transform({"x": [1.0]}).observed
    for z, message in [("a", "'z' holds categories here"), (-1.0, r"'log\(z\)' is not finite")]:
        with pytest.raises(DataError, match=message):
            found.transform({"x": [1.0], "z": [z]}, with_response=True)
    with pytest.raises(DataError, match="Unknown column 'z'"):
        found.transform({"x": [1.0]}, with_response=True)


def test_formulas_without_columns_count_the_rows():
    found = design("~ 1")
    assert found.transform({"other": [1, 2, 3]}).matrices["mu"].values.tolist() == [[1.0]] * 3
    assert found.transform(table()[[]]).size == N


def test_a_table_without_response_may_hold_anything_still():
    found = Design.from_data(None, {"mu": "~ x"}, {"x": [2.0]})
    assert found.rows.matrices["mu"].values.tolist() == [[1.0, 2.0]]
    with pytest.raises(DataError, match="0 row"):
        Design.from_data(None, {"mu": "~ x"}, {"x": []})


def test_nothing_is_written_into_the_users_table():
    data = table().assign(o=table(1).x.astype(object), s=table(2).x.astype("Float64"))
    data["mixed"] = ["?", *data.x[1:]]
    data.attrs["mine"] = [1]
    arrays = {name: data[name].to_numpy() for name in ("y", "x", "g", "z")}
    before = copy.deepcopy((data, arrays))
    found = design("~ x*g + o + s + C(k) + bs(z, df=4)", data)
    found.transform(data, with_response=True)
    with pytest.raises(DataError):
        design("~ mixed", data)
    design("~ x + g", arrays)
    pd.testing.assert_frame_equal(data, before[0])
    assert data.attrs == {"mine": [1]}
    for name, column in arrays.items():
        np.testing.assert_array_equal(column, before[1][name])


def test_a_design_can_be_sent_to_another_process():
    again = pickle.loads(pickle.dumps(fitted()))
    np.testing.assert_array_equal(
        again.transform(NEW).matrices["mu"].values, fitted().transform(NEW).matrices["mu"].values
    )


def test_no_warning_of_a_library_leaks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError):
            design("~ log(x - 100)")
        design("~ poly(x, 3) + C(g):z")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ g*h", r"'g\[T.b\]:h\[T.v\]' of 'mu' is 0 in every row: a combination of these categ"),
        ("~ C(k):g", r"a combination of these categories is in no row.*Write \+ in place of"),
        ("~ length", "Column 'length' holds durations, such as 0 days .*total_seconds"),
        ("~ day", r"Column 'day' holds dates, such as .*write time\(day\).*or make a col"),
        ("~ x + who", r"Unknown column 'who'.*'who' is the table's index.*reset_index\(\)"),
        ("~ log(who)", r"reset_index\(\)"),
        ("~ I(length)", r"'I\(length\)' holds durations, not numbers"),
    ],
)
def test_columns_that_are_something_else_are_named(formula, message):
    data = table().assign(h=np.where(table().g == "b", "u", np.array(["u", "v"])[np.arange(N) % 2]))
    data["k"] = data.g.map({"a": 0, "b": 1, "c": 2})
    data["length"] = pd.to_timedelta(np.arange(N), unit="D")
    data["day"] = pd.date_range("2020", periods=N)
    data.index = pd.Index(np.arange(N) + 5.0, name="who")
    with pytest.raises(DataError, match=message):
        design(formula, data)


@pytest.mark.parametrize(
    "formula", ["~ g*h", "~ 0 + h*g", "~ g:h", "~ g + g:h", "~ x + g*C(k, contr.sum)"]
)
@pytest.mark.parametrize("empty", [("a", "u"), ("a", "v"), ("b", "u"), ("b", "v")])
@pytest.mark.parametrize("n_categories", [2, 3])
def test_whichever_combination_of_categories_is_in_no_row_is_told(formula, empty, n_categories):
    g, h = (
        np.array([*"abc"])[np.arange(60) % n_categories],
        np.array([*"uv"])[np.arange(60) // 6 % 2],
    )
    data = pd.DataFrame({"g": g, "h": h, "k": (h == "v") + 1, "x": np.arange(60.0)})
    data["y"] = np.sin(data.x)
    assert np.isfinite(design(formula, data).rows.matrices["mu"].values).all()
    data = data[(g != empty[0]) | (h != empty[1])]
    with pytest.raises(DataError, match=r"a combination of these categories is in no row\. Write"):
        design(formula, data)


def test_new_rows_with_a_column_in_the_index_are_told():
    found = design("~ x")
    new = pd.DataFrame({"z": [1.0], "x": [2.0]}).set_index("x")
    with pytest.raises(DataError, match=r"Unknown column 'x'.*reset_index\(\)"):
        found.transform(new)
