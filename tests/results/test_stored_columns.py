"""Stored columns: every type and every name of a column comes back as it was."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayes_moe.core import names
from bayes_moe.results import netcdf_trees, stored_columns
from bayes_moe.results.draws import columns_to_dataset

COLUMNS = {
    "floats": [0.1, 1e-300, -0.0, 1e300],
    "ints": [1, 2**60, -3, 0],
    "uint8": np.array([1, 2, 3, 255], "u1"),
    "float32": np.array([1, 2, 3, 0.1], "f4"),
    "bools": [True, False, True, True],
    "strings": ["a", "", "é ß 日本", " x/y\n"],
    "object strings": pd.Series(["a", "b", "", "1"], dtype=object),
    "unordered": pd.Categorical(["b", "a", "b", "a"], categories=["b", "a", "unused"]),
    "ordered": pd.Categorical(["b", "a", "b", "a"], categories=["b", "a", "c"], ordered=True),
    "integer levels": pd.Categorical([3, 1, 3, 1], categories=[3, 1, 2]),
    "float levels": pd.Categorical([0.1, 1e300, 0.1, 0.1]),
    "bool levels": pd.Categorical([True, False, True, True]),
    "Int64": pd.array([1, 2**60, 3, 4], dtype="Int64"),
    "boolean": pd.array([True, False, True, True], dtype="boolean"),
    "Float64": pd.array([1.5, 0.1, 3, 4], dtype="Float64"),
    "string": pd.array(["a", "b", "", "ß"], dtype="string"),
    "dates": pd.date_range("2020-01-01 00:00:00.123456", periods=4),
    "nanoseconds": pd.to_datetime([1, 2, 3, 10**18 + 7]).astype("datetime64[ns]"),
    "zoned": pd.date_range("2020-03-29", periods=4, freq="h", tz="Europe/Berlin"),
    "durations": pd.to_timedelta([1, 2, 3, 10**12], unit="us"),
}

NAMES = [
    "X",
    "y",
    "expert",
    "obs_id",
    "chain",
    "draw",
    "a/b",
    "my col",
    "größe",
    "日本",
    "column_0",
]
NAMES += ["", ".", "..", "/", " lead", "trail ", "2x", "units", "constant_data", "q\"'", "tab\t"]


def round_trip(columns, path, *, earlier=False):
    """Through a netCDF file and a JSON text, as a saved fit goes, also of an earlier version."""
    described = json.loads(json.dumps(stored_columns.describe_columns(columns)))
    positions, response = np.arange(len(columns)) * 3, np.linspace(0, 1, len(columns))
    obs = {names.OBS: positions}
    if earlier:
        observed = xr.Dataset({names.RESPONSE: (names.OBS, response)}, coords=obs)
        groups = {names.CONSTANT_DATA: columns_to_dataset(columns, obs)}
        groups[names.OBSERVED_DATA] = observed
    else:
        rows = SimpleNamespace(obs_id=positions)
        design = SimpleNamespace(columns=columns, rows=rows, response=response)
        groups = {names.FITTED_DATA: stored_columns.fitted_data(design)}
    netcdf_trees.write(xr.DataTree.from_dict(groups), path)
    back = netcdf_trees.read(path)
    rows = stored_columns.stored_rows(back, described, None if earlier else names.FITTED_DATA)
    np.testing.assert_array_equal(rows.response, response)
    np.testing.assert_array_equal(rows.positions, positions)
    assert rows.index is None
    return rows.columns, back


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_comes_back_unchanged(kind, earlier, tmp_path):
    columns = pd.DataFrame({"x": COLUMNS[kind], "z": np.arange(4.0)})
    back, _ = round_trip(columns, tmp_path / "fit.nc", earlier=earlier)
    pd.testing.assert_frame_equal(back, columns, check_exact=True)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_any_name_comes_back(name, earlier, tmp_path):
    columns = pd.DataFrame({name: [0.5, 1.5], "other": ["a", "b"]})
    back, _ = round_trip(columns, tmp_path / "fit.nc", earlier=earlier)
    pd.testing.assert_frame_equal(back, columns)


def test_stand_in_names_do_not_collide(tmp_path):
    columns = pd.DataFrame({"a/b": [1.0], "column_0": [2.0], "column_0_": [3.0], "c/d": [4.0]})
    back, tree = round_trip(columns, tmp_path / "fit.nc", earlier=True)
    pd.testing.assert_frame_equal(back, columns)
    stored = tree[names.CONSTANT_DATA].data_vars
    assert [v.attrs["column"] for v in stored.values()] == list(columns)


@pytest.mark.parametrize(
    "dtype",
    [
        "datetime64[ns, dateutil/../../etc/passwd]",
        "datetime64[ns, /etc/localtime]",
        "datetime64[ns, Europe/../../x]",
        "Sparse[float]",
        "M8[ns]",
        "V100000000",
        "float128",
        "interval",
        "period[D]",
        5,
        ["float64"],
        "",
    ],
)
def test_a_type_that_no_design_has_is_refused(dtype):
    with pytest.raises(ValueError, match=r"which no design has|is no name of a column"):
        stored_columns.restore_columns({"x": np.zeros(2)}, [{"column": "x", "dtype": dtype}])
