"""One posterior by NUTS in a separate process: ``python -m benchmarks.chains`` prints JSON.

Arguments: problem, program, settings as JSON, and a file for the draws (chain, draw, ...): gate
and mu (expert, term), and sigma (expert).
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

import bayes_moe as bm
from benchmarks import cases, handwritten, stan
from benchmarks.cases import Case
from benchmarks.label_free import Draws
from benchmarks.timing import seconds

PROBLEMS: dict[str, Callable[[], Case]] = {
    "tone": cases.tone_case,
    "simulated": lambda: cases.simulated(5_000),
    "simulated, Poisson": lambda: cases.simulated(5_000, family="poisson"),
    "simulated, Student t": lambda: cases.simulated(5_000, family="studentt"),
}
Sampled = tuple[float, float, Draws]
"""Seconds of compiling, seconds of sampling, draws."""


@dataclass(frozen=True)
class Settings:
    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    random_seed: int = 1


def ours(case: Case, settings: Settings) -> Sampled:
    """Our run; compiling is the time of a first fit of a few draws less that of a second."""

    def fit(**shorter: int) -> bm.Fit:
        chosen = asdict(settings) | shorter
        return bm.fit(case.spec, case.table, method="nuts", progressbar=False, **chosen)

    first, again = (seconds(lambda: fit(draws=10, tune=10)) for _ in range(2))
    began = time.perf_counter()
    made = fit()
    taken = time.perf_counter() - began
    return max(first - again, 0.0), taken, of_fit(made)


def of_fit(fit: bm.Fit) -> Draws:
    """Draws of a fit by us; coefficients belong to features as they were given."""
    posterior = fit.idata["posterior"]
    draws = {
        "gate": posterior["gate_coef"].transpose("chain", "draw", "expert", "gate_term"),
        "mu": posterior["mu_coef"].transpose("chain", "draw", "expert", "mu_term"),
    }
    for name in {"sigma", "nu"} & {*posterior.data_vars}:
        draws[name] = posterior[name].transpose("chain", "draw", "expert")
    return {name: v.values for name, v in draws.items()}


def by_nutpie(case: Case, settings: Settings, **more: Any) -> Sampled:
    import nutpie

    model = handwritten.model(case)
    began = time.perf_counter()
    compiled = nutpie.compile_pymc_model(model)
    ready = time.perf_counter()
    chosen = asdict(settings)
    seed = chosen.pop("random_seed")
    tree = nutpie.sample(
        compiled, seed=seed, save_warmup=False, progress_bar=False, **chosen, **more
    )
    return ready - began, time.perf_counter() - ready, of_tree(case, tree)


def by_pymc(case: Case, settings: Settings) -> Sampled:
    """PyMC's run; sampling is the time that it reports, compiling the rest of the call."""
    import pymc as pm

    model = handwritten.model(case)
    began = time.perf_counter()
    tree = pm.sample(
        model=model,
        nuts_sampler="pymc",
        progressbar=False,
        quiet=True,
        compute_convergence_checks=False,
        **asdict(settings),
    )
    taken = time.perf_counter() - began
    sampling = float(tree["posterior"].attrs["sampling_time"])
    return taken - sampling, sampling, of_tree(case, tree)


def of_tree(case: Case, tree: Any) -> Draws:
    posterior = tree["posterior"]
    draws = {name: np.swapaxes(posterior[name].values, -1, -2) for name in ("gate", "mu")}
    draws |= {n: posterior[n].values for n in ("sigma", "nu") if n in posterior.data_vars}
    return in_units_of_response(case, draws)


def in_units_of_response(case: Case, draws: Draws) -> Draws:
    """Draws of a hand-written model; coefficients belong to standardised features."""
    data = handwritten.Standardised.of(case)
    if case.family == "poisson":
        first = np.arange(draws["mu"].shape[-1]) == 0
        return draws | {"mu": draws["mu"] + np.where(first, np.log(data.mean), 0.0)}
    mu, sigma = data.in_units_of_response(draws["mu"], draws["sigma"])
    return draws | {"mu": mu, "sigma": sigma}


def by_stan(case: Case, settings: Settings) -> Sampled:
    compiling, sampling, draws = stan.run(case, cores=os.cpu_count() or 1, **asdict(settings))
    return compiling, sampling, in_units_of_response(case, draws)


PROGRAMS: dict[str, Callable[[Case, Settings], Sampled]] = {
    "bayes_moe": ours,
    "by hand, nutpie": by_nutpie,
    "by hand, our settings": partial(by_nutpie, adaptation="low_rank", target_accept=0.9),
    "by hand, PyMC": by_pymc,
    "Stan": by_stan,
}


def main() -> None:
    problem, program, settings, path = sys.argv[1:]
    compiling, sampling, draws = PROGRAMS[program](
        PROBLEMS[problem](), Settings(**json.loads(settings))
    )
    np.savez(path, **draws)
    print(json.dumps({"compiling": compiling, "sampling": sampling}))


if __name__ == "__main__":
    main()
