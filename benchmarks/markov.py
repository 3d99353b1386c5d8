"""Models whose experts are a Markov chain, beside PyMC by hand and statsmodels.

Run as ``python -m benchmarks.markov [rounds]``; it writes its section into docs/benchmarks.md. By
hand is the forward algorithm as a ``pytensor.scan`` with the package's default priors, sampled by
nutpie. Peers are taken in turn with ours, each program's first run apart.
"""

import os
import sys
import time
import warnings
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import bayes_moe as bm
from benchmarks.label_free import of_each
from benchmarks.page import Section, put, terminal
from benchmarks.timing import Row

Array = NDArray[np.float64]
STICKY = 2.0
SETTINGS = {"draws": 1000, "tune": 1000, "chains": 4}
SHORT = {"draws": 200, "tune": 200, "chains": 4}
"""Of the first runs, which compile all that is not compiled yet."""


def regimes(rows: int, seed: int) -> pd.DataFrame:
    """Two regressions on ``x``; ``z`` drives the moves between them."""
    rng = np.random.default_rng(seed)
    x, z, u = rng.standard_normal(rows), rng.standard_normal(rows), rng.random(rows)
    regime = np.zeros(rows, dtype=int)
    for t in range(1, rows):
        toward = z[t] if regime[t - 1] == 0 else -z[t]
        leaves = u[t] < 1 / (1 + np.exp(STICKY - toward))
        regime[t] = 1 - regime[t - 1] if leaves else regime[t - 1]
    mean = np.where(regime == 0, -1.0 + 0.5 * x, 1.5 - 0.5 * x)
    y = mean + np.where(regime == 0, 0.5, 0.8) * rng.standard_normal(rows)
    return pd.DataFrame({"t": np.arange(rows), "x": x, "z": z, "y": y})


def standardised(values: pd.Series) -> Array:
    found: Array = ((values - values.mean()) / values.std(ddof=0)).to_numpy(float)
    return found


def spec(gate: str) -> bm.MixtureOfExperts:
    return bm.mixture_of_experts(
        "y ~ x", experts=2, gate=bm.gates.Markov(gate, sticky=STICKY), time="t"
    )


# --- NUTS ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draws:
    """Seconds, and figures (chain, draw, quantity) that labels cannot change.

    They are sums over experts: of each coefficient, of squared intercepts, of standard deviations,
    and of the log odds of staying and their slopes; the response and features are standardised.
    """

    seconds: float
    quantities: Array

    @classmethod
    def of(cls, seconds: float, mu: Array, sigma: Array, gate: Array) -> "Draws":
        """From mu (chain, draw, expert, term), sigma, and gate (chain, draw, from, to, term)."""
        stay = 2 * np.einsum("cdkkt->cdt", gate)
        parts = [mu.sum(axis=2), (mu[..., :1] ** 2).sum(axis=2), sigma.sum(axis=2)[..., None], stay]
        return cls(seconds, np.concatenate(parts, axis=-1))

    @property
    def ess(self) -> float:
        return float(of_each("ess", self.quantities).min())

    @property
    def rhat(self) -> float:
        return float(of_each("rhat", self.quantities).max())

    def apart(self, other: "Draws") -> float:
        """Largest difference of means in Monte Carlo standard errors."""
        one, two = (of_each("mcse", d.quantities) for d in (self, other))
        away = self.quantities.mean(axis=(0, 1)) - other.quantities.mean(axis=(0, 1))
        return float((np.abs(away) / np.hypot(one, two)).max())


def ours(table: pd.DataFrame, seed: int, **settings: Any) -> Draws:
    """A whole call; the columns are standardised, so that its units are those by hand."""
    began = time.perf_counter()
    fit = bm.fit(spec("~ z"), table, "nuts", random_seed=seed, progressbar=False, **settings)
    taken = time.perf_counter() - began
    posterior = fit.idata["posterior"]
    mu = posterior["mu_coef"].transpose("chain", "draw", "expert", "mu_term").values
    sigma = posterior["sigma"].transpose("chain", "draw", "expert").values
    gate = posterior["gate_coef"].transpose("chain", "draw", "gate_transition", "gate_term").values
    return Draws.of(taken, mu, sigma, gate.reshape(*gate.shape[:2], 2, 2, -1))


def by_hand(table: pd.DataFrame) -> Any:
    """The ``pm.Model``: normal experts, and the forward algorithm in logarithms."""
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt

    x = np.column_stack([np.ones(len(table)), table["x"]])
    z = np.column_stack([np.ones(len(table)), table["z"]])
    with pm.Model() as model:
        spread = np.array([1.5, 2.5])[:, None, None]
        gate = pm.ZeroSumNormal("gate", spread, shape=(2, 2, 2))  # (term, from, to)
        mu = pm.Normal("mu", 0, 2.5, shape=(2, 2))
        sigma = pm.LogNormal("sigma", np.log(0.5), 1, shape=2)
        logits = pt.tensordot(z, gate, axes=1) + STICKY * np.eye(2)
        moves = pt.special.log_softmax(logits, axis=2)
        density = pm.logp(pm.Normal.dist(x @ mu, sigma), table["y"].to_numpy()[:, None])
        first = pt.stack([moves[0, 1, 0], moves[0, 0, 1]])  # stationary, up to a factor
        first = first - pt.logsumexp(first)

        def step(row: Any, move: Any, before: Any) -> Any:
            return row + pt.logsumexp(before[:, None] + move, axis=0)

        forward = pytensor.scan(
            step, [density[1:], moves[1:]], [first + density[0]], return_updates=False
        )
        pm.Potential("likelihood", pt.logsumexp(forward[-1]))
    return model


def compiled(table: pd.DataFrame) -> tuple[float, Any]:
    """Seconds of compiling the model by hand, and what nutpie samples."""
    import nutpie

    began = time.perf_counter()
    found = nutpie.compile_pymc_model(by_hand(table))
    return time.perf_counter() - began, found


def theirs(model: Any, seed: int, **settings: int) -> Draws:
    """The sampler alone on a compiled model."""
    import nutpie

    began = time.perf_counter()
    tree = nutpie.sample(model, seed=seed, save_warmup=False, progress_bar=False, **settings)
    taken = time.perf_counter() - began
    posterior = tree["posterior"]
    gate = np.moveaxis(posterior["gate"].values, 2, -1)
    return Draws.of(
        taken, np.swapaxes(posterior["mu"].values, -1, -2), posterior["sigma"].values, gate
    )


def nuts(rows: int, rounds: int) -> Row:
    """A row of the table: medians of runs taken in turn."""
    table = regimes(rows, 1)
    table = table.assign(**{name: standardised(table[name]) for name in ("x", "z", "y")})
    compiling, model = compiled(table)
    ours(table, 0, **SHORT)
    theirs(model, 0, **SHORT)
    pairs = [(ours(table, s, **SETTINGS), theirs(model, s, **SETTINGS)) for s in range(rounds)]
    seconds, ess = (
        [median(getattr(p[j], figure) for p in pairs) for j in (0, 1)]
        for figure in ("seconds", "ess")
    )
    ratio = median((a.ess / a.seconds) / (b.ess / b.seconds) for a, b in pairs)
    return {
        "what": f"NUTS, {rows:,} rows",
        "ours s": seconds[0],
        "theirs s": seconds[1],
        "ours ESS": round(ess[0]),
        "theirs ESS": round(ess[1]),
        "ESS/s, ours / theirs": ratio,
        "their compiling s": compiling,
        "difference / MCSE": max(a.apart(b) for a, b in pairs),
        "R-hat, ours / theirs": f"{max(a.rhat for a, _ in pairs):.3f} / "
        f"{max(b.rhat for _, b in pairs):.3f}",
    }


# --- EM ------------------------------------------------------------------------------------------


def statsmodels(table: pd.DataFrame, starts: int) -> tuple[float, float]:
    """Seconds and log likelihood of the best of starts, after steps of EM from random points."""
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    model = MarkovRegression(table["y"], 2, exog=table[["x"]], switching_variance=True)
    np.random.seed(1)  # noqa: NPY002  (statsmodels draws its starts from the global state)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.fit(search_reps=starts, disp=False)
    return time.perf_counter() - began, float(found.llf)


def em(rows: int, rounds: int, starts: int) -> Row:
    """A row of the table: the same likelihood, and as many starts."""
    table, model = regimes(rows, 2), spec("~ 1")
    settings: dict[str, Any] = {
        "objective": "likelihood",
        "restarts": starts,
        "progressbar": False,
    }
    found: list[tuple[float, float, float, float]] = []
    for seed in range(rounds + 1):  # the first apart
        began = time.perf_counter()
        fit = bm.fit(model, table, "em", random_seed=seed, **settings)
        taken = time.perf_counter() - began
        reached = float(fit.idata["fit"]["log_likelihood"])
        found.append((taken, *statsmodels(table, starts), reached))
    figures = np.array(found[1:])
    return {
        "what": f"EM, {rows:,} rows, {starts} starts",
        "ours s": median(figures[:, 0]),
        "theirs s": median(figures[:, 1]),
        "time, ours / theirs": median(figures[:, 0] / figures[:, 1]),
        "log likelihood, ours": figures[:, 3].max(),
        "log likelihood, theirs": figures[:, 2].max(),
    }


TEXT = """Two regressions whose experts are a Markov chain, simulated. NUTS: whole calls of `bm.fit`
(design, modes to start from, sampling, pointwise log likelihood, labels, checks) against
`nutpie.sample` alone on the compiled model that a PyMC user writes by hand, with the forward
algorithm as a `pytensor.scan`, the same priors, and a feature in the gate; 4 chains of 1000 tuning
steps and 1000 draws, standardised columns. ESS is the least of sums over the experts, which labels
cannot change; the last columns are the largest difference of their means in Monte Carlo standard
errors, and the worst R-hat. EM: `bm.fit` for the maximum of the likelihood, with standard errors,
against `MarkovRegression.fit` of statsmodels, from as many random starts. Runs are taken in turn,
in one warm process, by `python -m benchmarks.markov`."""


def main(rounds: int) -> None:
    load = os.getloadavg()[0]
    rows = [em(n, rounds, 20) for n in (500, 2000)] + [nuts(300, rounds)]
    section = Section("Markov gates: NUTS beside PyMC, EM beside statsmodels", TEXT, rows)
    print(terminal(section))
    put(section, rounds, load)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
