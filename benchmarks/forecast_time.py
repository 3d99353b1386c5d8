"""Time of a forecast of 336 steps by 4000 draws under a Markov gate, with and without lags.

Run as ``python -m benchmarks.forecast_time``. Rows are of a made-up hourly series of regimes, whose
parameters are about those that made it; what is timed has every step's figures in memory.
"""

import resource
from statistics import median
from time import process_time

import numpy as np
import pandas as pd

import bayes_moe as bm
from bayes_moe.results.fit import Fit
from benchmarks.timing import Row, seconds

STEPS = 336
ROWS = 2000
DRAWS = 4000
LAGS = {"none": "", "lag(y, 1)": " + lag(y, 1)"}


def fitted(experts: int, lag: str) -> Fit:
    """4000 draws about the parameters of a series of 2000 hours."""
    from tests.support.given_draws import fit_with

    rng = np.random.default_rng(1)
    hours = np.arange(ROWS)
    regime = (hours // 50) % experts
    y = 3 * regime + np.sin(2 * np.pi * hours / 24) + 0.5 * rng.normal(size=ROWS)
    table = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=ROWS, freq="h"), "y": y})
    spec = bm.mixture_of_experts(
        f"y ~ season(time, period='1D', order=4){lag}",
        gate=bm.gates.Markov("~ 1"),
        experts=experts,
        time="time",
    )
    level = np.zeros((experts, 9 + bool(lag)))
    level[:, 0] = 3 * np.arange(experts)
    gate = (2 * np.eye(experts) - 2 / experts).reshape(-1, 1)
    noise = 0.02 * rng.normal(size=(3, DRAWS, experts, experts, 10))
    return fit_with(
        spec,
        table,
        gate_coef=gate + noise[0, ..., 0].reshape(DRAWS, -1, 1),
        mu_coef=level + noise[1, :, 0, :, : level.shape[1]],
        sigma=0.5 * np.exp(noise[2, :, 0, :, 0]),
    )


def timed(experts: int, name: str, rounds: int = 3) -> Row:
    """Medians of seconds of a forecast, and of its mean and 80 % interval."""
    fit = fitted(experts, LAGS[name])
    bm.forecast(fit, 3, random_seed=1).interval(0.8)  # loops are compiled once a machine
    began = process_time()
    made = [seconds(lambda: bm.forecast(fit, STEPS, random_seed=1)) for _ in range(rounds)]
    used = (process_time() - began) / rounds
    ahead = bm.forecast(fit, STEPS, random_seed=1)
    read = seconds(lambda: (ahead.mean(), ahead.interval(0.8)))
    drawn = seconds(lambda: ahead.paths(random_seed=1))
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    row: Row = {"experts": experts, "rows before": name, "forecast s": median(made)}
    return row | {"its CPU s": used, "mean, interval s": read, "paths s": drawn, "peak MiB": peak}


if __name__ == "__main__":
    for lag in LAGS:
        for k in (2, 3, 4):
            print(*(f"{v:.2f}" if isinstance(v, float) else v for v in timed(k, lag).values()))
