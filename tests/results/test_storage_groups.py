"""Groups that PyMC, ArviZ and users add to a fit: saved as they are, or refused by name."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.core.errors import FitFileError
from tests.support.fits import fake_fit


def made_fit():
    rng = np.random.default_rng(1)
    n = 20
    groups = pd.Categorical(rng.permutation([*"ab"] * 10))
    table = pd.DataFrame({"x": rng.normal(size=n), "y": rng.normal(size=n), "g": groups})
    parameters = {
        "gate_coef": np.zeros((2, 2)),
        "mu_coef": rng.normal(size=(2, 3)),
        "sigma": [0.5, 1.5],
    }
    spec = bm.mixture_of_experts("y ~ x + g", "~ x")
    return fake_fit(spec, table, parameters, draws=6), table


def pymc_attributes(*dims):
    """What PyMC 6.4 writes to each of its groups; ``sample_dims`` is a list."""
    return {
        "created_at": "2026-11-27T07:06:49.431935+00:00",
        "creation_library": "ArviZ",
        "inference_library_version": "6.4.0",
        "sample_dims": list(dims),
    }


def by_draws(fit, *variables, rows=True):
    posterior = fit.idata["posterior"]
    shape = (posterior.sizes["chain"], posterior.sizes["draw"], 20)
    dims = ("chain", "draw", "obs_id") if rows else ("chain", "draw")
    values = np.random.default_rng(0).normal(size=shape[: len(dims)])
    coords = {"chain": posterior["chain"], "draw": posterior["draw"]}
    coords |= {"obs_id": np.arange(20)} if rows else {}
    return xr.Dataset(
        {v: (dims, values) for v in variables}, coords, pymc_attributes("chain", "draw")
    )


def put(group, make):
    def extend(fit):
        fit.idata[group] = xr.DataTree(make(fit))

    return extend


def by_pymc(fit):
    """The calls of a user that replace the groups of the data."""
    import pymc as pm

    quick = {"mode": "FAST_COMPILE"}
    table = fit.design.columns.assign(y=fit.design.response)
    with bm.build(fit).model:
        pm.sample_posterior_predictive(
            fit.idata,
            extend_inferencedata=True,
            progressbar=False,
            random_seed=1,
            compile_kwargs=quick,
        )
    with bm.build(fit.spec, table).model:
        fit.idata.update(pm.sample_prior_predictive(3, random_seed=1, compile_kwargs=quick))
    assert "x" not in fit.idata["constant_data"]


def own_variables(fit):
    posterior = fit.idata["posterior"].to_dataset()
    posterior["ratio"] = posterior["sigma"] / posterior["sigma"].sum("expert")
    posterior["sigma"].attrs = {"units": "days since 2000-01-01", "scale_factor": 2, "a": {"b": 1}}
    fit.idata["posterior"] = xr.DataTree(posterior)


def other_values(fit):
    return xr.Dataset(
        {
            "text": ("t", ["a", "ß", ""]),
            "objects": ("t", np.array(["a", "b", "c"], object)),
            "flags": ("t", [True, False, True]),
            "dates": ("t", pd.date_range("2020-01-01 00:00:00.000001", periods=3)),
            "times": ("t", pd.to_timedelta([1, 2, 3], unit="us")),
            "small": ("t", np.array([1, 2, 3], "i2")),
            "single": ("t", np.array([1, 2, np.nan], "f4")),
            "none": ("e", np.zeros(0)),
            "one": 3.5,
        },
        {"t": ["p", "q", "r"], "label": ("t", [1, 2, 3])},
        {
            "settings": {"list": [1, "a", None], "flag": True},
            "none": None,
            "tuple": [1, 2],
            "coordinates": "x y",
            "empty": [],
            "flag": True,
            "not finite": "nan",
            "numbers": [1.5, 2.5],
        },
    )


def compressed(fit):
    fit.idata["posterior"]["mu_coef"].encoding = {"zlib": True, "dtype": "f4"}


EXTENSIONS = {
    "PyMC's predictive draws": by_pymc,
    "posterior_predictive": put("posterior_predictive", lambda fit: by_draws(fit, "y")),
    "predictions": put("predictions", lambda fit: by_draws(fit, "y")),
    "predictions_constant_data": put(
        "predictions_constant_data",
        lambda fit: xr.Dataset({"x": ("obs_id", np.arange(3.0))}, attrs=pymc_attributes()),
    ),
    "prior": put("prior", lambda fit: by_draws(fit, "sigma", "mu_raw", rows=False)),
    "prior_predictive": put("prior_predictive", lambda fit: by_draws(fit, "y")),
    "log_likelihood": put("log_likelihood", lambda fit: by_draws(fit, "y")),
    "log_prior": put("log_prior", lambda fit: by_draws(fit, "sigma", rows=False)),
    "sample_stats": put("sample_stats", lambda fit: by_draws(fit, "lp", rows=False)),
    "observed_data": put(
        "observed_data", lambda fit: xr.Dataset({"z": ("row", [1.0])}, attrs=pymc_attributes())
    ),
    "constant_data": put(
        "constant_data", lambda fit: xr.Dataset({"mu_features": (("a", "b"), np.ones((2, 3)))})
    ),
    "warmup": put("warmup_posterior", lambda fit: by_draws(fit, "sigma", rows=False)),
    "unconstrained_posterior": put(
        "unconstrained_posterior", lambda fit: by_draws(fit, "mu_raw", rows=False)
    ),
    "other values": put("own", other_values),
    "groups in groups": put("own/inner", lambda fit: by_draws(fit, "y")),
    "no data": lambda fit: [fit.idata.__delitem__(g) for g in ("observed_data", "constant_data")],
    "own variables": own_variables,
    "own storage": compressed,
}


ALONE = ("PyMC's predictive draws", "no data")
"""Extensions that replace groups of other ones."""


def extended(chosen, path):
    """A fit with groups, its predictions, and the same fit as it is read from its file."""
    fit, table = made_fit()
    before = bm.predict(fit, table).mean()
    for name in chosen:
        EXTENSIONS[name](fit)
    kept = fit.idata.copy(deep=True)
    back = bm.load(bm.save(fit, path))
    xr.testing.assert_identical(fit.idata, kept)
    np.testing.assert_array_equal(bm.predict(back, table).mean(), before)
    pd.testing.assert_frame_equal(back.design.columns, fit.design.columns)
    return fit, back


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    path = tmp_path_factory.mktemp("groups") / "fit.nc"
    fit, back = extended([n for n in EXTENSIONS if n not in ALONE], path)
    again = bm.load(bm.save(back, path))
    xr.testing.assert_identical(again.idata, back.idata)
    assert {*back.idata.children} == {*fit.idata.children}
    assert back.idata.attrs == fit.idata.attrs
    return fit.idata, back.idata


GROUPS = (
    *("posterior", "posterior_predictive", "predictions", "predictions_constant_data", "prior"),
    *("prior_predictive", "log_likelihood", "log_prior", "sample_stats", "observed_data"),
    *("constant_data", "warmup_posterior", "unconstrained_posterior", "own", "own/inner"),
)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_comes_back_as_it_was(together, group):
    written, read = (tree[group] for tree in together)
    xr.testing.assert_identical(read, written)
    for name, values in written.data_vars.items():
        assert read[name].dtype.kind == np.asarray(values).dtype.kind or name == "objects"
        if values.dtype.kind in "iuf":
            assert read[name].dtype == values.dtype


@pytest.mark.parametrize("name", ALONE)
def test_a_fit_without_its_groups_of_data_comes_back(name, tmp_path):
    fit, back = extended([name], tmp_path / "fit.nc")
    assert names.FITTED_DATA not in back.idata.children
    xr.testing.assert_identical(back.idata, fit.idata)


def variable(value, **attributes):
    return put("own", lambda fit: xr.Dataset({"z": xr.Variable(("t",), value, attributes)}))


def levels(fit):
    fit.idata["own"] = xr.DataTree(by_draws(fit, "z").stack(sample=("chain", "draw")))


def without_sigma(fit):
    fit.idata["posterior"] = xr.DataTree(fit.idata["posterior"].to_dataset().drop_vars("sigma"))


def without_an_expert(fit):
    fit.idata["posterior"] = xr.DataTree(fit.idata["posterior"].to_dataset().isel(expert=[0]))


REFUSED = {
    "objects": (variable(np.array([1, "a"], object)), "'z' of the group '/own'"),
    "mappings": (variable(np.array([{}, {}], object)), "'z' of the group '/own'"),
    "missing text": (variable(np.array(["a", np.nan], object)), "'z' of the group '/own'"),
    "complex": (variable(np.array([1j])), "'z' of the group '/own'"),
    "long double": (variable(np.array([1.0], "g")), "'z' of the group '/own'"),
    "null character": (variable(["a\0b"]), "'z' of the group '/own'"),
    "several levels": (levels, "the coordinate 'sample' of the group '/own'"),
    "set": (variable([1.0], a={1}), "the attribute 'a' of the variable 'z' of the group '/own'"),
    "array": (variable([1.0], a=[np.nan]), "the attribute 'a' of the variable 'z'"),
    "object": (variable([1.0], a=object()), "the attribute 'a' of the variable 'z'"),
    "number as name": (
        put("own", lambda fit: xr.Dataset({"z": 1.0}, attrs={1: 2})),
        "the group '/own' has an attribute named 1",
    ),
    "name with a space": (
        put("own", lambda fit: xr.Dataset({"z": ("t", [1.0])}, {"a b": ("t", [2.0])})),
        "'a b' of the group '/own'",
    ),
    "no sigma": (without_sigma, "the variable 'sigma' of the group 'posterior' is not there"),
    "an expert less": (without_an_expert, "has 1 values along 'expert'; the model has 2"),
    "taken name": (
        put(names.FITTED_DATA, lambda fit: xr.Dataset({"z": 1.0})),
        f"a group '{names.FITTED_DATA}'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
def test_what_cannot_be_read_again_is_refused_when_it_is_saved(name, tmp_path):
    fit, _ = made_fit()
    path = bm.save(fit, tmp_path / "fit.nc")
    old = path.read_bytes()
    extend, message = REFUSED[name]
    extend(fit)
    with pytest.raises(FitFileError, match=message) as raised:
        bm.save(fit, path)
    assert str(raised.value).startswith("The fit cannot be saved: ")
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["fit.nc"]
