"""Variables of parameters with several numbers: dimensions and labels of all groups of a fit."""

import arviz as az
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.reported_shape import internal_arrays, reported_tree
from tests.support import class_fits

unconverged = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")

DIMS = {
    "linear": {"p_coef": ("class", "expert", "p_term")},
    "not zero-sum": {"p_coef": ("class", "expert", "p_term")},
    "grades": {"mu_coef": ("expert", "mu_term"), "gap": ("threshold", "expert")},
    "grades by row": {"gap_coef": ("threshold", "expert", "gap_term")},
    "spline": {
        "p_coef": ("class", "expert", "p_basis"),
        "p_smoothing": ("class", "expert", "p_column"),
    },
    "horseshoe": {"p_coef": ("class", "expert", "p_term")},
    "networks": {
        "p_coef": ("class", "expert", "p_basis"),
        "p_hidden0": ("class", "expert", "p_unit0", "p_term"),
    },
    "blocks": {
        "wild_p_coef": ("class", "wild_expert", "wild_p_term"),
        "tame_gap": ("threshold", "tame_expert"),
    },
    "outcomes": {"p_coef": ("outcome", "expert", "p_term")},
}


@pytest.mark.parametrize("name", class_fits.MODELS)
def test_dimensions_and_labels(name):
    fit = class_fits.fit_by_hand(name)
    posterior = fit.idata["posterior"]
    for variable, dims in DIMS[name].items():
        assert posterior[variable].dims == ("chain", "draw", *dims)
    known = {"class": class_fits.LEVELS, "threshold": class_fits.LEVELS[1:-1]}
    known["outcome"] = ("a", "b", "c")
    for dim in {*known} & {*posterior.dims}:
        assert tuple(posterior[dim].values) == known[dim]
    for block in fit.spec.structure.blocks:
        assert [*posterior[block.dim].values] == [
            fit.spec.expert_labels[k] for k in block.positions
        ]
    assert not any("_class" in d or "_threshold" in d for d in map(str, posterior.coords))


@pytest.mark.parametrize("name", class_fits.MODELS)
def test_internal_arrays_of_the_reported_tree(name):
    """Labels lead to the numbers that the mixture is evaluated at."""
    fit = class_fits.fit_by_hand(name)
    posterior, structure = fit.idata["posterior"].to_dataset(), fit.spec.structure
    arrays = internal_arrays(fit.spec, posterior, ("draw", "chain"))
    stacked = stacked_draws(fit.spec, posterior)
    for c in structure.components:
        if not c.parameter.labels or c.variable not in posterior:
            continue
        _, _, numbers, experts, *_ = posterior[c.variable].dims
        for j, label in enumerate(c.parameter.labels):
            for k, expert in enumerate(posterior[experts].values):
                chosen = posterior[c.variable].sel({numbers: label, experts: expert})
                output = j * c.experts + k
                np.testing.assert_array_equal(arrays[c.variable][:, 0, output], chosen.values[0])
                np.testing.assert_array_equal(stacked[c.variable][:, output], chosen.values[0])
    again = reported_tree(fit.idata, fit.spec)
    assert again["posterior"].to_dataset().identical(posterior)


@unconverged
@pytest.mark.parametrize(
    "levels", [class_fits.LEVELS, class_fits.NUMBERS, (False, True)], ids=["text", "int", "bool"]
)
def test_labels_have_the_type_of_the_response(levels, tmp_path):
    table = class_fits.table()
    codes = np.resize(np.arange(len(levels)), len(table))
    table["y"] = np.array(levels)[codes]
    spec = bm.mixture_of_experts("y ~ x0", gate="~ x", family="categorical")
    fit = bm.fit(spec, table, "laplace", draws=20, restarts=2, random_seed=1, progressbar=False)
    for group in ("posterior", "modes", "standard_error"):
        found = fit.idata[group]["p_coef"]
        assert found.dims[-3:] == ("class", "expert", "p_term")
        assert found["class"].values.tolist() == sorted(levels)
        one = found.sel({"class": sorted(levels)[-1], "expert": 1}).values
        np.testing.assert_array_equal(one, found.values[..., -1, 1, :])
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    assert again.idata["posterior"].to_dataset().identical(fit.idata["posterior"].to_dataset())
    assert f"p_coef[{levels[0]}, 0, x0]" in bm.summary(fit).index
    assert f"p_coef[{levels[0]}, 0, x0]" in az.summary(fit.idata, var_names=["p_coef"]).index
    mode = bm.fit(spec, table, "em", restarts=2, random_seed=1, progressbar=False)
    assert f"p_coef[{levels[0]}, 0, x0]" in bm.summary(mode).index


def test_parameters_that_a_user_gives():
    """Simulations, their parameters, and starts of EM have the reported shape."""
    spec = class_fits.MODELS["grades"]
    rows = class_fits.table(300)
    truth = {
        "gate_coef": [[0.5, 1.0], [-0.5, -1.0]],
        "mu_coef": [[0.0, 1.0, 0.0], [1.0, -1.0, 0.0]],
        "gap": [[1.0, 0.2], [1.5, 0.1]],
    }
    table = bm.simulate(spec, rows, truth, random_seed=1)
    assert table.attrs["parameters"]["gap"] == truth["gap"]
    with pytest.raises(bm.SpecError, match=r"'gap' must have shape \(2, 2\); it has \(4,\)"):
        bm.simulate(spec, rows, truth | {"gap": [1.0, 0.2, 1.5, 0.1]})
    drawn = bm.simulate(spec, rows, random_seed=1).attrs["parameters"]
    assert np.shape(drawn["gap"]) == (2, 2)
    fit = bm.fit(spec, table, "em", start=truth, random_seed=1, progressbar=False)
    mode = {n: fit.idata["posterior"][n].values[0, 0] for n in spec.variables}
    again = bm.fit(spec, table, "em", start=mode, random_seed=1, progressbar=False)
    for name, value in mode.items():
        np.testing.assert_allclose(again.idata["posterior"][name].values[0, 0], value, rtol=1e-5)


def test_draws_from_the_prior():
    spec = class_fits.MODELS["grades"]
    prior = bm.prior_predictive(spec, class_fits.table(), draws=5, random_seed=1).idata["prior"]
    assert prior["gap"].dims == ("chain", "draw", "threshold", "expert")
    assert isinstance(prior["gap"].to_dataframe(), pd.DataFrame)
