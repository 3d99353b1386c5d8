"""Time and memory of quantities of the posterior predictive."""

import resource
from collections.abc import Callable
from statistics import median

import numpy as np

import bayes_moe as bm
from benchmarks.page import Section
from benchmarks.timing import Row, seconds

FAMILIES = ("normal", "studentt", "gamma", "poisson")
SHARED = ("mean", "logpdf", "cdf", "interval(0.9)")
"""What is timed for every family; for the normal, everything is."""


def readings(family: str) -> dict[str, Callable[[], object]]:
    """What is timed, for 10,000 rows, 4000 draws and 4 experts of a family."""
    from tests.support.fits import fake_fit

    rng = np.random.default_rng(0)
    k = 4
    spec = bm.mixture_of_experts("y ~ x", experts=k, family=family)
    gate = rng.normal(size=(k, 2))
    positive = family in ("gamma", "poisson")
    slopes = rng.normal(size=(k, 2))
    parameters = {
        "gate_coef": gate - gate.mean(axis=0),
        "mu_coef": slopes + np.array([1.0, 0.0]) if positive else 2 * slopes,
        "sigma": [0.3, 0.5, 0.7, 1.0],
        "nu": [3.0, 5.0, 10.0, 30.0],
        "alpha": [1.5, 3.0, 6.0, 20.0],
    }
    parameters = {name: parameters[name] for name in spec.variables}
    table = bm.simulate(spec, {"x": rng.normal(size=200)}, parameters, random_seed=0)
    fit = fake_fit(spec, table, parameters, chains=4, draws=1000, spread=0.05)
    predictive = bm.predict(fit, {"x": rng.normal(size=10_000)})
    y = 1.0 if positive else 0.0
    return {
        "mean": predictive.mean,
        "sd": predictive.sd,
        "weights": predictive.weights,
        "logpdf": lambda: predictive.logpdf(y),
        "cdf": lambda: predictive.cdf(y),
        "interval(0.9)": lambda: predictive.interval(0.9),
        "sample(1000)": lambda: predictive.sample(1000, random_seed=1),
    }


def predicting(rounds: int) -> list[Section]:
    rows: list[Row] = []
    for family in FAMILIES:
        for name, read in readings(family).items():
            if family != "normal" and name not in SHARED:
                continue
            read()  # loops are compiled once a machine, and loaded once a process
            taken = median(seconds(read) for _ in range(max(1, rounds // 2)))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rows.append({"family": family, "what": name, "s": taken, "peak MiB": round(peak)})
    text = (
        "10,000 rows, 4000 draws of 4 experts, on all cores. The peak is that of the process, "
        "so it never falls from one row to the next."
    )
    return [Section("Prediction", text, rows)]
