"""Predictions are assigned to the user's table by label, with pandas as the oracle."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_moe as bm
from bayes_moe.core import names
from tests.support.fits import fake_fit, parallel_lines

INDEXES = {
    "positions": pd.RangeIndex(6),
    "steps": pd.RangeIndex(10, 22, 2),
    "shuffled": pd.Index([3, 1, 5, 0, 2, 4]),
    "text": pd.Index(list("fedcba")),
    "dates": pd.date_range("2024-05-01", periods=6)[::-1],
    "zones": pd.date_range("2024-05-01", periods=6, tz="Europe/Berlin")[::-1],
    "an hour twice": pd.date_range("2024-10-26 22:30", periods=6, freq="h", tz="UTC").tz_convert(
        "Europe/Berlin"
    ),
    "durations": pd.to_timedelta([5, 1, 3, 2, 9, 4], unit="min"),
    "floats": pd.Index([0.5, 0.1, 2.0, -1.0, 7.0, 3.0]),
    "truth values": pd.Index([True, False]).repeat([1, 5])[:6],
    "categories": pd.CategoricalIndex(list("fbdcea"), categories=list("abcdefg"), ordered=True),
    "two levels": pd.MultiIndex.from_product([["a", "b"], [1, 2, 3]], names=["x", None]),
    "levels of dates": pd.MultiIndex.from_product([pd.date_range("2024", periods=3), [0.5, 0.1]]),
    "not unique": pd.Index([7, 7, 1, 0, 2, 3]),
    "not unique levels": pd.MultiIndex.from_arrays([list("aabbcc"), [1, 1, 1, 2, 1, 2]]),
}
STORED = list(INDEXES)
INDEXES |= {
    "months": pd.period_range("2024-01", periods=6, freq="M"),
    "intervals": pd.interval_range(0, 6),
    "mixed": pd.Index([1, "a", 2.5, "b", 7, "c"]),
    "missing": pd.Index([1.0, 2.0, 3.0, np.nan, 5.0, 6.0]),
    "missing text": pd.Index(["a", "b", None, "d", "e", "f"]),
    "null character": pd.Index(["a\0", "b", "c", "d", "e", "f"]),
    "tuples": pd.Index([(1, 2), (1,), (2, 1), (3, 1), (4, 1), (5, 1)], tupleize_cols=False),
    "single levels": pd.MultiIndex.from_arrays([[3, 1, 5, 0, 2, 4]]),
    "categories of dates": pd.CategoricalIndex(pd.date_range("2024-05-01", periods=6)),
}
ORDER = [4, 2, 0, 5, 1, 3]


@pytest.fixture(scope="module")
def lines():
    return parallel_lines(2, n=30)


@pytest.fixture(scope="module")
def fit(lines):
    spec, table, truth = lines
    return fake_fit(spec, table, truth, chains=1, draws=4)


def check_assigned(table, values, expected, what=""):
    """Values assigned to a table, and to its rows in another order, are those expected."""
    result = table.assign(p=values.to_series())
    np.testing.assert_allclose(result["p"], expected, err_msg=what)
    shuffled = table.iloc[ORDER]
    if table.index.is_unique:
        for found in (values.to_series(), values.to_pandas()):
            np.testing.assert_allclose(shuffled.assign(p=found)["p"], expected[ORDER], err_msg=what)
    else:
        with pytest.raises(ValueError, match="duplicate"):
            shuffled.assign(p=values.to_series())


@pytest.mark.parametrize("kind", STORED)
def test_predictions_are_assigned_by_label(fit, kind):
    table = pd.DataFrame({"x": np.linspace(-1, 1, 6)}, index=INDEXES[kind])
    plain = bm.predict(fit, table.reset_index(drop=True))
    predictive = bm.predict(fit, table)
    expected = {
        "mean": plain.mean().values,
        "lower": plain.interval(0.9).values[:, 0],
        "weight": plain.weights().values[:, 1],
        "mode": plain.modes()["location"].values[:, 0],
        "p": plain.cdf(0.3).values,
        "density": bm.log_density(fit, table.reset_index(drop=True).assign(y=0.1)).values[0, 1],
    }
    found = {
        "mean": predictive.mean(),
        "lower": predictive.interval(0.9).sel(ci_bound="lower"),
        "weight": predictive.weights()[:, 1],
        "mode": predictive.modes()["location"].sel(mode=0),
        "p": predictive.cdf(0.3),
        "density": bm.log_density(fit, table.assign(y=0.1))[0, 1],
    }
    for name, values in found.items():
        check_assigned(table, values, expected[name], name)
        if kind != "positions":
            assert values["row"].values.tolist() == [0, 1, 2, 3, 4, 5]


def labelled(lines, kind, **columns):
    spec, table, truth = lines
    rows = table.iloc[:6].assign(**columns).set_axis(INDEXES[kind], axis=0)
    return fake_fit(spec, rows, truth, chains=1, draws=4), rows


@pytest.mark.parametrize("how", ["made", "pickled", "saved"])
@pytest.mark.parametrize("kind", INDEXES)
def test_predictions_of_the_fitted_rows_have_their_labels(lines, kind, how, tmp_path):
    fit, rows = labelled(lines, kind)
    plain = fake_fit(lines[0], rows.reset_index(drop=True), lines[2], chains=1, draws=4)
    if how == "pickled":
        fit = pickle.loads(pickle.dumps(fit))
    elif how != "made" and kind not in STORED:
        with pytest.warns(UserWarning, match=r"cannot hold the row labels .* have positions"):
            path = bm.save(fit, tmp_path / "fit.nc")
        back = bm.load(path)
        assert back.design.rows.index is None
        xr.testing.assert_identical(bm.predict(back).mean(), bm.predict(plain).mean())
        return
    elif how != "made":
        fit = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    found = {
        "mean": bm.predict(fit).mean(),
        "p": bm.predict(fit).cdf(0.3),
        "density": bm.log_density(fit)[0, 1],
        "share": bm.responsibilities(fit)[0, 1, :, 1],
    }
    expected = {
        "mean": bm.predict(plain).mean(),
        "p": bm.predict(plain).cdf(0.3),
        "density": bm.log_density(plain)[0, 1],
        "share": bm.responsibilities(plain)[0, 1, :, 1],
    }
    for name, values in found.items():
        given = bm.predict(fit, rows).mean()
        assert values.indexes["obs_id"].equals(given.indexes["obs_id"]), name
        if kind != "missing text" and kind != "tuples":
            check_assigned(rows, values, expected[name].values, name)
    if kind in STORED and kind != "positions":
        assert fit.design.rows.index.dtype == fit.design.transform(rows).index.dtype


def test_the_groups_of_a_fit_have_positions(lines):
    fit, _ = labelled(lines, "not unique levels")
    fit = bm.extend(fit, "posterior_predictive", "log_likelihood", random_seed=1)
    drawn = fit.idata["posterior_predictive"]
    assert set(drawn.coords) == {"chain", "draw", "obs_id"}
    for group in ("posterior_predictive", "log_likelihood", "observed_data", "constant_data"):
        assert fit.idata[group]["obs_id"].values.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["shuffled", "zones", "two levels", "not unique"])
def test_dropped_rows_take_their_labels_along(lines, kind, tmp_path):
    spec, table, truth = lines
    rows = table.iloc[:6].set_axis(INDEXES[kind], axis=0)
    rows.iloc[[1, 4], 0] = np.nan
    with pytest.warns(bm.MissingRowsWarning):
        design = spec.design(rows, missing="drop")
    kept = [0, 2, 3, 5]
    fit = fake_fit(spec, table.iloc[kept], truth, chains=1, draws=4)
    fit = bm.Fit(spec, design, fit.idata)
    for one in (fit, bm.load(bm.save(fit, tmp_path / "fit.nc"))):
        mean = bm.predict(one).mean()
        assert mean.indexes["obs_id"].equals(
            bm.predict(fit, rows.iloc[kept]).mean().indexes["obs_id"]
        )
        assert mean["row"].values.tolist() == kept
        assert one.design.n_dropped == 2


@pytest.mark.parametrize("kind", ["series", "dataset", "arrow"])
def test_labels_of_other_tables_are_kept(lines, kind):
    spec, table, truth = lines
    rows = table.iloc[:6].set_axis(INDEXES["shuffled"], axis=0)
    if kind == "series":
        data = {name: rows[name] for name in rows}
    elif kind == "dataset":
        data = xr.Dataset.from_dataframe(rows.rename_axis(index="person"))
    else:
        data = pytest.importorskip("pyarrow").Table.from_pandas(rows)
    fit = fake_fit(spec, data, truth, chains=1, draws=4)
    plain = fake_fit(spec, table.iloc[:6], truth, chains=1, draws=4)
    check_assigned(rows, bm.predict(fit).mean(), bm.predict(plain).mean().values)


@pytest.fixture(scope="module")
def quick(lines):
    spec, table, _ = lines
    return bm.fit(spec, table, method="em", restarts=2, random_seed=1)


@pytest.mark.parametrize("kind", ["two levels", "not unique"])
def test_a_refit_has_the_labels_of_its_own_table(lines, quick, kind, tmp_path):
    index = INDEXES[kind].repeat(5)
    rows = lines[1].iloc[::-1].set_axis(index, axis=0)
    assert quick.design.rows.index is None
    again = bm.refit(quick, rows, random_seed=1)
    expected = bm.predict(again, rows).mean()
    xr.testing.assert_identical(bm.predict(again).mean(), expected)
    xr.testing.assert_identical(
        bm.predict(bm.load(bm.save(again, tmp_path / "fit.nc"))).mean(), expected
    )
    assert bm.refit(again, lines[1], random_seed=1).design.rows.index is None


def test_a_file_without_row_labels_has_positions(lines, tmp_path):
    """A table without labels gives a file that earlier versions of the package read."""
    import json

    import h5py

    fit, _ = labelled(lines, "text")
    path = bm.save(fit, tmp_path / "fit.nc")
    with h5py.File(path, "r+") as file:
        header = json.loads(file.attrs["bayes_moe"])
        assert header["version"] == 2
        del header["design"]["row_labels"]
        header["version"] = 1
        del file["fitted_data"]["row_label_0"]
        file.attrs["bayes_moe"] = json.dumps(header)
    earlier = bm.load(path)
    assert earlier.design.rows.index is None
    assert bm.predict(earlier).mean()["obs_id"].values.tolist() == [0, 1, 2, 3, 4, 5]
    path = bm.save(earlier, path)
    with h5py.File(path) as file:
        assert json.loads(file.attrs["bayes_moe"])["version"] == 1
        assert "row_label_0" not in file[names.FITTED_DATA]


def test_labels_follow_rows_through_chunks(fit, monkeypatch):
    from bayes_moe.model import evaluation

    table = pd.DataFrame({"x": np.linspace(-1, 1, 6)}, index=list("fedcba"))
    whole = bm.predict(fit, table).mean()
    monkeypatch.setattr(evaluation, "CHUNK_ELEMENTS", 1)
    parts = bm.predict(fit, table).mean()
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    assert parts["obs_id"].values.tolist() == list("fedcba")
