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
from benchmarks.timing import seconds

PROBLEMS: dict[str, Callable[[], Case]] = {
    "tone": cases.tone_case,
    "simulated": lambda: cases.simulated(5_000),
}
Draws = dict[str, np.ndarray]
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
    posterior = fit().idata["posterior"]
    taken = time.perf_counter() - began
    draws = {
        "gate": posterior["gate_coef"].transpose("chain", "draw", "expert", "gate_term"),
        "mu": posterior["mu_coef"].transpose("chain", "draw", "expert", "mu_term"),
        "sigma": posterior["sigma"].transpose("chain", "draw", "expert"),
    }
    return max(first - again, 0.0), taken, {name: v.values for name, v in draws.items()}


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
    raw = {name: tree["posterior"][name].values for name in ("gate", "mu", "sigma")}
    gate, mu = (np.swapaxes(raw[name], -1, -2) for name in ("gate", "mu"))
    return in_units_of_response(case, {"gate": gate, "mu": mu, "sigma": raw["sigma"]})


def in_units_of_response(case: Case, draws: Draws) -> Draws:
    data = handwritten.Standardised.of(case)
    mu, sigma = data.in_units_of_response(draws["mu"], draws["sigma"])
    return {"gate": draws["gate"], "mu": mu, "sigma": sigma}


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
    np.savez(path, gate=draws["gate"], mu=draws["mu"], sigma=draws["sigma"])
    print(json.dumps({"compiling": compiling, "sampling": sampling}))


if __name__ == "__main__":
    main()
