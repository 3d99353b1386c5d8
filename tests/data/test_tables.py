"""The door for data: what is a table, what is a column, and what is refused."""

import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_moe.core.errors import DataError
from bayes_moe.data.tables import check_known, check_size, complete_rows, kind, plain, to_pandas

PLAIN = pd.DataFrame({"x": [1.0, 2.5, 4.0], "k": [3, 1, 3], "g": ["a", "é b", "a"]})


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        pl.DataFrame(PLAIN.to_dict("list")),
        pl.DataFrame(PLAIN.to_dict("list")).to_arrow(),
        PLAIN.to_dict("list"),
        {name: PLAIN[name].to_numpy() for name in PLAIN},
        {name: tuple(PLAIN[name]) for name in PLAIN},
        {name: pl.Series(PLAIN[name].tolist()) for name in PLAIN},
        {name: PLAIN[name].set_axis([7, 7, 7]) for name in PLAIN},
        PLAIN.to_xarray(),
    ],
    ids=["pandas", "polars", "arrow", "lists", "arrays", "tuples", "series", "index", "xarray"],
)
def test_every_supported_table_reads_the_same(data):
    table = plain(to_pandas(data)).reset_index(drop=True)
    pd.testing.assert_frame_equal(table[list(PLAIN)], PLAIN)


LABELS = {
    "whole": [4, 2, 9, 7],
    "default": pd.RangeIndex(4),
    "text": list("dbca"),
    "dates": pd.date_range("2024-01-01", periods=4)[[2, 0, 3, 1]],
    "zones": pd.date_range("2024-01-01", periods=4, tz="Asia/Tokyo")[[2, 0, 3, 1]],
    "floats": [0.5, -1.0, 2.0, np.nan],
    "mixed": [1, "b", 2.5, "a"],
    "pairs": pd.MultiIndex.from_tuples([("a", 2), ("a", 1), ("b", 1), ("b", 2)]),
    "categories": pd.CategoricalIndex(list("dbca")),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_series_of_a_dict_are_paired_by_their_labels(labels, order):
    table = pd.DataFrame({"x": [1.0, 2, 3, 4], "k": [5, 6, 7, 8], "g": list("uvwx")}, labels)
    series = {"x": table["x"], "k": table["k"].iloc[order], "g": table["g"].iloc[order[::-1]]}
    read = to_pandas(series)
    pd.testing.assert_frame_equal(read, table)
    if labels is not LABELS["mixed"]:  # pandas sorts labels, and cannot sort these
        oracle = pd.DataFrame(series)
        pd.testing.assert_frame_equal(
            read.sort_values("x").reset_index(drop=True),
            oracle.sort_values("x").reset_index(drop=True),
        )


def test_any_two_orders_of_labels_are_paired_as_pandas_does():
    rng = np.random.default_rng(0)
    for n in (1, 2, 10, 500):
        table = pd.DataFrame(rng.normal(size=(n, 3)), rng.permutation(3 * n)[:n], list("abc"))
        series = {name: table[name].iloc[rng.permutation(n)] for name in table}
        read, oracle = to_pandas(series), pd.DataFrame(series)
        assert read.index.equals(series["a"].index)
        pd.testing.assert_frame_equal(read.sort_index(), oracle.sort_index())


def test_data_arrays_are_paired_by_their_coordinates():
    import xarray as xr

    x = xr.DataArray([1.0, 2, 3], {"row": [7, 8, 9]}, ("row",))
    y = xr.DataArray([30.0, 10, 20], {"row": [9, 7, 8]}, ("row",), name="other")
    table = to_pandas({"x": x, "y": y, "z": pd.Series([200, 300, 100], [8, 9, 7])})
    assert table.to_dict("list") == {"x": [1, 2, 3], "y": [10, 20, 30], "z": [100, 200, 300]}
    assert table.index.tolist() == [7, 8, 9]
    oracle = xr.Dataset({"x": x, "y": y}).to_dataframe()
    pd.testing.assert_frame_equal(table[["x", "y"]], oracle, check_names=False)
    without = to_pandas({"x": x, "y": xr.DataArray([30.0, 10, 20], dims="row")})
    assert without["y"].tolist() == [30, 10, 20]


def test_columns_without_labels_are_paired_by_position():
    index = [5, 3, 3]
    x = pd.Series([1, 2, 3], index)
    others = {
        "array": np.array([4, 5, 6]),
        "list": [4, 5, 6],
        "polars": pl.Series([4, 5, 6]),
        "index": pd.Index([4, 5, 6]),
        "extension": pd.array([4, 5, 6]),
        "same": pd.Series([4, 5, 6], index),
    }
    table = to_pandas({"x": x, **others})
    assert table.index.tolist() == index
    assert all(table[name].tolist() == [4, 5, 6] for name in others)
    assert to_pandas(others).index.tolist() == index
    assert to_pandas({"array": [1, 2]}).index.equals(pd.RangeIndex(2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"x": pd.Series([1, 2, 3]), "y": pd.Series([1, 2, 3], [1, 2, 3])},
            r"Columns 'x' and 'y' of the dict have different row labels: 2 labels are in one "
            r"column only, such as 0, 3\. Give one DataFrame, .*by position.*\(\.to_numpy\(\)\)",
        ),
        (
            {"x": pd.Series([1, 2], ["0", "1"]), "y": pd.Series([1, 2])},
            "'x' and 'y'.* 4 labels are in one column only, such as '0', '1', 0",
        ),
        (
            {"x": pd.Series([1, 2]), "z": pd.Series([1, 2]), "y": pd.Series([1, 2], [1, 2])},
            "'x' and 'y'.* 2 labels",
        ),
        (
            {"x": pd.Series([1, 2, 3], [5, 5, 6]), "y": pd.Series([1, 2, 3], [5, 6, 5])},
            "'x' and 'y'.* different orders, and some labels occur twice, such as 5",
        ),
        (
            {"x": pd.Series([1, 2]), "w": [3, 4], "y": pd.Series([1, 2], [1, 0])},
            "'x' and 'y'.* in different orders, and 'w' has no labels",
        ),
        (
            {"x": pd.Series([1, 2, 3]), "y": pd.Series([1, 2], [1, 0])},
            r"equally long; lengths: \{'x': 3, 'y': 2\}",
        ),
    ],
)
def test_rows_of_a_dict_that_cannot_be_paired_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        to_pandas(data)


def test_a_dict_keeps_categories_and_masks():
    levels = pd.Categorical(["b", "a"], categories=["b", "a"], ordered=True)
    table = to_pandas({"g": levels, "m": np.ma.array([1.0, 2.0], mask=[False, True])})
    assert table["g"].cat.ordered
    assert list(table["g"].cat.categories) == ["b", "a"]
    assert table["m"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "Cannot read a table from 'NoneType'"),
        ("tone", "Cannot read a table from 'str'"),
        (np.ones((3, 2)), "from 'ndarray': give a pandas or polars DataFrame"),
        ([{"x": 1}], "from 'list'"),
        (PLAIN["x"], "from 'Series'"),
        (pl.DataFrame({"x": [1]}).lazy(), "from 'LazyFrame'.*eager"),
        ({"x": [1, 2], "y": [1, 2, 3]}, r"equally long; lengths: \{'x': 2, 'y': 3\}"),
        ({"x": 1.0}, r"'x' has the shape \(\)"),
        ({"x": None}, r"'x' has the shape \(\)"),
        ({"x": np.ones((3, 2, 1))}, r"'x' has the shape \(3, 2, 1\)"),
        ({0: [1], "0": [2]}, "Duplicate column names: '0'"),
        (pd.concat([PLAIN, PLAIN[["x"]]], axis=1), "Duplicate column names: 'x'"),
        (pd.DataFrame(np.ones((2, 2)), columns=[["u", "u"], ["x", "y"]]), "have 2 levels.*flatten"),
    ],
)
def test_what_is_no_table(data, message):
    with pytest.raises(DataError, match=message):
        to_pandas(data)


def test_column_names_become_strings_in_a_copy():
    table = pd.DataFrame({0: [1, 2], "y": [3, 4]})
    assert list(to_pandas(table)) == ["0", "y"]
    assert list(table) == [0, "y"]
    assert to_pandas(PLAIN) is PLAIN


def test_a_missing_reader_is_named_with_its_pip_line(monkeypatch):
    def absent(self):
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr("narwhals.stable.v2.DataFrame.to_pandas", absent)
    with pytest.raises(ModuleNotFoundError, match="polars needs pyarrow: pip install pyarrow"):
        to_pandas(pl.DataFrame({"x": [1]}))


COLUMNS = {  # what is given, what it becomes, what it is to a formula
    "float32": (np.array([1, 2], "f4"), "float64", "numbers"),
    "Float64": (pd.array([1.0, 2.0], dtype="Float64"), "float64", "numbers"),
    "arrow": (pd.array([1.0, 2.0], dtype="double[pyarrow]"), "float64", "numbers"),
    "object floats": (pd.Series([1.0, 2.0], dtype=object), "float64", "numbers"),
    "int8": (np.array([1, 2], "i1"), "int64", "numbers"),
    "uint64": (np.array([1, 2], "u8"), "int64", "numbers"),
    "large uint64": (np.array([1, 2**64 - 1], "u8"), "uint64", "numbers"),
    "Int64": (pd.array([1, 2], dtype="Int64"), "int64", "numbers"),
    "sparse": (pd.arrays.SparseArray([0, 1]), "int64", "numbers"),
    "bool": ([True, False], "bool", "numbers"),
    "boolean": (pd.array([True, False], dtype="boolean"), "bool", "numbers"),
    "object bools": (pd.Series([True, False], dtype=object), "bool", "numbers"),
    "object text": (pd.Series(["a", "b"], dtype=object), None, "categories"),
    "string": (pd.array(["a", "b"], dtype="string"), None, "categories"),
    "arrow text": (pd.array(["a", "b"], dtype="string[pyarrow]"), None, "categories"),
    "category": (pd.Categorical([2, 1]), "category", "categories"),
    "intervals": (pd.cut([1.0, 2.0], [0, 1, 2]), "category", "categories"),
    "dates": (pd.date_range("2020", periods=2), None, "dates"),
    "durations": (pd.to_timedelta([1, 2], unit="s"), None, "durations"),
}


@pytest.mark.parametrize("given", COLUMNS)
def test_columns_become_plain(given):
    values, dtype, role = COLUMNS[given]
    table = pd.DataFrame({"x": values})
    before = table.copy(deep=True)
    column = plain(table)["x"]
    assert kind(column) == role
    if dtype is not None:
        assert column.dtype == dtype
    if role == "categories" and dtype is None:
        assert column.dtype in ("object", "str")  # the types that formulaic takes for text
    if dtype == "category":
        assert all(isinstance(c, str | int) for c in column.cat.categories.tolist())
    kept = before["x"].astype(object if role == "categories" else column.dtype)
    assert [str(v) for v in column] == [str(v) for v in kept]
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.Series([1.5, "a", "b"], dtype=object), r"1.5 \(float\) at row 0, 'a' \(str\) at row 1"),
        (pd.Series([True, 2], dtype=object), r"True \(bool\) at row 0, 2 \(int\) at row 1"),
        ([decimal.Decimal("1.5")] * 2, r"Decimal\('1.5'\) \(Decimal\) at row 0"),
        ([[1], [2, 3]], r"\[1\] \(list\) at row 0"),
        ([b"a", b"b"], "bytes"),
        (np.array([1 + 1j, 2]), "type complex128.*convert"),
        (pd.period_range("2020", periods=2, freq="D"), r"type period\[D\]"),
        (pd.Series(["a\0", "b"], dtype=object), r"null character: 'a\\x00'"),
        (pd.Series(["a", "b\ud800"], dtype=object), "surrogates|no valid Unicode"),
        (pd.Categorical([1, "1"]), "Duplicate categories of 'größe': '1'"),
    ],
)
def test_what_is_no_column(values, message):
    with pytest.raises(DataError, match=message) as raised:
        plain(pd.DataFrame({"größe": values}))
    assert "größe" in str(raised.value)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1.0, np.nan, 2.0]),
        pd.Series([1.0, None, 2.0], dtype=object),
        pd.Series(["a", None, "b"]),
        pd.Series(["a", np.nan, "b"], dtype="category"),
        pd.Series([1, None, 2], dtype="Int64"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([1, None, 2], dtype="int64[pyarrow]"),
        pd.Series([pd.Timestamp("2020"), None, pd.Timestamp("2021")]),
    ],
    ids=lambda c: str(c.dtype),
)
def test_gaps_of_every_type_are_found(column):
    table = pd.DataFrame({"ok": [1, 2, 3], "gap": column})
    keep, gaps = complete_rows(table, "drop", "")
    assert keep.tolist() == [True, False, True]
    assert gaps == ["gap"]
    with pytest.raises(DataError, match=r"'gap' has 1 missing value\(s\), first at row\(s\) 1. Hm"):
        complete_rows(table, "raise", "Hm")


@pytest.mark.parametrize("dtype", ["float64", "float32", object, "Float64"])
def test_infinite_values_are_never_dropped(dtype):
    table = pd.DataFrame({"x": pd.Series([1.0, np.inf, 3.0, -np.inf], dtype=dtype)})
    with pytest.raises(DataError, match=r"'x' has 2 infinite value\(s\), first at row\(s\) 1, 3"):
        complete_rows(table, "drop", "")


def test_unknown_categories_are_named_with_the_nearest():
    known = pd.Series(["north", "south"])
    check_known("g", known, ["south", "north", "east"])
    with pytest.raises(DataError, match=r"'nort', 'x' \(first at row 1\). Did you mean 'north'\?"):
        check_known("g", pd.Series(["north", "nort", "x", "nort"]), known)
    with pytest.raises(DataError, match=r"'k' .* not: 9 .* Known: 1, 2"):
        check_known("k", pd.Series([9, 1]), [1, 2])


@pytest.mark.parametrize(
    ("scale", "offset", "fine"),
    [
        (1, 0, True),
        (1e12, 0, True),
        (1e-12, 0, True),
        (0, 5, True),
        (1e160, 0, False),
        (1e-160, 0, False),
        (1, 1e300, False),
    ],
)
def test_sizes_whose_squares_are_lost(scale, offset, fine):
    values = offset + scale * np.array([1.0, 2.0])
    if fine:
        check_size(values, "design column 'x'")
    else:
        with pytest.raises(DataError, match=r"design column 'x' has values up to .* Change the un"):
            check_size(values, "design column 'x'")


CELLS = [
    st.floats(),
    st.integers(),
    st.booleans(),
    st.text(max_size=3),
    st.datetimes(),
    st.binary(max_size=2),
    st.complex_numbers(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(), max_size=2),
]
PURE = [st.lists(st.one_of(st.none(), cell), max_size=5) for cell in CELLS]


def read(cells, dtype):
    """Return the column's complete cells, or what was said against it."""
    try:
        table = to_pandas({"größe": pd.Series(cells, dtype=dtype) if dtype else cells})
        keep, _ = complete_rows(table, "drop", "")
        if "größe[0]" in table:  # lists of one length
            matrix = plain(table[keep])
            return pd.Series(matrix.to_numpy(dtype=object).tolist(), dtype=object), None
        return plain(table[keep])["größe"], None
    except DataError as error:
        return None, str(error)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    cells=st.one_of(*PURE, st.lists(st.one_of(*CELLS), max_size=4)),
    dtype=st.sampled_from([None, object]),
)
def test_any_cells_are_read_or_refused_by_name(cells, dtype):
    column, refused = read(cells, dtype)
    if refused is not None:
        assert "größe" in refused
        return
    present = [c for c in cells if c is not None and c == c]
    assert len(column) == len(present)
    assert not column.isna().any()
    if kind(column) == "numbers":
        np.testing.assert_allclose(column.to_numpy(dtype=float), np.array(present, dtype=float))
    elif len(column):
        assert column.tolist() == present
