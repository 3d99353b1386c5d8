"""Posterior allocations and pairs of rows with one expert, by their definitions."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError
from bayes_moe.prediction import allocations
from tests.support.fits import fake_fit
from tests.support.groups import group_table, grouped

PARAMETERS = {
    "gate_coef": [[0.2, -0.3], [-0.2, 0.3]],
    "mu_coef": [[1.0, 1.0], [8.0, -1.0]],
    "sigma": [1.5, 2.0],
}


@pytest.fixture(scope="module", params=["rows", "groups"])
def fit(request):
    columns = {"group": "g"} if request.param == "groups" else {"weights": None}
    spec = grouped("normal-2", **columns)
    table = group_table()
    table["normal"] = (table["normal"] - 30) / 4
    return fake_fit(spec, table, PARAMETERS, draws=30, spread=0.3)


def test_allocations_are_means_and_intervals_of_responsibilities(fit):
    found = bm.allocation(fit, ci_prob=0.8)
    r = bm.responsibilities(fit)
    unit = r.dims[2]
    draws = r.stack(sample=("chain", "draw")).transpose("sample", unit, "expert").values
    np.testing.assert_allclose(found["probability"], draws.mean(axis=0))
    bounds = np.quantile(draws, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(found["interval"].sel(ci_bound="lower"), bounds[0])
    np.testing.assert_allclose(found["interval"].sel(ci_bound="upper"), bounds[1])
    np.testing.assert_array_equal(found["likeliest"], draws.mean(axis=0).argmax(axis=1))
    np.testing.assert_allclose(found["certainty"], draws.mean(axis=0).max(axis=1))
    assert found["likeliest"].dims == (unit,)
    assert found[unit].values.tolist() == r[unit].values.tolist()
    with pytest.raises(bm.SpecError, match="ci_prob"):
        bm.allocation(fit, ci_prob=1.5)


def test_pairs_are_those_of_the_same_expert(fit, monkeypatch):
    found = bm.coclustering(fit)
    r = bm.responsibilities(fit).values.reshape(60, -1, 2)
    expected = np.einsum("sik,sjk->ij", r, r) / 60
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.dims[1] == f"other_{found.dims[0]}"
    swapped = bm.relabel(fit, "none") if fit.kind == "draws" else fit
    np.testing.assert_allclose(bm.coclustering(swapped), expected, atol=1e-12)
    assert bm.coclustering(fit, group_table().assign(normal=0.0)[:0]).shape == (0, 0)
    monkeypatch.setattr(allocations, "ELEMENTS", 500)
    np.testing.assert_allclose(bm.coclustering(fit), expected, atol=1e-12)
    monkeypatch.setattr(allocations, "MOST_UNITS", 10)
    with pytest.raises(bm.SpecError, match="at most 10"):
        bm.coclustering(fit)


def test_groups_of_effects_that_no_fitted_row_has_are_refused_or_average():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"g": np.repeat(list("abcdef"), 10), "x": rng.normal(size=60)})
    table["y"] = table["x"] + rng.normal(size=60)
    spec = bm.mixture_of_experts("y ~ x + (1 | g)", gate="~ 1", experts=1)
    fit = bm.fit(spec, table, method="em", random_seed=1)
    new = table.head(4).assign(g="z")
    with pytest.raises(DataError, match="unseen"):
        bm.allocation(fit, new)
    assert bm.allocation(fit, new, unseen="average")["probability"].shape == (4, 1)
    assert bm.coclustering(fit, new, unseen="average").shape == (4, 4)
