"""fit, save and load: one record, the same in a new process."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_moe as bm
from bayes_moe.core import registry
from bayes_moe.inference.base import Method
from tests.support.fits import fake_fit

TONE_PARAMETERS = {
    "gate_coef": np.array([[1.0, -0.5], [-1.0, 0.5]]),
    "mu_coef": np.array([[1.9, 0.0], [0.0, 1.0]]),
    "sigma": np.array([0.05, 0.15]),
}
READ = """
import sys
import numpy as np
import bayes_moe as bm
fit = bm.load(sys.argv[1])
assert "pymc" not in sys.modules
predictive = bm.predict(fit, {"stretchratio": [1.4, 2.0, 2.9]})
np.savez(
    sys.argv[2], mean=predictive.mean(), sd=predictive.sd(), interval=predictive.interval(0.9),
    pdf=predictive.pdf(2.0), weights=predictive.weights(draws=True),
    sample=predictive.sample(9, random_seed=1),
    log_density=bm.log_density(fit), responsibilities=bm.responsibilities(fit),
)
"""


def test_the_fit_is_a_standard_tree(tone_fit, tone):
    tree = tone_fit.idata
    assert isinstance(tree, xr.DataTree)
    assert {
        "posterior",
        "unconstrained_posterior",
        "sample_stats",
        "log_likelihood",
        "observed_data",
        "constant_data",
        "relabelling",
        "modes",
    } == set(tree.children)
    posterior = tree["posterior"]
    assert posterior["gate_coef"].dims == ("chain", "draw", "expert", "gate_term")
    assert posterior["mu_coef"].dims == ("chain", "draw", "expert", "mu_term")
    assert posterior["sigma"].dims == ("chain", "draw", "expert")
    assert list(posterior["mu_term"].values) == ["Intercept", "stretchratio"]
    np.testing.assert_array_equal(tree["constant_data"]["stretchratio"], tone["stretchratio"])
    assert tone_fit.complete
    table = bm.summary(tone_fit)
    assert "mu_coef[1, stretchratio]" in table.index
    assert bm.diagnose(tone_fit).ok
    assert "2 experts (normal), 150 rows, 4 chains x 1000 draws" in repr(tone_fit)


def test_predictions_are_the_same_in_a_new_process(tone_fit, tmp_path):
    path = bm.save(tone_fit, tmp_path / "tone.nc")
    subprocess.run([sys.executable, "-c", READ, path, tmp_path / "read.npz"], check=True)
    read = np.load(tmp_path / "read.npz")
    predictive = bm.predict(tone_fit, {"stretchratio": [1.4, 2.0, 2.9]})
    expected = {
        "mean": predictive.mean(),
        "sd": predictive.sd(),
        "interval": predictive.interval(0.9),
        "pdf": predictive.pdf(2.0),
        "weights": predictive.weights(draws=True),
        "sample": predictive.sample(9, random_seed=1),
        "log_density": bm.log_density(tone_fit),
        "responsibilities": bm.responsibilities(tone_fit),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(read[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_everything_survives_the_file(tone_fit, tmp_path):
    back = bm.load(bm.save(tone_fit, tmp_path / "tone.nc"))
    assert back.spec == tone_fit.spec
    pd.testing.assert_frame_equal(back.design.columns, tone_fit.design.columns)
    for group in tone_fit.idata.children:
        xr.testing.assert_equal(back.idata[group].to_dataset(), tone_fit.idata[group].to_dataset())
    bm.save(back, tmp_path / "tone.nc")  # the file is closed: it can be replaced
    assert bm.relabel(back, "none").spec == tone_fit.spec


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x * g",
        "y ~ bs(x, df=5) + g",
        "y ~ poly(x, 3)",
        "y ~ scale(x) + center(z)",
        "log(w) ~ x + C(n)",
    ],
)
def test_stateful_formulas_come_back(formula, tmp_path):
    rng = np.random.default_rng(0)
    n = 60
    table = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.uniform(5, 9, n),
            "g": pd.Categorical(rng.choice(["a", "b", "c"], n), categories=["c", "a", "b"]),
            "n": rng.integers(3, size=n),
            "w": rng.lognormal(size=n),
            "y": rng.normal(size=n),
        }
    )
    spec = bm.mixture_of_experts(formula, gate="~ x", experts=2)
    terms = len(spec.design(table).rows.matrices["mu"].terms)
    parameters = {
        "gate_coef": [[0.0, 1.0], [0.0, -1.0]],
        "mu_coef": rng.normal(size=(2, terms)),
        "sigma": [0.5, 1.0],
    }
    fit = fake_fit(spec, table, parameters)
    back = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    rows = table.drop(columns=["y", "w"]).iloc[[5, 3, 30]]
    np.testing.assert_array_equal(bm.predict(back, rows).mean(), bm.predict(fit, rows).mean())
    np.testing.assert_array_equal(bm.log_density(back), bm.log_density(fit))


def test_dropped_rows_are_counted_and_remembered(tmp_path, tone):
    spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=2)
    holed = tone.copy()
    holed.loc[[3, 10], "tuned"] = np.nan
    with pytest.warns(bm.MissingRowsWarning, match="left out 2 of 150 rows"):
        design = spec.design(holed, missing="drop")
    assert design.n_dropped == 2
    assert set(range(150)) - set(design.rows.obs_id) == {3, 10}


def test_log_likelihood_is_stored_on_request(tone_spec, tone):
    parameters = {
        "gate_coef": np.zeros((2, 2)),
        "mu_coef": [[2.0, 0.0], [0.0, 1.0]],
        "sigma": [0.1, 0.1],
    }
    fit = fake_fit(tone_spec, tone, parameters)
    from bayes_moe.results.draws import standard_tree

    without = standard_tree(fit.idata, fit.spec, fit.design, log_likelihood=False)
    assert "log_likelihood" not in without.children


def test_unknown_methods_and_wrong_arguments(tone_spec, tone):
    with pytest.raises(bm.SpecError, match="Did you mean 'nuts'"):
        bm.fit(tone_spec, tone, method="nutz")
    with pytest.raises(bm.SpecError, match="`random_seed` must be a whole number"):
        bm.fit(tone_spec, tone, random_seed=-1)
    with pytest.raises(bm.SpecError, match="relabelling method"):
        bm.fit(tone_spec, tone, relabel="maybe")
    with pytest.raises(bm.SpecError, match="must be a MixtureOfExperts"):
        bm.fit("tuned ~ stretchratio", tone)


# --- refit ---------------------------------------------------------------------------------------

few_draws = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
SETTINGS = {
    "nuts": {"draws": 40, "tune": 60, "chains": 2, "progressbar": False, "target_accept": 0.8},
    "em": {"objective": "likelihood", "restarts": 3, "progressbar": False},
    "laplace": {"draws": 70, "restarts": 3, "progressbar": False},
}


def same_draws(own, its):
    """Two fits hold the same posterior and say the same of how it was made."""
    xr.testing.assert_equal(
        own.idata["posterior"].to_dataset(), its.idata["posterior"].to_dataset()
    )
    assert own.idata.attrs == its.idata.attrs
    common = own.idata.attrs["kind"] != "draws"  # a mode is relabelled by refit only
    without = {"relabelling"} if common else set()
    assert {*own.idata.children} - without == {*its.idata.children} - without


@few_draws
@pytest.mark.parametrize("method", list(SETTINGS))
def test_refit_is_a_fit_with_the_same_settings(tone_spec, tone, method):
    first = bm.fit(tone_spec, tone, method, random_seed=1, **SETTINGS[method])
    same_draws(bm.refit(first, tone, random_seed=1), first)
    other = tone.iloc[:110].assign(tuned=lambda t: 3 * t["tuned"])
    again = bm.refit(first, other, random_seed=5, like=None)
    same_draws(again, bm.fit(tone_spec, other, method, random_seed=5, **SETTINGS[method]))
    assert again.design.rows.size == 110
    assert first.design.rows.size == 150


@few_draws
def test_refit_takes_other_settings(tone_spec, tone):
    first = bm.fit(tone_spec, tone, "laplace", random_seed=1, **SETTINGS["laplace"])
    again = bm.refit(first, tone, random_seed=1, draws=90)
    assert again.idata["posterior"].sizes["draw"] == 90
    kept = SETTINGS["laplace"] | {"draws": 90}
    same_draws(again, bm.fit(tone_spec, tone, "laplace", random_seed=1, **kept))
    with pytest.raises(bm.SpecError, match="Did you mean 'draws'"):
        bm.refit(first, tone, drawz=90)
    with pytest.raises(bm.SpecError, match="`draws` must be a whole number"):
        bm.refit(first, tone, draws=0)
    with pytest.raises(bm.SpecError, match="`random_seed` must be a whole number"):
        bm.refit(first, tone, random_seed=-1)


@few_draws
@pytest.mark.parametrize("relabel", ["none", "parameters"])
@pytest.mark.parametrize("log_likelihood", [False, True])
def test_refit_relabels_and_stores_as_the_fit_did(tone_spec, tone, relabel, log_likelihood):
    choice = {"relabel": relabel, "log_likelihood": log_likelihood}
    first = bm.fit(tone_spec, tone, random_seed=1, **choice, **SETTINGS["nuts"])
    again = bm.refit(first, tone, random_seed=1)
    same_draws(again, first)
    assert ("log_likelihood" in again.idata.children) is log_likelihood


def test_refit_stores_the_log_likelihood_of_a_mode_as_the_fit_did(tone_spec, tone):
    first = bm.fit(tone_spec, tone, "em", random_seed=1, log_likelihood=True, **SETTINGS["em"])
    assert "log_likelihood" in first.idata.children
    assert "log_likelihood" in bm.refit(first, tone, random_seed=1).idata.children


def test_refit_does_not_repeat_a_start(tone_spec, tone):
    found = bm.fit(tone_spec, tone, "em", random_seed=1, **SETTINGS["em"])
    start = {n: found.idata["posterior"][n].values[0, 0] for n in tone_spec.variables}
    begun = bm.fit(tone_spec, tone, "em", random_seed=1, **SETTINGS["em"], start=start)
    same_draws(bm.refit(begun, tone, random_seed=1), found)


def test_refit_of_a_method_given_as_a_record(tone_spec, tone):
    from bayes_moe.inference.em import EM

    first = bm.fit(tone_spec, tone, EM(**SETTINGS["em"]), random_seed=1)
    same_draws(bm.refit(first, tone, random_seed=1), first)


def test_refit_leaves_out_rows_on_request(tone_spec, tone):
    first = bm.fit(tone_spec, tone, "em", random_seed=1, **SETTINGS["em"])
    holed = tone.copy()
    holed.loc[3, "tuned"] = np.nan
    with pytest.raises(bm.DataError):
        bm.refit(first, holed)
    with pytest.warns(bm.MissingRowsWarning, match="left out 1 of 150 rows"):
        assert bm.refit(first, holed, random_seed=1, missing="drop").design.n_dropped == 1


def test_a_loaded_fit_is_fitted_again(tone_spec, tone, tmp_path):
    first = bm.fit(tone_spec, tone, "em", random_seed=1, **SETTINGS["em"])
    back = bm.load(bm.save(first, tmp_path / "fit.nc"))
    same_draws(bm.refit(back, tone, random_seed=1), first)


def test_a_fit_that_holds_no_settings_cannot_be_repeated(tone_spec, tone, tmp_path):
    first = bm.fit(tone_spec, tone, "em", random_seed=1, **SETTINGS["em"])
    del first.idata.attrs["settings"]  # as in files of earlier versions
    old = bm.load(bm.save(first, tmp_path / "fit.nc"))
    with pytest.raises(bm.SpecError, match="does not say by which settings"):
        bm.refit(old, tone)


def test_settings_that_cannot_be_stored_are_refused_before_the_work(tone_spec, tone):
    @dataclass(frozen=True)
    class Own(Method):
        rule: object = len

        def run(self, spec, design, random_seed):
            raise AssertionError("too late")

    with pytest.raises(bm.SpecError, match="settings of Own must be plain values"):
        bm.fit(tone_spec, tone, Own())


@few_draws
def test_labels_that_were_undone_are_not_aligned_by_refit(tone_spec, tone):
    first = bm.fit(tone_spec, tone, random_seed=1, **SETTINGS["nuts"])
    plain = bm.relabel(first, "none")
    assert "relabelling" not in bm.refit(plain, tone, random_seed=1).idata.children


@few_draws
def test_settings_may_be_numpy_s_numbers(tone_spec, tone):
    settings = SETTINGS["laplace"] | {"draws": np.int64(70)}
    first = bm.fit(tone_spec, tone, "laplace", random_seed=np.int64(1), **settings)
    same_draws(bm.refit(first, tone, random_seed=1), first)


@pytest.mark.parametrize("again", [False, True])
def test_convergence_warnings_point_at_the_line_of_the_caller(tone_spec, tone, again):
    settings = {"method": "em", "max_iter": 1, "restarts": 2, "progressbar": False}
    with pytest.warns(bm.ConvergenceWarning) as caught:
        fit = bm.fit(tone_spec, tone, random_seed=1, **settings)
    if again:
        with pytest.warns(bm.ConvergenceWarning) as caught:
            bm.refit(fit, tone)
    assert {warning.filename for warning in caught} == {__file__}


def test_the_kind_of_a_fit_is_stored_and_told_from_older_files(tone_spec, tone, tmp_path):
    kinds = {"em": "mode", "laplace": "approximation"}
    for method, kind in kinds.items():
        fit = bm.fit(tone_spec, tone, method, random_seed=1, progressbar=False)
        assert fit.kind == fit.idata.attrs["kind"] == kind
        del fit.idata.attrs["kind"]  # as in files of earlier versions
        assert bm.load(bm.save(fit, tmp_path / f"{method}.nc")).kind == kind
    assert fake_fit(tone_spec, tone, TONE_PARAMETERS).kind == "draws"


def test_names_of_methods_are_those_of_the_registry():
    for name in registry.TABLE["method"]:
        assert registry.resolve("method", name).name == name


def seeds_table(n=40):
    """Germinated seeds under row labels that are not their positions."""
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="binomial", trials="n")
    rng = np.random.default_rng(0)
    index = rng.permutation(3 * n)[:n]
    rows = pd.DataFrame({"x": rng.normal(size=n), "n": rng.integers(5, 30, n)}, index)
    truth = {
        "gate_coef": np.array([[1.0, -2.0], [-1.0, 2.0]]),
        "p_coef": np.array([[-1.0, 0.5], [1.0, 0.5]]),
    }
    return spec, bm.simulate(spec, rows, truth, random_seed=1), truth


def shuffled(table):
    """A dict of the columns, each with its rows in an order of its own."""
    rng = np.random.default_rng(2)
    series = {name: column.iloc[rng.permutation(len(table))] for name, column in table.items()}
    return {"x": table["x"], **{name: series[name] for name in series if name != "x"}}


def graph_data(spec, rows):
    model = bm.build(spec, rows).model
    return np.column_stack([model[n].get_value() for n in ("y_data", "trials", "p_features")])


EVERYWHERE = {
    "predict": lambda fit, rows: bm.predict(fit, rows).mean(),
    "cdf": lambda fit, rows: bm.predict(fit, rows).cdf(3),
    "log_density": bm.log_density,
    "responsibilities": bm.responsibilities,
    "node_probabilities": bm.node_probabilities,
    "design": lambda fit, rows: fit.spec.design(rows).columns,
    "build": lambda fit, rows: graph_data(fit.spec, rows),
    "refit": lambda fit, rows: bm.log_density(bm.refit(fit, rows, random_seed=0)),
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_rows_of_a_dict_of_series_are_paired_by_their_labels(name):
    spec, table, truth = seeds_table()
    if name == "refit":
        fit = bm.fit(spec, shuffled(table), "em", random_seed=0, progressbar=False)
    else:
        fit = fake_fit(spec, table, truth, draws=5)
    result = EVERYWHERE[name](fit, shuffled(table))
    np.testing.assert_allclose(result, EVERYWHERE[name](fit, table), rtol=1e-12)
    wrong = {**shuffled(table), "n": pd.Series([20] * len(table))}
    with pytest.raises(bm.DataError, match="of the dict have different row labels"):
        EVERYWHERE[name](fit, wrong)


def test_simulated_responses_keep_the_labels_of_their_rows():
    spec, table, truth = seeds_table()
    rows = table[["x", "n"]]
    simulated = bm.simulate(spec, shuffled(rows), truth, random_seed=1)
    pd.testing.assert_frame_equal(simulated[list(table)], table, check_dtype=False)
    back = rows.sort_index().assign(y=simulated["y"])
    pd.testing.assert_frame_equal(back, table.sort_index(), check_dtype=False)
