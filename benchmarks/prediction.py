"""Time and memory of quantities of the posterior predictive."""

import resource
from collections.abc import Callable
from statistics import median

import numpy as np

import bayes_moe as bm
from benchmarks.page import Section
from benchmarks.timing import Row, seconds


def readings() -> dict[str, Callable[[], object]]:
    from tests.support.fits import fake_fit

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
    return {
        "mean": predictive.mean,
        "sd": predictive.sd,
        "weights": predictive.weights,
        "logpdf(0)": lambda: predictive.logpdf(0.0),
        "cdf(0)": lambda: predictive.cdf(0.0),
        "interval(0.9)": lambda: predictive.interval(0.9),
        "sample(1000)": lambda: predictive.sample(1000, random_seed=1),
    }


def predicting(rounds: int) -> list[Section]:
    rows: list[Row] = []
    for name, read in readings().items():
        taken = median(seconds(read) for _ in range(max(1, rounds // 2)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"what": name, "s": taken, "peak MiB": round(peak)})
    text = (
        "10,000 rows, 4000 draws of 4 experts. The peak is that of the whole process, so it "
        "never falls from one row to the next."
    )
    return [Section("Prediction", text, rows)]
