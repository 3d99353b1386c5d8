"""The gradient that a sampler calls."""

import numpy as np
import pandas as pd

import bayes_moe as bm
from benchmarks.page import Section
from benchmarks.timing import in_turn


def gradient(rounds: int) -> list[Section]:
    import pymc as pm
    import pytensor.tensor as pt

    rng = np.random.default_rng(0)
    n, p, k = 10_000, 10, 4
    table = pd.DataFrame(rng.normal(size=(n, p)), columns=[f"x{j}" for j in range(p)])
    table["y"] = table["x0"] * rng.choice([-1, 1], n) + rng.normal(0, 0.3, n)
    formula = "y ~ " + " + ".join(f"x{j}" for j in range(p))
    ours = bm.build(bm.mixture_of_experts(formula, experts=k), table).model
    features = np.column_stack([np.ones(n), table.drop(columns="y")])
    with pm.Model() as theirs:
        x = pm.Data("x", features)
        gate = pm.ZeroSumNormal("gate", 1.5, shape=(p + 1, k))
        beta = pm.Normal("beta", 0, 2.5, shape=(p + 1, k))
        sigma = pm.LogNormal("sigma", 0, 1, shape=k)
        pm.NormalMixture(
            "y",
            w=pt.special.softmax(x @ gate, axis=1),
            mu=x @ beta,
            sigma=sigma,
            observed=table["y"].to_numpy(),
        )
    calls = []
    for model in (ours, theirs):
        function = model.logp_dlogp_function(ravel_inputs=True, mode="NUMBA")
        function.set_extra_values({})
        point = 0.1 * rng.normal(size=sum(v.size for v in model.initial_point().values()))
        function(point)
        calls.append(lambda f=function, q=point: [f(q) for _ in range(20)])
    a, b = calls
    row = in_turn("20 gradients, against pm.NormalMixture", a, b, rounds)
    text = "n = 10,000 rows, p = 10 features in gate and experts, K = 4, compiled by numba."
    return [Section("Gradient", text, [row])]
