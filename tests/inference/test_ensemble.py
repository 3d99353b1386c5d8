"""Ensembles: the average of members, what is recorded of them, and what they are good for."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.inference.ensemble import Ensemble
from bayes_moe.inference.map import MAP
from tests.support.tables import inverse_sine

SPEC = bm.mixture_density("y ~ x", components=2, hidden=(4,))
QUIET = {"method": "ensemble", "random_seed": 1, "progressbar": False}
SHORT = {"members": 6, "epochs": 60}
pytestmark = pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")


@pytest.fixture(scope="module")
def table():
    return inverse_sine(120)


@pytest.fixture(scope="module")
def equal(table):
    return bm.fit(SPEC, table, **QUIET, **SHORT)


@pytest.fixture(scope="module")
def weighted(table):
    return bm.fit(SPEC, table, **QUIET, **SHORT, weights="heldout", draws=500, validation=0.5)


def densities_of_members(fit, rows):
    """Density (member, row) of each member alone, from a fit with one draw."""
    posterior = fit.idata["posterior"].to_dataset()
    whose = fit.idata["sample_stats"]["member"].values[0]
    found = []
    for member in range(fit.idata["fit"].sizes["member"]):
        draw = np.flatnonzero(whose == member)[:1]
        alone = fit.idata.copy()
        alone["posterior"] = type(alone)(posterior.isel(draw=draw))
        one = bm.Fit(fit.spec, fit.design, alone)
        found.append(
            np.exp(bm.predict(one, rows).logpdf(rows.y).values) if draw.size else 0 * rows.y
        )
    return np.array(found)


def test_the_density_is_the_average_of_the_members(equal):
    rows = inverse_sine(30, seed=2)
    members = densities_of_members(equal, rows)
    np.testing.assert_allclose(equal.idata["fit"]["member_weight"], 1 / 6)
    average = np.log(members.mean(axis=0))
    np.testing.assert_allclose(bm.predict(equal, rows).logpdf(rows.y), average, rtol=1e-10)
    assert np.ptp(members, axis=0).max() > 0.01


def test_unequal_weights_repeat_members(weighted):
    weights = weighted.idata["fit"]["member_weight"].values
    assert weights.sum() == pytest.approx(1.0)
    assert np.ptp(weights) > 0.01
    counts = np.bincount(weighted.idata["sample_stats"]["member"].values[0], minlength=6)
    assert (np.abs(counts - 500 * weights) < 1).all()
    rows = inverse_sine(30, seed=2)
    members = densities_of_members(weighted, rows)
    average = np.log(counts / 500 @ members)
    np.testing.assert_allclose(bm.predict(weighted, rows).logpdf(rows.y), average, rtol=1e-10)


def test_held_out_figures_are_those_of_rows_that_members_did_not_see(equal, table):
    fit = equal.idata["fit"]
    members = densities_of_members(equal, table)
    fold = np.random.default_rng(QUIET["random_seed"]).permutation(len(table)) % 5
    for j in range(6):
        mean = np.log(members[j, fold == j % 5]).mean()
        assert float(fit["held_out_log_density"][j]) == pytest.approx(mean, rel=1e-9)
    score = sum(np.log(members[j::5][:, fold == j].mean(axis=0)).sum() for j in range(5))
    assert float(fit["held_out_score"]) == pytest.approx(score / len(table), rel=1e-9)


def test_what_is_recorded(equal, tmp_path):
    fit = equal.idata["fit"]
    assert fit.attrs["optimizer"] == "adam"
    assert fit["member_seed"].shape == fit["held_out_log_density"].shape == (6,)
    assert len(np.unique(fit["member_seed"])) == 6
    assert equal.kind == "approximation"
    assert "log_likelihood" not in equal.idata.children
    bm.save(equal, tmp_path / "fit.nc")
    again = bm.load(tmp_path / "fit.nc")
    assert again.idata["fit"].to_dataset().identical(fit.to_dataset())
    diagnosis = bm.diagnose(again)
    assert "6" in str(diagnosis.table.loc["members", "value"])
    assert "rhat" not in str(diagnosis.table).lower().replace("-", "")
    assert len(bm.summary(equal))
    with pytest.raises(bm.SpecError, match="no posterior draws"):
        bm.compare({"one": equal, "two": again})
    with pytest.raises(bm.SpecError, match="nothing to align"):
        bm.relabel(equal)


def test_the_number_of_cores_changes_nothing(equal, table):
    again = bm.fit(SPEC, table, **QUIET, **SHORT, cores=1)
    assert again.idata["posterior"].identical(equal.idata["posterior"])
    refitted = bm.refit(equal, table, random_seed=1, cores=3)
    for name in SPEC.variables:
        np.testing.assert_array_equal(
            refitted.idata["posterior"][name], equal.idata["posterior"][name]
        )


def test_linear_models_have_a_mode_for_each_part_of_the_rows():
    rng = np.random.default_rng(4)
    x = rng.normal(size=80)
    y = np.where(rng.random(80) < 0.5, 2 * x, -1 - x) + 0.2 * rng.normal(size=80)
    table = pd.DataFrame({"x": x, "y": y})
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    fit = bm.fit(spec, table, **QUIET, members=3, validation=0.34)
    assert fit.idata["fit"].attrs["optimizer"] == "lbfgs"
    assert fit.idata["fit"]["member_converged"].values.all()
    part = np.random.default_rng(1).permutation(80) % 3
    alone = bm.fit(spec, table[part != 1], method="em", random_seed=1)
    found = fit.idata["posterior"]["mu_coef"].values[0, 1]
    np.testing.assert_allclose(found, alone.idata["posterior"]["mu_coef"].values[0, 0], atol=0.02)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("members", 1, "whole number >= 2"),
        ("draws", 0, "whole number >= 1"),
        ("weights", "held", "Did you mean 'heldout'"),
        ("validation", 1.5, "between 0 and 1"),
        ("cores", 0, "whole number >= 1"),
        ("optimizer", "adams", "Did you mean 'adam'"),
    ],
)
def test_settings_are_checked(setting, value, message):
    with pytest.raises(bm.SpecError, match=message):
        Ensemble(**{setting: value})


def test_shared_settings_are_those_of_a_member():
    assert Ensemble(epochs=7, optimizer="adam")._map() == MAP(
        restarts=3, validation=0.2, learning_rate=0.02, epochs=7, optimizer="adam"
    )


@pytest.mark.slow
def test_the_inverse_problem_at_default_settings():
    """The averages of eight networks in PyTorch (benchmarks/torch_mdn.py) have regrets of 0.208,
    0.190, 0.163, 0.171 and 0.171 on these five samples.
    """
    regrets = []
    for seed in range(5):
        fit = bm.fit(bm.mixture_density("y ~ x"), inverse_sine(1000, seed), **QUIET)
        rows = inverse_sine(10_000, 100 + seed)
        regrets.append(1.2824 - float(bm.predict(fit, rows).logpdf(rows.y).mean()))
    assert np.median(regrets) <= 0.147
