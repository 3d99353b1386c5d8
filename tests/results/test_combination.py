"""Chains of several jobs in one fit: nothing lost, nothing twice, checked anew."""

import json
from functools import cache

import numpy as np
import pytest
import xarray as xr

import bayes_moe as bm
from tests.support.fits import fake_fit, parallel_lines

quiet = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")


def one_table():
    return parallel_lines(3)


ORDERS = ((1, (0, 1, 2)), (2, (2, 0, 1)))


@cache
def job(seed, draws=40, chains=2, order=(0, 1, 2)):
    """A fit of one table, whose experts are in an order of its own."""
    spec, table, parameters = one_table()
    fit = fake_fit(
        spec,
        table,
        {n: v[list(order)] for n, v in parameters.items()},
        chains=chains,
        draws=draws,
        seed=seed,
        spread=0.03,
    )
    fit.idata.attrs["settings"] = json.dumps({"draws": draws, "chains": chains, "tune": seed})
    return fit


@pytest.fixture(scope="module")
def halves(tone_spec, tone):
    """Two jobs by NUTS, with modes where the chains began."""
    settings = {"draws": 60, "tune": 100, "chains": 2, "progressbar": False}
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [bm.fit(tone_spec, tone, random_seed=s, **settings) for s in (1, 2)]


@quiet
def test_chains_are_joined_in_all_groups_and_aligned_together():
    first, second, third = job(1), job(2, order=(2, 0, 1)), job(3, chains=1, order=(1, 0, 2))
    whole = bm.combine([first, second, third])
    for group, variable in (("sample_stats", "energy"), ("log_likelihood", "y")):
        parts = [f.idata[group][variable].values for f in (first, second, third)]
        np.testing.assert_array_equal(whole.idata[group][variable], np.concatenate(parts))
    assert list(whole.idata["posterior"]["chain"].values) == [0, 1, 2, 3, 4]
    levels = whole.idata["posterior"]["mu_coef"].values[..., 0]
    np.testing.assert_allclose(levels, np.broadcast_to([0.0, 3.0, 6.0], levels.shape), atol=0.5)
    expected = np.concatenate([bm.log_density(f).values for f in (first, second, third)])
    np.testing.assert_allclose(bm.log_density(whole), expected, rtol=1e-9)
    assert float(whole.idata["relabelling"]["certainty"].min()) > 0.9
    xr.testing.assert_identical(
        whole.idata["constant_data"].to_dataset(), first.idata["constant_data"].to_dataset()
    )
    assert bm.diagnose(whole).table.loc["chains", "value"] == 5


@quiet
def test_jobs_are_recorded_with_seeds_and_settings(tmp_path):
    whole = bm.combine([bm.combine([job(1), job(2)]), job(3)])
    jobs = json.loads(whole.idata.attrs["combined"])
    assert [j["random_seed"] for j in jobs] == [1, 2, 3]
    assert [j["settings"]["tune"] for j in jobs] == [1, 2, 3]
    assert [j["chains"] for j in jobs] == [2, 2, 2]
    back = bm.load(bm.save(whole, tmp_path / "whole.nc"))
    assert back.idata.attrs["combined"] == whole.idata.attrs["combined"]
    xr.testing.assert_equal(
        back.idata["posterior"].to_dataset(), whole.idata["posterior"].to_dataset()
    )


@quiet
def test_modes_are_merged_and_chains_point_at_them(halves):
    whole = bm.combine(halves)
    table, parts = bm.modes(whole), [bm.modes(f) for f in halves]
    assert (table["objective"].diff().dropna() <= 0).all()
    assert table["hits"].sum() == sum(p["hits"].sum() for p in parts)
    assert table["mass"].sum() == pytest.approx(1.0)
    assert len(table) < sum(map(len, parts))  # the best is in both
    assert table["objective"].iloc[0] == max(p["objective"].iloc[0] for p in parts)
    for name in ("start_mode", "end_mode"):
        own = np.concatenate([f.idata["sample_stats"][name].values for f in halves])
        joined = whole.idata["sample_stats"][name].values
        assert own.shape == joined.shape
        objectives = np.concatenate(
            [
                p["objective"].reindex(f.idata["sample_stats"][name].values.ravel()).values
                for f, p in zip(halves, parts, strict=True)
            ]
        )
        np.testing.assert_allclose(
            table["objective"].reindex(joined.ravel()).values, objectives, atol=5e-3
        )
    assert bm.refit(whole, whole.design.columns, draws=20, tune=30, random_seed=3).complete


def test_the_whole_is_checked_anew():
    """Chains that settle in different places are found, though each job alone agrees."""
    spec, table, parameters = one_table()
    moved = {n: v + (0.5 if n == "mu_coef" else 0.0) for n, v in parameters.items()}
    near, far = (
        fake_fit(spec, table, p, draws=400, seed=s) for s, p in ((1, parameters), (2, moved))
    )
    with pytest.warns(bm.ConvergenceWarning, match="R-hat .* on quantities that labels"):
        whole = bm.combine([near, far])
    assert not bm.diagnose(whole).ok
    assert bm.diagnose(near).ok


@quiet
def test_what_only_some_fits_have_is_named_or_computed():
    first, second = job(1), job(2)
    tree = second.idata.copy()
    del tree["log_likelihood"]
    tree["own"] = first.idata["sample_stats"]
    tree["sample_stats"] = tree["sample_stats"].assign(
        extra=tree["sample_stats"]["energy"].astype(float)
    )
    with pytest.warns(UserWarning, match=r"not all fits have it: group 'own', sample_stats\['ext"):
        whole = bm.combine([first, bm.Fit(second.spec, second.design, tree)])
    assert "own" not in whole.idata.children
    np.testing.assert_allclose(
        whole.idata["log_likelihood"]["y"], bm.log_density(whole), rtol=1e-12
    )


@quiet
@pytest.mark.parametrize("draws", [7, 40, 90])
def test_draws_from_the_prior_are_the_first_fits(draws):
    """They are draws of the same distribution, and no chains of the posterior's."""
    groups = ("posterior_predictive", "prior", "prior_predictive", "log_prior")
    jobs = [bm.extend(job(k, order=o), *groups, draws=draws, random_seed=k) for k, o in ORDERS]
    whole = bm.combine(jobs)
    for group in ("prior", "prior_predictive"):
        assert whole.idata[group].to_dataset().equals(jobs[0].idata[group].to_dataset())
    for group in ("posterior", "posterior_predictive", "log_prior"):
        assert whole.idata[group].sizes["chain"] == 4
    again = bm.relabel(whole, "parameters").idata
    assert again["prior"].to_dataset().equals(jobs[0].idata["prior"].to_dataset())


@quiet
def test_a_thinned_posterior_takes_its_draws_from_the_other_groups():
    parts = []
    for fit in (job(1), job(2)):
        tree = fit.idata.copy()
        tree["posterior"] = tree["posterior"].isel(chain=[1], draw=slice(None, None, 4))
        parts.append(bm.Fit(fit.spec, fit.design, tree))
    whole = bm.combine(parts)
    expected = [f.idata["sample_stats"]["energy"].values[1:, ::4] for f in (job(1), job(2))]
    np.testing.assert_array_equal(whole.idata["sample_stats"]["energy"], np.concatenate(expected))


def changed(change):
    """A job whose description or table differs by a function of both."""
    spec, table, parameters = one_table()
    spec, table = change(spec, table)
    return fake_fit(spec, table, parameters, draws=40, seed=7)


def other_priors(spec, table):
    priors = {"sigma_coef": bm.Prior("Normal", mu=0, sigma=1)}
    return bm.MixtureOfExperts(spec.gate, spec.experts, priors), table


def one_value(spec, table):
    table = table.copy()
    table.iloc[17, list(table.columns).index("x")] += 0.5
    return spec, table


def by_em():
    spec, table, _ = one_table()
    return bm.fit(spec, table, "em", random_seed=1, restarts=2, progressbar=False)


def by_another_method():
    fit = fake_fit(*one_table(), draws=40, seed=8)
    fit.idata.attrs["method"] = "own"
    return fit


REFUSED = {
    r"different models: priors .*sigma_coef": lambda: [job(1), changed(other_priors)],
    r"different models: expert 0 .*studentt": lambda: [
        job(1),
        fake_fit(
            bm.mixture_of_experts("y ~ x", experts=3, sigma="~ x", family="studentt"),
            one_table()[1],
            one_table()[2] | {"nu": np.full(3, 5.0)},
            draws=40,
        ),
    ],
    r"Column 'x' of fits 0 and 1 differs, first in row 17": lambda: [job(1), changed(one_value)],
    "120 rows and fit 1 has 119": lambda: [job(1), changed(lambda s, t: (s, t.iloc[:-1]))],
    "by 'em' and has no chains .* raise restarts": lambda: [job(1), by_em()],
    "Fit 0 is by 'nuts' and fit 1 by 'own'": lambda: [job(1), by_another_method()],
    r"40 draws a chain and fit 1 has 30.*slice\(30\)": lambda: [job(1), job(2, draws=30)],
    "the same draws twice: chain 0 .* another random_seed": lambda: [job(1), job(1)],
    "1 hold the same draws twice": lambda: [job(1), bm.relabel(job(1)), job(2)],
    "at least two fits.* there is 1": lambda: [job(1)],
    "at least two fits.* there is 0": lambda: [],
    "number 1 is Dataset": lambda: [job(1), job(1).idata["posterior"].to_dataset()],
}


@quiet
@pytest.mark.parametrize("message", REFUSED)
def test_fits_that_do_not_belong_together_are_refused(message):
    with pytest.raises(bm.SpecError, match=message):
        bm.combine(REFUSED[message]())
    with pytest.raises(bm.SpecError, match="at least two fits"):
        bm.combine(job(1))


@quiet
def test_shorter_jobs_can_be_joined_as_the_message_says():
    longer = job(1)
    cut = bm.Fit(longer.spec, longer.design, longer.idata.isel(draw=slice(30)))
    assert bm.combine([cut, job(2, draws=30)]).idata["posterior"].sizes["draw"] == 30
