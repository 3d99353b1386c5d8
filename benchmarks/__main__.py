"""Run every benchmark and print one table; each ratio comes from runs taken in turn."""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

import bayes_moe as bm

ROOT = Path(__file__).parent.parent


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turn(
    what: str, a: Callable[[], object], b: Callable[[], object], rounds: int
) -> dict[str, object]:
    """A row of the table: medians of two calls taken in turn, and the median of their ratios."""
    pairs = [(seconds(a), seconds(b)) for _ in range(rounds)]
    return {
        "what": what,
        "s": median(p[0] for p in pairs),
        "against": median(p[1] for p in pairs),
        "ratio": median(p[0] / p[1] for p in pairs),
    }


def process(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def importing(rounds: int) -> list[dict[str, object]]:
    """Whole processes: the bare package, and a description with its design."""
    design = (
        "import bayes_moe as bm; "
        "bm.mixture_of_experts('tuned ~ stretchratio').design(bm.load_dataset('tone'))"
    )
    pairs = {
        "import bayes_moe, against an empty process": ("import bayes_moe", "pass"),
        "describe and design, against bare imports": (
            design,
            "import pandas, formulaic, scipy.special",
        ),
    }
    return [in_turn(what, process(a), process(b), rounds) for what, (a, b) in pairs.items()]


def gradient(rounds: int) -> dict[str, object]:
    """One gradient at n = 10,000, p = 10, K = 4 against the hand-written PyMC model's."""
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
    what = "20 gradients, n = 1e4, p = 10, K = 4, against pm.NormalMixture"
    return in_turn(what, *calls, rounds)


def predicting(rounds: int) -> list[dict[str, object]]:
    """Prediction of 10,000 rows from 4000 draws of 4 experts; seconds of each reading."""
    from tests.helpers import fake_fit

    rng = np.random.default_rng(0)
    k = 4
    spec = bm.mixture_of_experts("y ~ x", experts=k)
    gate = rng.normal(size=(k, 2))
    parameters = {
        "gate_coef": gate - gate.mean(axis=0),
        "mu_coef": 2 * rng.normal(size=(k, 2)),
        "sigma": [0.3, 0.5, 0.7, 1.0],
    }
    table = bm.simulate(spec, {"x": rng.normal(size=200)}, parameters, random_seed=0)
    fit = fake_fit(spec, table, parameters, chains=4, draws=1000, spread=0.05)
    predictive = bm.predict(fit, {"x": rng.normal(size=10_000)})
    readings = {
        "mean": predictive.mean,
        "sd": predictive.sd,
        "weights": predictive.weights,
        "logpdf(0)": lambda: predictive.logpdf(0.0),
        "cdf(0)": lambda: predictive.cdf(0.0),
        "interval(0.9)": lambda: predictive.interval(0.9),
        "sample(1000)": lambda: predictive.sample(1000, random_seed=1),
    }
    found: list[dict[str, object]] = []
    for name, read in readings.items():
        taken = median(seconds(read) for _ in range(rounds))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        what = f"predict 10,000 rows x 4000 draws x 4 experts: {name}"
        found.append({"what": what, "s": taken, "peak MiB": round(peak)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["import", "gradient", "predict"])
    chosen = parser.parse_args()
    rows: list[dict[str, object]] = []
    if chosen.only in (None, "import"):
        rows += importing(chosen.rounds)
    if chosen.only in (None, "predict"):
        rows += predicting(max(1, chosen.rounds // 2))
    if chosen.only in (None, "gradient"):
        rows.append(gradient(chosen.rounds))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, na_rep="", float_format=lambda v: f"{v:.3f}"))


if __name__ == "__main__":
    main()
