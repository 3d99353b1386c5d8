"""EM of mixtures with a point mass, against statsmodels and against fits of the parts."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import bayes_moe as bm
from bayes_moe.em.objective import Objective
from bayes_moe.em.partitions import initial_partitions
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.families.point_mass import PointMass

N = 800


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=N), rng.normal(size=N)
    zero = rng.random(N) < 1 / (1 + np.exp(0.5 - 0.8 * z))
    counts = np.where(zero, 0, rng.poisson(np.exp(0.6 + 0.5 * x)))
    amounts = np.where(zero, 0.0, rng.gamma(3.0, np.exp(0.6 + 0.5 * x) / 3.0))
    return pd.DataFrame({"x": x, "z": z, "counts": counts, "amounts": amounts})


def model(gate, *pairs):
    return bm.MixtureOfExperts(bm.gates.Softmax(gate), [bm.Expert(*pair) for pair in pairs])


@pytest.mark.parametrize("gate", ["~ 1", "~ z"])
@pytest.mark.parametrize("first", ["pointmass", "poisson"])
def test_zero_inflated_poisson_is_statsmodels(table, gate, first):
    pairs = [("counts", "pointmass"), ("counts ~ x", "poisson")]
    spec = model(gate, *(pairs if first == "pointmass" else pairs[::-1]))
    fit = bm.fit(spec, table, "em", objective="likelihood", random_seed=1)
    features = np.ones((N, 1)) if gate == "~ 1" else sm.add_constant(table.z)
    theirs = sm.ZeroInflatedPoisson(
        table.counts.to_numpy(), sm.add_constant(table.x.to_numpy()), exog_infl=np.asarray(features)
    ).fit(method="newton", maxiter=200, disp=0)
    own = fit.idata["posterior"]
    zero = 0 if first == "pointmass" else 1
    logit = own["gate_coef"].values[0, 0]
    logit = logit[zero] - logit[1 - zero]
    found = np.concatenate([logit, own[f"block{1 - zero}_mu_coef"].values.ravel()])
    np.testing.assert_allclose(found, theirs.params, atol=1e-5)
    assert float(bm.log_density(fit, table).sum()) == pytest.approx(theirs.llf, abs=1e-6)


def test_zeros_beside_a_density_separate_into_two_models(table):
    spec = model("~ z", ("amounts", "pointmass"), ("amounts ~ x", "gamma"))
    fit = bm.fit(spec, table, "em", objective="likelihood", random_seed=1)
    positive = table[table.amounts > 0]
    own = model("~ 1", ("amounts ~ x", "gamma"))
    alone = bm.fit(own, positive, "em", objective="likelihood", random_seed=1)
    post, part = fit.idata["posterior"], alone.idata["posterior"]
    np.testing.assert_allclose(post["block1_mu_coef"].values, part["mu_coef"].values, atol=1e-6)
    np.testing.assert_allclose(post["block1_alpha"].values, part["alpha"].values, rtol=1e-6)
    logit = sm.Logit((table.amounts == 0).astype(float), sm.add_constant(table.z)).fit(disp=0)
    coef = post["gate_coef"].values[0, 0]
    np.testing.assert_allclose(coef[0] - coef[1], logit.params, atol=1e-6)
    shares = bm.responsibilities(fit, table).values[0, 0]
    np.testing.assert_array_equal(shares[:, 0], 1.0 * (table.amounts == 0))


def test_partitions_give_no_expert_a_row_that_it_cannot_have(table):
    spec = model(
        "~ z", ("amounts ~ x", "gamma"), ("amounts ~ x", "gamma"), ("amounts", PointMass())
    )
    rows = spec.design(table).rows
    found = initial_partitions(spec, rows, 12, np.random.default_rng(2))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    zero = table.amounts.to_numpy() == 0
    assert (found[:, 2] == zero).all()
    assert not found[:, :2, zero].any()
    counts = model("~ 1", ("counts", "pointmass"), ("counts ~ x", "poisson"))
    found = initial_partitions(counts, counts.design(table).rows, 6, np.random.default_rng(2))
    at_zero = table.counts.to_numpy() == 0
    assert ((found[:, 0, at_zero] > 0) & (found[:, 0, at_zero] < 1)).all()
    assert not found[:, 0, ~at_zero].any()


MIXED = {
    "zeros and counts": (("counts", "pointmass"), ("counts ~ x", "poisson")),
    "zeros and amounts": (("amounts", "pointmass"), ("amounts ~ x", "gamma")),
    "gamma and normal": (("amounts ~ x", "gamma"), ("amounts ~ 1", "normal")),
    "normal and t": (("real ~ x", "normal"), ("real ~ 1", "studentt")),
    "two atoms": (("amounts", PointMass()), ("two", PointMass(2)), ("amounts ~ x", "normal")),
}


@pytest.mark.parametrize("name", MIXED)
def test_the_objective_is_the_sum_of_scipys_densities(table, name):
    table = table.assign(real=table.x + table.z)
    pairs = [(f.replace("two", "amounts"), family) for f, family in MIXED[name]]
    table.loc[table.index[:9], "amounts"] = 2.0
    spec = model("~ z", *pairs)
    design = spec.design(table)
    vector = parameter_vector(spec, design, likelihood=True)
    theta = np.random.default_rng(3).normal(0, 0.3, (2, vector.size))
    values = vector.variables(theta)
    found = Objective(vector).value(theta)
    for j in range(2):
        draw = {n: v[j] for n, v in values.items()}
        assert found[j] == pytest.approx(by_scipy(spec, table, draw), rel=1e-10)


def by_scipy(spec, table, draw):
    """Log likelihood of a model whose gate has the feature ``z`` and experts ``x``."""
    gate = draw["gate_coef"]
    logits = gate[:, :1] + gate[:, 1:] * table.z.to_numpy()
    weights = np.exp(logits) / np.exp(logits).sum(axis=0)
    y = table[spec.response].to_numpy().astype(float)
    atoms = {b.family.at for b in spec.structure.blocks if b.family.kind == "pointmass"}
    total, positive = 0.0, np.where(y > 0, y, 1.0)
    for k, block in enumerate(spec.structure.blocks):
        kind, name = block.family.kind, block.name
        if kind == "pointmass":
            total = total + weights[k] * (y == block.family.at)
            continue
        coef = draw[f"{name}_mu_coef"][0]
        eta = coef[0] + (coef[1] * table.x.to_numpy() if len(coef) > 1 else 0.0)
        constants = {n: draw.get(f"{name}_{n}", [np.nan])[0] for n in ("sigma", "alpha", "nu")}
        sigma, alpha = constants["sigma"], constants["alpha"]
        density = {
            "poisson": lambda e: stats.poisson.pmf(y, np.exp(e)),
            "gamma": lambda e, a=alpha: (y > 0) * stats.gamma.pdf(positive, a, scale=np.exp(e) / a),
            "normal": lambda e, s=sigma: stats.norm.pdf(y, e, s),
            "studentt": lambda e, s=sigma, nu=constants["nu"]: stats.t.pdf(y, nu, e, s),
        }[kind](eta)
        own = np.isin(y, [*atoms]) & (kind != "poisson")
        total = total + weights[k] * np.where(own, 0.0, density)
    return np.log(total).sum()
