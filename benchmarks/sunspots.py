"""Yearly sunspots one step ahead, beside an autoregression and a threshold autoregression.

Run as ``python -m benchmarks.sunspots``. Fitted to 1700 to 1979; scored on 1980 to 2008, each year
given all before it, with the parameters of the fit.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

import bayes_moe as bm
from benchmarks.timing import Row

FIRST = 1980
Array = NDArray[np.float64]


def lagged(y: Array, order: int) -> Array:
    """Intercept and the values before (row, 1 + order); the first ``order`` rows are left out."""
    columns = [y[order - lag : len(y) - lag] for lag in range(1, order + 1)]
    return np.column_stack([np.ones(len(y) - order), *columns])


def least_squares(features: Array, y: Array) -> tuple[Array, float]:
    beta = np.linalg.lstsq(features, y, rcond=None)[0]
    return beta, float(np.sqrt(np.mean((y - features @ beta) ** 2)))


def autoregression(y: Array, train: int) -> tuple[str, Array, Array]:
    """Autoregression whose order has the least AIC, by statsmodels; means and sds (test,)."""
    from statsmodels.tsa.ar_model import AutoReg, ar_select_order

    order = max(ar_select_order(y[:train], 15, ic="aic").ar_lags)
    found = AutoReg(y[:train], order).fit()
    features = lagged(y, order)[train - order :]
    mean = features @ np.asarray(found.params)
    return f"AR({order})", mean, np.full(len(mean), np.sqrt(found.sigma2))


def threshold(y: Array, train: int) -> tuple[str, Array, Array]:
    """Two autoregressions by a threshold of a value before: orders, delay, threshold by AIC."""
    best: tuple[float, str, Array, Array] | None = None
    for order in range(2, 11):
        features, came = lagged(y, order), y[order:]
        known = np.arange(len(came)) < train - order
        for delay in range(1, min(order, 4) + 1):
            at = features[:, delay]
            for cut in np.quantile(at[known], np.linspace(0.15, 0.85, 36)):
                low = at <= cut
                mean, sd, aic = np.zeros(len(came)), np.ones(len(came)), 0.0
                for part in (low, ~low):
                    beta, sigma = least_squares(features[part & known], came[part & known])
                    mean[part], sd[part] = features[part] @ beta, sigma
                    n = int((part & known).sum())
                    aic += 2 * n * np.log(sigma) + 2 * (order + 2)
                # All orders are compared on rows from the tenth on.
                aic *= (train - 10) / (train - order)
                if best is None or aic < best[0]:
                    name = f"SETAR(2; {order}), delay {delay}, threshold {cut:.1f}"
                    best = (aic, name, mean[~known], sd[~known])
    assert best is not None
    return best[1:]


def ours(table: pd.DataFrame, gate: object, lags: tuple[int, ...]) -> tuple[Array, Array]:
    """Means and log scores (test,) of two experts."""
    terms = " + ".join(f"lag(sunspots, {lag})" for lag in lags)
    spec = bm.mixture_of_experts(f"sunspots ~ {terms}", gate=gate, experts=2, time="year")
    known = table[table["year"] < FIRST]
    fit = bm.fit(spec, known, "laplace", draws=500, random_seed=1, progressbar=False)
    rows = table[table["year"] >= FIRST]
    return bm.predict(fit, rows).mean().values, bm.predict(fit, rows).logpdf(
        rows["sunspots"].to_numpy()
    ).values


def row(name: str, y: Array, mean: Array, log_score: Array, spread: float) -> Row:
    return {
        "model": name,
        "NMSE": round(float(np.mean((y - mean) ** 2) / spread), 3),
        "log score": round(float(log_score.mean()), 3),
    }


def main() -> None:
    table = bm.load_dataset("sunspots")
    y = table["sunspots"].to_numpy(float)
    train = int((table["year"] < FIRST).sum())
    test, spread = y[train:], float(y[:train].var())
    rows = []
    for peer in (autoregression, threshold):
        name, mean, sd = peer(y, train)
        rows.append(row(name, test, mean, stats.norm.logpdf(test, mean, sd), spread))
    for lags in ((1, 2, 9), tuple(range(1, 10))):
        for gate, words in (
            ("~ lag(sunspots, 1) + lag(sunspots, 2)", "softmax gate"),
            (bm.gates.Markov("~ lag(sunspots, 1)"), "Markov gate"),
        ):
            mean, score = ours(table, gate, lags)
            name = f"two experts, lags {', '.join(map(str, lags))}, {words}"
            rows.append(row(name, test, mean, score, spread))
            print(pd.DataFrame(rows).to_string(), flush=True)


if __name__ == "__main__":
    main()
