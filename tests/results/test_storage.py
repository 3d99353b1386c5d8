"""Saved fits: every column comes back as it was, damage is told, and nothing is half written."""

import json
import os
import stat

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.core.errors import FitFileError
from bayes_moe.results import storage
from tests.support.fits import fake_fit


def make_fit(response="y", draws=20):
    rng = np.random.default_rng(0)
    n = 30
    data = pd.DataFrame(
        {
            "y": np.exp(rng.normal(size=n)),
            "my col": rng.normal(size=n),
            "größe": rng.permutation(["a", "b c", "d"] * 10),
            "level": pd.Categorical(rng.permutation([30, 10, 20] * 10), ordered=True),
            "flag": rng.permutation([True, False] * 15),
            "when": rng.permutation(pd.date_range("2020", periods=3).repeat(10)),
            "expert": rng.normal(size=n),
        }
    )
    formula = "`my col` + größe + level + flag + C(when) + bs(expert, df=4)"
    spec = bm.mixture_of_experts(
        f"{response} ~ {formula}", "~ expert", priors={"sigma": bm.Prior("HalfNormal", sigma=2)}
    )
    terms = len(spec.design(data).rows.matrices["mu"].terms)
    parameters = {
        "gate_coef": rng.normal(size=(2, 2)),
        "mu_coef": rng.normal(size=(2, terms)),
        "sigma": [0.5, 1.5],
    }
    return fake_fit(spec, data, parameters, draws=draws), data


def test_a_fit_comes_back_whole(tmp_path):
    fit, data = make_fit("log(y)")
    path = bm.save(fit, tmp_path / "größe 1.nc")
    back = bm.load(str(path))
    assert back.spec == fit.spec
    assert repr(back) == repr(fit)
    xr.testing.assert_identical(back.idata, fit.idata)
    pd.testing.assert_frame_equal(back.design.columns, fit.design.columns)
    new = data.iloc[[4, 2]]
    for stem in ("gate", "mu"):
        np.testing.assert_array_equal(
            back.design.transform(new).matrices[stem].values,
            fit.design.transform(new).matrices[stem].values,
        )
    # Twice through the file changes nothing.
    again = bm.load(bm.save(back, tmp_path / "again.nc"))
    xr.testing.assert_identical(again.idata, fit.idata)


def test_dropped_rows_and_labels_come_back(tmp_path):
    fit, data = make_fit()
    gaps = data.copy()
    gaps.loc[[0, 9], "my col"] = np.nan
    with pytest.warns(bm.MissingRowsWarning):
        design = fit.spec.design(gaps, missing="drop")
    short = fit.idata.isel(obs_id=design.rows.obs_id)
    back = bm.load(bm.save(bm.Fit(fit.spec, design, short), tmp_path / "fit.nc"))
    assert back.design.n_dropped == 2
    assert back.design.rows.obs_id.tolist() == design.rows.obs_id.tolist()


def test_saving_does_not_touch_the_fit_and_loading_not_the_file(tmp_path):
    fit, _ = make_fit()
    before = fit.idata.copy(deep=True)
    path = bm.save(fit, tmp_path / "fit.nc")
    xr.testing.assert_identical(fit.idata, before)
    content = path.read_bytes()
    loaded = bm.load(path)
    loaded.idata["posterior"]["sigma"].values[:] = 0
    assert path.read_bytes() == content
    assert bm.save(fit, path) == path  # nothing holds the file open
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return bm.save(make_fit(draws=2)[0], tmp_path_factory.mktemp("fit") / "fit.nc").read_bytes()


def truncated(content, path, share):
    path.write_bytes(content[: int(share * len(content))])


def edited(content, path, change):
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        header = json.loads(file.attrs["bayes_moe"])
        change(file, header)
        if "bayes_moe" in file.attrs:
            file.attrs["bayes_moe"] = json.dumps(header)


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file(saved, tmp_path, share):
    truncated(saved, tmp_path / "fit.nc", share)
    with pytest.raises(FitFileError, match=r"fit\.nc'.* cannot be read as a netCDF file"):
        bm.load(tmp_path / "fit.nc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", "cannot be read as a netCDF file"),
        ("bytes", "cannot be read as a netCDF file"),
        ("folder", "is a folder, not a saved fit"),
        ("foreign", "is a netCDF file, but not a fit saved by bayes_moe"),
        ("foreign hdf5", "not a fit saved by bayes_moe|cannot be read"),
        ("other package", "not a fit saved by bayes_moe"),
    ],
)
def test_a_file_that_is_no_fit(tmp_path, content, message):
    path = tmp_path / "fit.nc"
    if content == "text":
        path.write_text("stretchratio,tuned\n1.35,1.461\n")
    elif content == "bytes":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif content == "folder":
        path.mkdir()
    elif content == "foreign hdf5":
        with h5py.File(path, "w") as file:
            file["posterior"] = np.arange(3)
    else:
        tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"x": ("draw", [1.0])})})
        if content == "other package":
            tree.attrs["bayes_moe"] = json.dumps({"format": "other", "version": 1})
        tree.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(FitFileError, match=message) as raised:
        bm.load(path)
    assert str(path) in str(raised.value)


def delete(*path):
    def change(file, header):
        *parents, last = path
        place = file if path[0] == names.POSTERIOR or path[0] in file else header
        for parent in parents:
            place = place[parent]
        del place[last]

    return change


def put(value, *path):
    def change(file, header):
        *parents, last = path
        place = header
        for parent in parents:
            place = place[parent]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(6, "version"), "has format version 6; .*reads up to 5. Upgrade"),
        (put("new", "version"), "not a fit saved by bayes_moe"),
        (delete("version"), "not a fit saved by bayes_moe"),
        (delete("format"), "not a fit saved by bayes_moe"),
        (delete("spec"), "damaged fit .KeyError"),
        (put("x", "spec"), "damaged fit"),
        (put("softmaxx", "spec", "gate", "kind"), "damaged fit .*'softmaxx'"),
        (put("y ~ open('x')", "spec", "experts", 0, "formula"), "damaged fit"),
        (delete("design"), "damaged fit"),
        (delete("design", "columns"), "damaged fit"),
        (delete("design", "columns", 0), "damaged fit .*7 columns are stored, but 6 described"),
        (put("nope", "design", "columns", 0, "dtype"), "damaged fit"),
        (put(["other"], "design", "columns", 3, "categories"), "damaged fit .*'level'"),
        (delete("design", "terms"), "damaged fit"),
        (put({}, "design", "terms"), "the formulas give other columns here"),
        (put("nope", "design", "terms", "mu", 0), "the formulas give other columns here"),
        (delete("design", "n_dropped"), "damaged fit"),
        (delete(names.POSTERIOR), "damaged fit .*posterior"),
        (delete(names.POSTERIOR, "sigma"), "damaged fit .*sigma"),
        (delete(names.FITTED_DATA), "damaged fit"),
        (delete(names.FITTED_DATA, "response"), "damaged fit .*columns are stored"),
        (delete(names.FITTED_DATA, "0"), "damaged fit .*columns are stored"),
    ],
)
def test_a_fit_with_a_part_damaged(saved, tmp_path, change, message):
    edited(saved, tmp_path / "fit.nc", change)
    with pytest.raises(FitFileError, match=message) as raised:
        bm.load(tmp_path / "fit.nc")
    assert "fit.nc" in str(raised.value)


def test_a_flipped_bit_in_the_draws_is_found(saved, tmp_path):
    path = tmp_path / "fit.nc"
    path.write_bytes(saved)
    with h5py.File(path) as file:
        chunk = file["posterior/mu_coef"].id.get_chunk_info(0)
        damaged = bytearray(saved)
        damaged[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(FitFileError, match="damaged"):
        bm.load(path)


def test_data_that_no_longer_fit_their_response(saved, tmp_path):
    def change(file, header):
        file["fitted_data/response"][3] += 1e-6

    edited(saved, tmp_path / "fit.nc", change)
    with pytest.raises(FitFileError):
        bm.load(tmp_path / "fit.nc")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*none\.nc'"):
        bm.load(tmp_path / "none.nc")
    fit, _ = make_fit(draws=2)
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nowhere' to save in"):
        bm.save(fit, tmp_path / "nowhere" / "fit.nc")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
        bm.save(fit, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["to_netcdf", "fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, where, error):
    fit, _ = make_fit(draws=2)
    path = tmp_path / "fit.nc"
    path.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise error

    if where == "to_netcdf":
        real = xr.DataTree.to_netcdf
        monkeypatch.setattr(xr.DataTree, where, lambda *a, **k: (real(*a, **k), fail()))
    else:
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(type(error)):
        bm.save(fit, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["fit.nc"]


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    """Such files have the data in ``constant_data`` and ``observed_data`` only."""
    fit, _ = make_fit("log(y)", draws=2)
    path = bm.save(fit, tmp_path / "fit.nc")

    def earlier(file, header):
        del file[names.FITTED_DATA]
        del header["design"]["group"]

    edited(path.read_bytes(), path, earlier)
    back = bm.load(path)
    xr.testing.assert_identical(back.idata, fit.idata)
    pd.testing.assert_frame_equal(back.design.columns, fit.design.columns)
    np.testing.assert_array_equal(back.design.response, fit.design.response)


def test_a_large_design_is_made_on_request_only(tmp_path, monkeypatch):
    """Matrices may take a multiple of the file's length, or what the reader allows."""
    fit, _ = make_fit(draws=2)
    shapes = [m.values.shape for m in fit.design.rows.matrices.values()]
    size = 8 * sum(p * (n + p) for n, p in shapes)
    monkeypatch.setattr(storage, "LEAST_BYTES", size - 1)
    monkeypatch.setattr(storage, "MOST_RATIO", 0)
    path = bm.save(fit, tmp_path / "fit.nc")  # one's own fit is saved, whatever its size
    message = rf"fit\.nc': .* 30 rows and \d+ columns, .* {size:,} bytes; {size - 1:,} are allowed"
    with pytest.raises(FitFileError, match=message) as caught:
        bm.load(path)
    assert f"bm.load(path, max_bytes={size})" in str(caught.value)
    back = bm.load(path, max_bytes=size)
    assert (
        back.design.rows.matrices["mu"].values.shape == fit.design.rows.matrices["mu"].values.shape
    )
    with pytest.raises(FitFileError, match="are allowed"):
        bm.load(path, max_bytes=size - 1)
    with pytest.raises(bm.SpecError, match="`max_bytes` must be"):
        bm.load(path, max_bytes=0)
    monkeypatch.setattr(storage, "MOST_RATIO", 64)
    assert path.stat().st_size * 64 > size
    xr.testing.assert_identical(bm.load(path).idata, fit.idata)
