"""Plots against a column are those of the average group of random effects."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.data.reference_grid import grid_along


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 60))
    rows = pd.DataFrame({"x": x, "z": z, "id": np.repeat(["a", "b", "average"], 20)})
    truth = {
        "gate_coef": [[0.0, -1.0], [0.0, 1.0]],
        "gate_id_sd": [0.5],
        "mu_coef": [[0.0, 1.0], [5.0, -1.0]],
        "mu_id_sd": [[0.5], [1.0]],
        "sigma": [0.5, 0.7],
    }
    spec = bm.mixture_of_experts("y ~ x + (1 | id)", "~ z + (1 | id)", 2)
    data = bm.simulate(spec, rows, truth, random_seed=1)
    settings = {"restarts": 1, "moves": 0, "progressbar": False}
    return bm.fit(spec, data, "em", random_seed=0, **settings)


def test_the_grid_has_the_average_group_or_one_that_is_named(fit):
    grid = grid_along(fit.design, "x")
    assert set(grid.rows["id"]) == {"average group"}
    assert set(grid_along(fit.design, "x", {"id": "b"}).rows["id"]) == {"b"}
    with pytest.raises(bm.DataError, match="group of 'id' in `at` 'c'"):
        grid_along(fit.design, "x", {"id": "c"})
    mean = bm.predict(fit, grid.rows, unseen="average").expert_means().values
    coef = fit.idata.posterior["mu_coef"].values[0, 0]
    np.testing.assert_allclose(mean, coef[:, 0] + np.outer(grid.rows.x, coef[:, 1]), atol=1e-10)


def test_plots_are_drawn(fit):
    bm.plot_predictive(fit, "x")
    bm.plot_experts(fit, "x", at={"id": "a"})
    bm.plot_gate(fit, "z")
    bm.plot_tree(fit)
