"""Forecasts of electricity demand beside MSTL and harmonic regression, from the same origins.

Run as ``python -m benchmarks.forecasting``; MSTL needs the package ``statsforecast``, which is not
among those for development.
"""

import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import bayes_moe as bm
from bayes_moe.validation.origins import Origin, SeriesTable, rolling_origins
from bayes_moe.validation.step_forecasts import StepForecast, normal, scales, seasonal_naive
from benchmarks.timing import Row

DAY, WEEK = 48, 336
ORIGINS = 20
CHANGES = (1, 2, 3, 46, 47, 48, 49, 95, 96, 97, 334, 335, 336)
"""Changes up to the last row: over the last rows, and since about that time a day or a week ago."""
MORE_CHANGES = (*range(1, 6), *range(46, 51), *range(94, 98), *range(334, 338))
LATITUDE, LONGITUDE, ZONE = 52.5, -1.5, 1.0
"""Middle of England and Wales, in degrees, and hours of its summer time before universal time."""

Array = NDArray[np.float64]
Singles = dict[tuple[str, int], Array]
"""MASE by origin, by forecast and steps ahead."""
Peer = Callable[[Array, int], tuple[Array, Array]]
"""Means and standard deviations (step,) of the steps after a history."""


def waves(n: int, daily: int, weekly: int) -> dict[str, Array]:
    """Sines and cosines by name: of a day, and of a week where they are not those of a day."""
    at = np.arange(n)
    pairs = [("day", k, DAY) for k in range(1, daily + 1)]
    pairs += [("week", k, WEEK) for k in range(1, weekly + 1) if k % 7 or k // 7 > daily]
    return {
        f"{name}_{part}{k}": function(2 * np.pi * k * at / period)
        for name, k, period in pairs
        for part, function in (("sin", np.sin), ("cos", np.cos))
        if part == "cos" or 2 * k < period  # a sine of two rows is zero
    }


def after_sunset(times: pd.DatetimeIndex, place: tuple[float, float, float]) -> Array:
    """Hours (obs,) of the clock since sunset, negative before it.

    From declination and equation of time by their usual approximations (Spencer 1971; Duffie &
    Beckman 2013, section 1.5), to about two minutes. ``place``: latitude, longitude in degrees, and
    hours of the clock before universal time.
    """
    latitude, longitude, zone = place
    day, clock = times.dayofyear.to_numpy() + 0.5, times.hour + times.minute / 60
    declination = np.deg2rad(-23.44) * np.cos(2 * np.pi * (day + 10) / 365.25)
    turn = 2 * np.pi * (day - 81) / 364
    lead = (9.87 * np.sin(2 * turn) - 7.53 * np.cos(turn) - 1.5 * np.sin(turn)) / 60
    angle = np.deg2rad(latitude)
    height = np.sin(np.deg2rad(-0.83)) - np.sin(angle) * np.sin(declination)
    half = np.rad2deg(np.arccos(height / np.cos(angle) / np.cos(declination))) / 15
    return clock.to_numpy() - (12 - lead + zone - longitude / 15 + half)


def dusk(times: pd.DatetimeIndex, place: tuple[float, float, float]) -> dict[str, Array]:
    """Changes within each half hour of smooth steps about sunset, when lights go on."""
    hours = after_sunset(times, place)
    steps = [1 / (1 + np.exp(-(hours - shift) / 0.25)) for shift in (-0.5, 0.0, 0.5, 1.0)]
    return {f"dusk{j}": np.diff(step, prepend=step[0]) for j, step in enumerate(steps)}


def demand(daily: int = 24, weekly: int = 80) -> pd.DataFrame:
    """Log of the half-hourly demand of England and Wales, with waves, and the coming of dark."""
    table = bm.load_dataset("demand")
    log = np.log(table["demand"].to_numpy(float))
    log -= log[: -WEEK - DAY * (ORIGINS - 1)].mean()  # of the rows before the first origin
    times = pd.DatetimeIndex(pd.to_datetime(table["time"]))
    known = {**waves(len(table), daily, weekly), **dusk(times, (LATITUDE, LONGITUDE, ZONE))}
    return pd.DataFrame({"time": times, "load": log, **known})


class Description(NamedTuple):
    """What models differ in: experts, changes, prior sd of the waves, waves in the sd."""

    regimes: int
    changes: tuple[int, ...]
    waves: float
    spread: int


MODELS = {
    "one expert": Description(1, CHANGES, 0.1, 4),
    "one expert, 18 changes": Description(1, MORE_CHANGES, 0.01, 2),
    "two regimes, 18 changes": Description(2, MORE_CHANGES, 0.01, 2),
}


def spec(table: pd.DataFrame, how: Description) -> bm.MixtureOfExperts:
    """Changes since the last half hour: waves, earlier changes, the coming of dark.

    The level returns to zero by a small share each half hour, which the prior has at a few
    thousandths or less. There is no intercept, by which it would drift. Several experts are regimes
    of a Markov chain: they differ in the standard deviation and its course over the day.
    """
    terms = [name for name in table if name.startswith(("day_", "week_", "dusk"))]
    terms += ["lag(load, 1)", *(f"diff(load, {rows})" for rows in how.changes)]
    spreads = {"lag(load, 1)": 0.003} | {name: how.waves for name in terms if name[0] in "dw"}
    spreads |= {name: 1.0 for name in terms if name.startswith(("dusk", "diff"))}
    return bm.mixture_of_experts(
        "load ~ 0 + offset(lag(load, 1)) + " + " + ".join(terms),
        sigma=f'~ season(time, "1D", {how.spread})',
        gate=bm.gates.Markov("~ 1") if how.regimes > 1 else "~ 1",
        experts=how.regimes,
        shared=("mu_coef",) if how.regimes > 1 else (),
        time="time",
        priors={"mu_coef": bm.Prior("Normal", mu=0, sigma=[*map(spreads.get, terms)])},
    )


def naive(history: Array, steps: int) -> tuple[Array, Array]:
    return seasonal_naive(history, WEEK, steps)


def mstl(history: Array, steps: int) -> tuple[Array, Array]:
    """Seasonal parts by loess, and exponential smoothing of what is left, chosen by AICc."""
    from statsforecast.models import MSTL, AutoETS

    model = MSTL(season_length=[DAY, WEEK], trend_forecaster=AutoETS(model="ZZN"))
    found = model.forecast(y=history, h=steps, level=[95])
    mean = np.asarray(found["mean"])
    return mean, (np.asarray(found["hi-95"]) - mean) / 1.959963984540054


def harmonic(history: Array, steps: int) -> tuple[Array, Array]:
    """Regression on the waves of demand() with autoregressive errors of order 9."""
    from statsmodels.tsa.arima.model import ARIMA

    features = np.column_stack([*waves(len(history) + steps, 16, 40).values()])
    model = ARIMA(history, exog=features[: len(history)], order=(9, 0, 0), trend="c")
    found = model.fit(method="yule_walker", gls=True).get_forecast(
        steps, exog=features[len(history) :]
    )
    return np.asarray(found.predicted_mean), np.asarray(found.se_mean)


PEERS: dict[str, Peer] = {"seasonal naive": naive, "harmonic regression": harmonic}
if find_spec("statsforecast"):
    PEERS["MSTL, AutoETS"] = mstl


def scored(y: Array, forecast: StepForecast, scale: tuple[float, float], steps: int) -> Array:
    """Means over the first steps of what Backtest.scores is a mean of."""
    median, low80, high80, low95, high95 = forecast.quantiles[:, :steps]
    came = y[:steps]
    each = [
        np.abs(came - median) / scale[0],
        (came - forecast.mean[:steps]) ** 2 / scale[1],
        forecast.crps[:steps],
        forecast.log_score[:steps],
        (low80 <= came) & (came <= high80),
        (low95 <= came) & (came <= high95),
    ]
    return np.array([np.mean(values) for values in each])


def peers(table: pd.DataFrame, origins: list[Origin], single: Singles) -> list[Row]:
    """Rows of the peers, refitted at each origin."""
    y, rows = table["load"].to_numpy(), []
    for name, peer in PEERS.items():
        start, figures = time.perf_counter(), []
        for origin in origins:
            history, came = y[origin.histories[0]], y[origin.ahead[0]]
            forecast = normal(came, *peer(history, WEEK))
            scale = scales(history, WEEK)
            figures.append([scored(came, forecast, scale, steps) for steps in (DAY, WEEK)])
        seconds = time.perf_counter() - start
        for at, steps in enumerate((DAY, WEEK)):
            single[name, steps] = np.array(figures)[:, at, 0]
            rows.append(row(name, steps, np.mean(figures, axis=0)[at], seconds))
    return rows


def ours(name: str, table: pd.DataFrame, model: bm.MixtureOfExperts, single: Singles) -> list[Row]:
    """Rows of a model that is fitted anew at every seventh origin, a week."""
    start = time.perf_counter()
    found = bm.backtest(
        model,
        table,
        horizon=WEEK,
        origins=ORIGINS,
        step=DAY,
        season=WEEK,
        method="em",
        restarts=2,
        refit=7,
        random_seed=1,
    )
    seconds = time.perf_counter() - start
    rows = []
    for steps in (DAY, WEEK):
        line = found.scores(last=steps).loc["model"]
        means = line.to_numpy()[:6].copy()
        means[1] **= 2
        error = np.abs(found.results["y"] - found.results["median"].sel(forecast="model"))
        scale = found.results["absolute_scale"]
        each = (error.isel(step=slice(0, steps)).mean("step") / scale).values.ravel()
        assert abs(each.mean() - means[0]) < 1e-9  # origins count the same
        single[name, steps] = each
        rows.append(row(name, steps, means, seconds))
    return rows


def row(name: str, steps: int, means: Array, seconds: float) -> Row:
    return {
        "forecast": name,
        "days ahead": steps // DAY,
        "MASE": round(float(means[0]), 3),
        "RMSSE": round(float(np.sqrt(means[1])), 3),
        "CRPS, %": round(100 * float(means[2]), 3),
        "log score": round(float(means[3]), 3),
        "coverage 80 %": round(100 * float(means[4]), 1),
        "coverage 95 %": round(100 * float(means[5]), 1),
        "seconds": round(seconds),
    }


def differences(single: Singles) -> None:
    """MASE of the models less that of each peer at the same origins, with standard errors.

    Origins a day apart are not independent a week ahead: there the standard error is too small.
    """
    for (name, steps), values in single.items():
        for other in PEERS:
            if name not in PEERS and (other, steps) in single:
                less = values - single[other, steps]
                error = less.std(ddof=1) / np.sqrt(len(less))
                print(f"{name}, {steps} steps: {less.mean():.3f} ({error:.3f}) to {other}")


def main() -> None:
    warnings.simplefilter("ignore")
    wanted = [a for a in sys.argv[1:] if not a.startswith("--")]
    table = demand()
    cuts = rolling_origins(
        SeriesTable.read(spec(table, MODELS["one expert"]), table), WEEK, ORIGINS, DAY, WEEK + 2
    )
    single: Singles = {}
    rows = [] if wanted and "peers" not in wanted else peers(table, cuts, single)
    print(pd.DataFrame(rows).to_string(), flush=True)
    for name, how in MODELS.items():
        if wanted and name not in wanted:
            continue
        own = ours(name, table, spec(table, how), single)
        print(pd.DataFrame(own).to_string(), flush=True)
    differences(single)


if __name__ == "__main__":
    main()
