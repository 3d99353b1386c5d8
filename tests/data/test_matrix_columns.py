"""Columns of arrays are one term of many columns; ``cols`` names columns by a pattern."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.design import Design

N, WIDTH = 60, 3
TERMS = ("Intercept", "emb[0]", "emb[1]", "emb[2]")


def table():
    rng = np.random.default_rng(0)
    emb = rng.normal(size=(N, WIDTH))
    return {
        "emb": emb,
        "g": np.tile(["a", "b"], N // 2),
        "x_1": rng.normal(size=N),
        "x_b": rng.normal(size=N),
        "z": rng.normal(size=N),
        "y": emb @ [1, 2, 3] + 0.1 * rng.normal(size=N),
    }


def matrix(formula, data, new=None):
    design = Design.from_data("y", {"mu": formula}, data)
    return (design.rows if new is None else design.transform(new)).matrices["mu"]


def forms():
    """The table in every form that holds a column of arrays."""
    data = table()
    rest = {name: v for name, v in data.items() if name != "emb"}
    found = {
        "array": data,
        "lists": data | {"emb": data["emb"].tolist()},
        "DataArray": data | {"emb": xr.DataArray(data["emb"], dims=("row", "k"))},
        "objects": pd.DataFrame(rest | {"emb": list(data["emb"])}),
        "frame of lists": pd.DataFrame(rest | {"emb": data["emb"].tolist()}, index=range(5, N + 5)),
        "named columns": pd.DataFrame(data["emb"], columns=list(TERMS[1:])).assign(**rest),
    }
    try:
        import polars

        found["polars"] = polars.DataFrame(data)
    except ModuleNotFoundError:
        pass
    return found


FORMS = forms()


@pytest.mark.parametrize("form", FORMS)
def test_a_matrix_is_one_term(form):
    found = matrix("~ emb", FORMS[form])
    assert found.terms == TERMS
    np.testing.assert_array_equal(found.values[:, 1:], table()["emb"])
    np.testing.assert_array_equal(matrix("~ emb", table(), FORMS[form]).values, found.values)


def test_labelled_rows_of_a_matrix_are_paired():
    data = table()
    labels = np.arange(N)
    emb = xr.DataArray(data["emb"][::-1], dims=("row", "k"), coords={"row": labels[::-1]})
    mixed = {"emb": emb, "y": pd.Series(data["y"], index=labels)}
    design = Design.from_data("y", {"mu": "~ emb"}, mixed)
    order = [labels.tolist().index(k) for k in design.rows.index]
    np.testing.assert_array_equal(design.rows.matrices["mu"].values[:, 1:], data["emb"][order])
    np.testing.assert_array_equal(design.response, data["y"][order])


@pytest.mark.parametrize(
    ("formula", "terms"),
    [
        ("~ 0 + emb", TERMS[1:]),
        ("~ emb:z", ("Intercept", "emb[0]:z", "emb[1]:z", "emb[2]:z")),
        ("~ z + emb:g", None),
        ("~ `emb[1]`", ("Intercept", "emb[1]")),
        ("~ log(1 + Q('emb[2]')**2)", ("Intercept", "log(1 + Q('emb[2]') ** 2)")),
        ("~ cols('x_*')", ("Intercept", "x_1", "x_b")),
        ("~ cols('x_?') + emb", ("Intercept", "x_1", "x_b", *TERMS[1:])),
        ("~ cols('x_*'):z", ("Intercept", "x_1:z", "x_b:z")),
        ("~ offset(Q('emb[0]')) + z", ("Intercept", "z")),
    ],
)
def test_terms(formula, terms):
    data = table()
    found = matrix(formula, data)
    assert terms is None or found.terms == terms
    few = {name: values[:5] for name, values in data.items()}
    np.testing.assert_array_equal(matrix(formula, data, few).values, found.values[:5])


def test_a_pattern_means_the_fitted_columns():
    data = table()
    new = data | {"x_c": np.zeros(N), "x_1": data["x_1"] + 1}
    found = matrix("~ cols('x_*')", data, new)
    assert found.terms == ("Intercept", "x_1", "x_b")
    np.testing.assert_array_equal(found.values[:, 1], data["x_1"] + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[:, :2], "'emb' has 2 numbers a row here, but 3 in the fitted rows"),
        (lambda e: np.hstack([e, e]), "'emb' has 6 numbers a row here, but 3 in the fitted rows"),
        (lambda e: e[:, 0], "it has not the same number"),
        (lambda e: [[1.0], [1.0, 2.0]] * (N // 2), "it has not the same number"),
        (
            lambda e: np.where(np.arange(3) == 1, np.nan, e),
            r"'emb\[1\]' has 60 missing.*\(s\) 0",
        ),
        (lambda e: e.astype(str), r"'emb\[0\]' holds categories here"),
        (lambda e: e[..., None], r"'emb' has the shape \(60, 3, 1\)"),
        (lambda e: e[:, :0], r"'emb' has the shape \(60, 0\)"),
    ],
)
def test_other_widths_and_values_are_refused(change, message):
    data = table()
    with pytest.raises(DataError, match=message):
        matrix("~ emb", data, data | {"emb": change(data["emb"])})


def test_a_row_without_a_number_is_named():
    data = table()
    data["emb"][7, 2] = np.nan
    with pytest.raises(DataError, match=r"'emb\[2\]' has 1 missing value\(s\).*row\(s\) 7"):
        matrix("~ emb", data)
    kept = bm.mixture_of_experts("y ~ emb", gate="~ 1")
    with pytest.warns(bm.MissingRowsWarning, match="left out 1 of 60"):
        assert kept.design(data, missing="drop").rows.size == N - 1


@pytest.mark.parametrize(
    ("formula", "error", "message"),
    [
        ("~ log(emb)", DataError, r"'emb' is a matrix, and functions take one column each"),
        ("~ cols('q*')", DataError, r"No column matches cols\('q\*'\)"),
        ("~ cols('[gx]*')", DataError, "'g' holds categories"),
        ("~ cols('*')", SpecError, "a response cannot be its own feature"),
        ("~ I(cols('x_*'))", SpecError, r"has cols\(\) inside"),
        ("~ cols(x_1)", SpecError, "a pattern in quotes"),
        ("~ emb + emb2", DataError, "Unknown column 'emb2'"),
    ],
)
def test_refused(formula, error, message):
    with pytest.raises(error, match=message):
        matrix(formula, table())


def test_a_matrix_is_no_response():
    with pytest.raises(DataError, match=r"is a matrix: name its columns.*cbind"):
        bm.mixture_of_experts("emb ~ z", gate="~ 1").design(table())


def test_a_column_of_zeros_is_named():
    data = table()
    data["emb"][:, 1] = 0.0
    with pytest.raises(DataError, match=r"'emb\[1\]' of 'mu' is constant"):
        matrix("~ emb", data)


@pytest.fixture(scope="module")
def fit():
    spec = bm.mixture_of_experts(
        "y ~ emb",
        experts=1,
        sigma="~ cols('x_*') + emb",
        fixed={"mu_coef[emb[2]]": 3.0},
        priors={"mu_coef[0, emb[0]]": bm.Prior("Normal", mu=1, sigma=0.1)},
    )
    return bm.fit(spec, table(), "em", random_seed=1)


def test_entries_of_a_matrix_have_names(fit):
    coef = fit.idata.posterior["mu_coef"]
    assert [*map(str, coef["mu_term"].values)] == [*TERMS]
    np.testing.assert_array_equal(coef.sel(mu_term="emb[2]"), 3.0)


def test_a_saved_fit_predicts_the_same(fit, tmp_path):
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    data = table()
    new = {name: data[name][:6] for name in ("emb", "x_1", "x_b")}
    np.testing.assert_array_equal(bm.predict(again, new).mean(), bm.predict(fit, new).mean())
    assert again.design.rows.matrices["sigma"].terms == ("Intercept", "x_1", "x_b", *TERMS[1:])


def test_another_fit_has_the_same_terms(fit):
    data = table()
    again = bm.refit(fit, {name: values[:40] for name, values in data.items()}, random_seed=1)
    assert again.design.rows.matrices["mu"].terms == TERMS
    assert again.design.rows.size == 40


@pytest.mark.parametrize("predictor", [bm.predictors.MLP((3,)), "horseshoe"])
def test_predictors_take_a_matrix(predictor):
    spec = bm.mixture_of_experts("y ~ emb", gate="~ 1", predictor=predictor)
    assert spec.design(table()).rows.matrices["mu"].terms == TERMS


def test_splines_take_columns_of_a_pattern():
    spec = bm.mixture_of_experts("y ~ cols('x_*')", gate="~ 1", predictor="spline")
    assert spec.design(table()).rows.matrices["mu"].terms == ("Intercept", "x_1", "x_b")
