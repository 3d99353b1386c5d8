"""NUTS intervals hold the truth as often as they say, for families of every kind of response.

All quantities are functions of the mixture that no relabelling of experts changes: experts are put
in the order of what they say of the first row of the grid.
"""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.families import by_name
from bayes_moe.model.evaluation import evaluate
from bayes_moe.results.draws import stacked_draws

pytestmark = pytest.mark.slow

FITS = 100
INSIDE = 0.9
WINDOW = (0.85, 0.95)
"""Shares of 100 fits have a standard error of 0.010 to 0.014: 3.6 of these, or more."""
GRID = pd.DataFrame({"x": [0.0, -1.0, 1.0], "z": [0.0, -1.0, 1.0]})
GATE = np.array([[-0.3, -0.8], [0.3, 0.8]])


def two(family, **settings):
    """Two experts of one family, with a gate of a feature of its own."""
    return bm.mixture_of_experts("y ~ x", "~ z", 2, by_name(family, **settings))


SLOPES = [[0.0, 0.5], [2.0, -0.3]]
MODELS = {
    "counts": (two("poisson"), 200, {"mu_coef": SLOPES}),
    "positive": (two("gamma"), 200, {"mu_coef": SLOPES, "alpha": [6.0, 4.0]}),
    "heavy tails": (
        two("studentt"),
        200,
        {"mu_coef": [[-2.0, 0.5], [2.0, 1.0]], "sigma": [0.5, 0.8], "nu": [4.0, 8.0]},
    ),
    "successes": (
        bm.mixture_of_experts("y ~ x", "~ z", 2, "binomial", trials=12),
        200,
        {"p_coef": [[-1.5, 0.5], [1.5, -0.3]]},
    ),
    "zeros and amounts": (
        bm.MixtureOfExperts(
            bm.gates.Softmax("~ z"), [bm.Expert("y", "pointmass"), bm.Expert("y ~ x", "gamma")]
        ),
        100,
        {"block1_mu_coef": SLOPES[1:], "block1_alpha": [2.0]},
    ),
    "classes": (
        two("categorical", levels=("a", "b", "c")),
        600,
        # By class, then by expert; they sum to zero over the classes.
        {"p_coef": [[[2.0, -1.5], [-1.0, 1.0]], [[0.0, 1.5], [-1.0, -1.0]], [[-2, 0], [2, 0]]]},
    ),
    "grades": (
        two("orderedlogistic", levels=("low", "middle", "high", "top")),
        600,
        {"mu_coef": [[-1.0, 2.0], [4.0, -1.0]], "gap": [[1.5, 2.0], [1.5, 2.0]]},
    ),
}


def quantities(spec, draws, rows):
    """Quantities (sample, quantity): weights, and experts' means and widths, or probabilities."""
    there = evaluate(spec, draws, rows)
    family = spec.structure.blocks[-1].family
    if hasattr(family, "levels"):
        codes = (np.full(rows.size, float(code)) for code in range(family.count - 1))
        about = [np.exp(there.log_components(code) - there.log_weights) for code in codes]
    else:
        about = [there.moments(name) for name in ("location", "scale")]
    about = [np.broadcast_to(part, there.weights.shape) for part in about]
    order = about[0][..., :1].argsort(axis=1)
    ordered = [np.take_along_axis(part, order, axis=1) for part in (there.weights, *about)]
    found = [ordered[0][:, 1], *(part[:, k] for part in ordered[1:] for k in (0, 1))]
    return np.concatenate(found, axis=1)


def covered(spec, size, truth, seed):
    """Whether each interval of a fit to simulated data has the true quantity."""
    rng = np.random.default_rng([11, seed])
    rows = pd.DataFrame(rng.uniform(-2, 2, (size, 2)), columns=["x", "z"])
    table = bm.simulate(spec, rows, truth, random_seed=seed)
    fit = bm.fit(
        spec, table, draws=250, tune=300, chains=2, cores=1, random_seed=seed, progressbar=False
    )
    grid = fit.design.transform(GRID)
    found = quantities(fit.spec, stacked_draws(fit.spec, fit.idata["posterior"].to_dataset()), grid)
    exact = {name: np.asarray(value)[None] for name, value in truth.items()}
    true = quantities(fit.spec, exact, grid)[0]
    low, high = np.quantile(found, [(1 - INSIDE) / 2, (1 + INSIDE) / 2], axis=0)
    moving = high > low  # the location of a point mass is known
    return ((low <= true) & (true <= high))[moving]


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
@pytest.mark.parametrize("model", MODELS)
def test_intervals_hold_the_truth(model):
    spec, size, truth = MODELS[model]
    truth = {"gate_coef": GATE, **truth}
    inside = [covered(spec, size, truth, seed) for seed in range(FITS)]
    assert WINDOW[0] <= np.mean(inside) <= WINDOW[1]
