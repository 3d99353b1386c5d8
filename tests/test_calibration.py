"""The whole chain is calibrated: true parameters and new rows fall where the posterior says.

Simulation-based calibration (Talts et al. 2018; Modrák et al. 2023): parameters drawn from the
prior, data drawn from them, the posterior by our model and sampler. Then the rank of any true
quantity among posterior draws is uniform. Only quantities that no relabelling changes are ranked.
The ECDF of the ranks must lie inside the 99 % simultaneous band (Säilynoja et al. 2022), which is
simulated from uniform ranks.
"""

import arviz_stats as azs
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from pytensor.compile.mode import Mode
from scipy import stats

import bayes_moe as bm
from bayes_moe.diagnostics import sampler as convergence
from bayes_moe.inference.nuts import NUTS
from bayes_moe.model.evaluation import evaluate
from bayes_moe.results import relabelling
from bayes_moe.results.draws import stacked_draws

pytestmark = pytest.mark.slow

QUICK = Mode(linker="py", optimizer="fast_compile")
DRAWS_RANKED = 100
FIXED = pd.DataFrame({"x": [-1.0, 1.5], "y": [1.0, -1.0]})
WINDOWS = {0.5: (0.459, 0.541), 0.8: (0.767, 0.832), 0.95: (0.931, 0.967)}  # 99 %, 1000 rows

NORMAL = bm.mixture_of_experts(
    "y ~ x",
    experts=2,
    center=False,
    priors={
        "gate_coef": bm.Prior("ZeroSumNormal", sigma=1.5),
        "mu_coef": bm.Prior("Normal", mu=0, sigma=2),
        "sigma": bm.Prior("LogNormal", mu=-1, sigma=0.5),
    },
)
STUDENT = bm.mixture_of_experts(
    "y ~ x",
    experts=3,
    family="studentt",
    sigma="~ x",
    center=False,
    priors={
        "gate_coef": bm.Prior("ZeroSumNormal", sigma=[1.0, 2.0]),
        "mu_coef": bm.Prior("Normal", mu=[1, 0], sigma=[3, 2]),
        "sigma_coef": bm.Prior("Normal", mu=[-1, 0], sigma=[0.5, 0.3]),
        "nu": bm.Prior("Gamma", alpha=5, beta=0.5),
    },
)


def zero_sum(normal):
    return normal - normal.mean(axis=0)


def draw_normal(rng):
    """Draw from NORMAL's priors, as NumPy understands them."""
    return {
        "gate_coef": zero_sum(rng.normal(0, 1.5, (2, 2))),
        "mu_coef": rng.normal(0, 2, (2, 2)),
        "sigma": rng.lognormal(-1, 0.5, 2),
    }


def draw_student(rng):
    """Draw from STUDENT's priors, as NumPy understands them."""
    return {
        "gate_coef": zero_sum(rng.normal(0, [1.0, 2.0], (3, 2))),
        "mu_coef": rng.normal([1, 0], [3, 2], (3, 2)),
        "sigma_coef": rng.normal([-1, 0], [0.5, 0.3], (3, 2)),
        "nu": rng.gamma(5, 1 / 0.5, 3),
    }


def sample(spec, table, seed, draws, tune):
    """Return the design of the table and the draws of four chains, as ``bm.fit`` makes them."""
    design = spec.design(table)
    return design, NUTS(draws=draws, tune=tune, progressbar=False).run(spec, design, seed)


def label_invariants(spec, draws, rows, fixed):
    """Return quantities (sample,) that no relabelling of experts changes.

    For Student t the standard deviation is made of scales: its own may be infinite.
    """
    data, there = evaluate(spec, draws, rows), evaluate(spec, draws, fixed)
    location = there.moments("location")
    scale = np.broadcast_to(there.moments("scale"), there.weights.shape)
    mean = (there.weights * location).sum(axis=1)
    variance = (there.weights * (scale**2 + (location - mean[:, None]) ** 2)).sum(axis=1)
    shares = data.responsibilities(rows.observed)
    found = {
        "joint log likelihood": data.log_density(rows.observed).sum(axis=-1),
        "responsibility entropy": stats.entropy(shares, axis=1).sum(axis=-1),
        "smallest sigma": scale[..., 0].min(axis=1),
        "largest sigma": scale[..., 0].max(axis=1),
    }
    at_rows = {
        "log density": there.log_density(fixed.observed),
        "mean": mean,
        "sd": np.sqrt(variance),
        "sum of squared weights": (there.weights**2).sum(axis=1),
    }
    for name, values in at_rows.items():
        found |= {f"{name} at {x}": values[:, j] for j, x in enumerate(FIXED["x"])}
    return found


def simulated_ranks(spec, draw_prior, n_rows, simulations, seed):
    """Ranks, from 0 to DRAWS_RANKED, of true quantities: one row a simulation."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"x": np.linspace(-2, 2, n_rows)})
    ranks = []
    for data_seed, sampler_seed in rng.integers(2**31, size=(simulations, 2)):
        truth = draw_prior(rng)
        table = bm.simulate(spec, rows, truth, random_seed=data_seed)
        length = 10 * DRAWS_RANKED // 4
        design, tree = sample(spec, table, int(sampler_seed), draws=length, tune=300)
        drawn = stacked_draws(spec, tree["posterior"].to_dataset())
        both = {k: np.concatenate([truth[k][None], v[::10]]) for k, v in drawn.items()}
        fixed = design.transform(FIXED, with_response=True)
        found = label_invariants(spec, both, design.rows, fixed)
        ranks.append({name: int((v[1:] < v[0]).sum()) for name, v in found.items()})
    return pd.DataFrame(ranks)


def extremity(ranks):
    """Least two-sided binomial tail probability along the ECDF of ranks (..., simulation)."""
    size = ranks.shape[-1]
    cut = np.arange(1, DRAWS_RANKED + 1)
    below = np.stack([(ranks < c).sum(axis=-1) for c in cut], axis=-1)
    binomial = stats.binom(size, cut / (DRAWS_RANKED + 1))
    return 2 * np.minimum(binomial.cdf(below), binomial.sf(below - 1)).min(axis=-1)


def outside_band(ranks, probability=0.99):
    """Extremity of the quantities whose ECDF leaves the simultaneous band."""
    uniform = np.random.default_rng(0).integers(DRAWS_RANKED + 1, size=(20_000, len(ranks)))
    threshold = np.quantile(extremity(uniform), 1 - probability)
    found = {name: extremity(ranks[name].to_numpy()) for name in ranks}
    return {name: value for name, value in found.items() if value < threshold}


MODELS = {"two-normal": (NORMAL, draw_normal, 60), "three-student": (STUDENT, draw_student, 80)}


@pytest.mark.parametrize(("model", "simulations"), [("two-normal", 250), ("three-student", 150)])
def test_ranks_of_true_quantities_are_uniform(model, simulations):
    ranks = simulated_ranks(*MODELS[model], simulations, seed=1000)
    assert outside_band(ranks) == {}


@pytest.mark.parametrize("model", MODELS)
def test_given_priors_do_not_look_at_the_response(model):
    """Built on another response, the model's log density differs by a constant: its units."""
    spec, draw_prior, n_rows = MODELS[model]
    rng = np.random.default_rng(4)
    here, there = draw_prior(rng), draw_prior(rng)
    rows = pd.DataFrame({"x": np.linspace(-1, 3, n_rows)})
    table = bm.simulate(spec, rows, here, random_seed=4)
    gains = []
    for built_on in (table, table.assign(y=100 - 7 * table["y"])):
        graph = bm.build(spec, built_on)
        pm.set_data({"y_data": table["y"]}, model=graph.model)
        logp = graph.model.compile_logp(mode=QUICK)
        gains.append(logp(graph.unconstrained(here)) - logp(graph.unconstrained(there)))
    assert gains[1] == pytest.approx(gains[0], rel=1e-9)


def test_intervals_cover_new_rows_as_often_as_they_say():
    """Three Student t experts with a gate of its own; two normal ones are in test_coverage."""
    spec = bm.mixture_of_experts("y ~ x", gate="~ z", experts=3, family="studentt")
    truth = {
        "gate_coef": [[0.0, -2.0], [0.5, 0.0], [-0.5, 2.0]],
        "mu_coef": [[-3.0, 1.0], [0.0, -1.0], [3.0, 0.5]],
        "sigma": [0.4, 0.6, 0.3],
        "nu": [8.0, 12.0, 8.0],
    }
    rng = np.random.default_rng(7)
    tables = [pd.DataFrame(rng.uniform(-2, 2, (n, 2)), columns=["x", "z"]) for n in (600, 1000)]
    train, test = (bm.simulate(spec, t, truth, random_seed=j) for j, t in enumerate(tables))
    pred = bm.predict(bm.fit(spec, train, random_seed=5, draws=500, progressbar=False), test)
    for level, (low, high) in WINDOWS.items():
        bounds = pred.interval(level).values
        inside = (bounds[:, 0] <= test["y"]) & (test["y"] <= bounds[:, 1])
        assert low <= inside.mean() <= high, level
    assert stats.kstest(pred.cdf(test["y"].to_numpy()).values, "uniform").pvalue > 0.01


SEPARATED = {
    "gate_coef": np.array([[0.0, -1.0], [0.3, 0.0], [-0.3, 1.0]]),
    "mu_coef": np.array([[-4.0, -1.0], [0.0, 1.5], [4.0, 0.0]]),
    "sigma": np.array([0.4, 0.3, 0.5]),
}


def identified(values):
    """Free coefficients (..., 13) of SEPARATED: the gate's as contrasts with the first expert."""
    gate = values["gate_coef"]
    parts = [gate[..., 1:, :] - gate[..., :1, :], values["mu_coef"], values["sigma"]]
    return np.concatenate([p.reshape(*gate.shape[:-2], -1) for p in parts], axis=-1)


def test_separated_experts_are_recovered_from_every_start():
    spec = bm.mixture_of_experts("y ~ x", experts=3)
    rows = pd.DataFrame({"x": np.linspace(-2, 2, 500)})
    tables = [bm.simulate(spec, rows, SEPARATED, random_seed=s) for s in range(10)]
    truth, covered, rhats = identified(SEPARATED), [], []
    for seed, table in enumerate(tables):
        design, tree = sample(spec, table, seed, draws=1000, tune=500)
        invariant = azs.rhat(convergence.invariants(spec, tree["posterior"].to_dataset(), design))
        rhats.append(max(float(v.max()) for v in invariant.data_vars.values()))
        aligned = relabelling.align(tree, spec, design)["posterior"].to_dataset()
        low, high = np.quantile(identified(stacked_draws(spec, aligned)), [0.05, 0.95], axis=0)
        covered.append((low <= truth) & (truth <= high))
    assert max(rhats) < 1.01
    low, high = stats.binom.interval(0.99, np.size(covered), 0.9)
    assert low <= np.sum(covered) <= high
