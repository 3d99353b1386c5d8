"""Chains of growth mixtures, with the effects integrated out, and their graphs."""

import numpy as np
import pytest
from scipy import special

import bayes_moe as bm
from bayes_moe.em import marginal_draws
from bayes_moe.em.shared_marginal import SharedMarginal
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.sampling.chain_starts import GroupedStarts, SharedStarts, starts
from bayes_moe.sampling.marginal_sampler import has_exact_integrals
from tests.support.growth import growth_table

moe = bm.mixture_of_experts
GROUP = {"gate": "~ 1", "experts": 2, "group": "id"}
EXACT = [
    ("y ~ t + (t | id)", {}, True),
    ("y ~ t + (1 | id)", {"sigma": "~ t"}, True),
    ("y ~ t + (1 | id)", {"family": "lognormal"}, True),
    ("y ~ t + (1 | id)", {"sigma": "~ 1 + (1 | id)"}, False),
    ("y ~ t + (1 | id)", {"family": "studentt"}, False),
    ("c ~ t + (1 | id)", {"family": "poisson"}, False),
    ("censored(y, b) ~ t + (1 | id)", {}, False),
    ("y ~ t + (1 | id) + (1 | visit)", {}, False),
    ("y ~ t", {}, False),
]


@pytest.mark.parametrize(("formula", "settings", "exact"), EXACT)
def test_where_integrals_are_exact(formula, settings, exact):
    assert has_exact_integrals(moe(formula, **GROUP, **settings)) == exact
    assert not has_exact_integrals(moe(formula, **GROUP | settings | {"group": None}))


def test_the_graph_has_the_density_given_the_effects():
    spec = moe("y ~ t + (1 | id)", **GROUP)
    table = growth_table(6)
    vector = parameter_vector(spec, spec.design(table), jacobian=True)
    marginal = SharedMarginal.of(vector, likelihood=False)
    rng = np.random.default_rng(1)
    fixed, effects = rng.normal(size=(1, marginal.fixed)), rng.normal(size=(1, marginal.rows.size))
    psi = marginal.point(fixed[0], vector.hyperparameters)[None]
    density = marginal_draws.log_density(marginal, psi, effects)[0]
    values = {n: v[0] for n, v in marginal_draws.variables(marginal, psi, effects).items()}
    surface = GraphLogDensity(build_design(spec, vector.design, "symbolic"), jacobian=True)
    volume = sum(
        p.effects.shape[1] * np.log(np.diagonal(p.factor, axis1=-2, axis2=-1)).sum()
        for p in marginal.group_priors(psi[0])
    )
    found = surface(surface.point(values))[0]
    assert found == pytest.approx(density + volume, rel=1e-10)
    total = 0.0  # by hand: groups in one expert each, given their effects
    for g, name in enumerate(spec.design(table).rows.matrices["mu"].groups[0].labels):
        rows = table[table.id == name]
        means = values["mu_coef"] @ [np.ones(len(rows)), rows.t]
        means = means + values["mu_id_effect"][:, g]
        z = (rows.y.to_numpy() - means) / values["sigma"][:, None]
        logs = -0.5 * z**2 - np.log(values["sigma"])[:, None] - 0.5 * np.log(2 * np.pi)
        weights = special.log_softmax(values["gate_coef"][:, 0])
        total += special.logsumexp(weights + logs.sum(axis=1))
    assert marginal.rows.value(fixed, effects)[0] == pytest.approx(total, rel=1e-12)


def test_chains_start_at_draws_about_the_mode():
    spec, table = moe("y ~ t + (1 | id)", **GROUP), growth_table(20)
    found = starts(spec, spec.design(table), 0)
    assert isinstance(found, SharedStarts)
    rng = np.random.default_rng(0)
    drawn = [found.draw(rng)[1]["mu_coef"] for _ in range(50)]
    error = found.found.errors["mu_coef"]
    assert (np.abs(np.mean(drawn, axis=0) - found.modes.values["mu_coef"][0]) < error).all()


def test_chains_with_effects_of_coarser_groups_have_starts():
    table = growth_table(20).assign(school=lambda d: d.id.str[2])
    spec = moe("y ~ t + (1 | id)", "~ 1 + (1 | school)", 2, group="id")
    found = starts(spec, spec.design(table), 0)
    assert type(found) is GroupedStarts
    assert np.isfinite(found.draw(np.random.default_rng(0))[1]["gate_school_effect"]).all()
    wrong = table.assign(school=table.visit)
    with pytest.raises(bm.DataError, match="gate's effects of 'school'"):
        spec.design(wrong)


@pytest.mark.slow
def test_chains_have_the_posterior_of_effects_and_coefficients():
    spec, table = moe("y ~ t + (1 | id)", **GROUP), growth_table(25)
    settings = {"random_seed": 1, "progressbar": False}
    fit = bm.fit(spec, table, "nuts", draws=500, chains=2, cores=1, **settings)
    assert not fit.idata.sample_stats.diverging.any()
    shown = bm.summary(fit)
    assert (shown["ess_bulk"].to_numpy() > 200).all()
    assert (shown["r_hat"].to_numpy() < 1.03).all()
    other = bm.fit(spec, table, "laplace", draws=1000, chains=1, **settings)
    for name in ("mu_coef", "gate_coef", "mu_id_effect"):
        one, two = (f.idata.posterior[name].values for f in (fit, other))
        one, two = (v.reshape(-1, *v.shape[2:]) for v in (one, two))
        assert (np.abs(one.mean(axis=0) - two.mean(axis=0)) < 0.5 * two.std(axis=0)).all()
