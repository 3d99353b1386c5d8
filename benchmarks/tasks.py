"""What the workers of :mod:`benchmarks.versions` do: functions from JSON to JSON."""

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import bayes_moe as bm
from benchmarks import cases, chains, label_free
from benchmarks.timing import seconds

Answer = dict[str, Any]


def serve() -> None:
    """Do the tasks that are read from standard input, a line each, and print the answers."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    warnings.simplefilter("ignore", bm.ConvergenceWarning)  # of the few draws that warm up
    for line in sys.stdin:
        name, arguments = json.loads(line)
        began = time.perf_counter()
        answer = TASKS[name](**arguments)
        said.write(json.dumps({"s": time.perf_counter() - began} | answer) + "\n")
        said.flush()


def em(problem: str, seed: int, **options: Any) -> Answer:
    """A fit by EM, and the log density at its best mode."""
    case = cases.TABLES[problem]()
    fits: list[bm.Fit] = []
    options |= {"method": "em", "random_seed": seed, "progressbar": False}
    taken = seconds(lambda: fits.append(bm.fit(case.spec, case.table, **options)))
    modes = bm.modes(fits[0])
    best = modes[modes["answer"]] if "answer" in modes else modes
    return {"s": taken, "objective": float(best["objective"].max()), "modes": len(modes)}


# --- predictions ---------------------------------------------------------------------------------


@cache
def predictive(family: str, rows: int) -> Any:
    """Prediction of rows by 4000 draws of four experts."""
    from tests.support.fits import fake_fit

    rng = np.random.default_rng(0)
    k = 4
    spec = bm.mixture_of_experts("y ~ x", experts=k, family=family)
    gate = rng.normal(size=(k, 2))
    parameters = {
        "gate_coef": gate - gate.mean(axis=0),
        "mu_coef": 2 * rng.normal(size=(k, 2)),
        "sigma": [0.3, 0.5, 0.7, 1.0],
        "nu": [4.0, 6.0, 10.0, 20.0],
    }
    parameters = {name: parameters[name] for name in spec.variables}
    table = bm.simulate(spec, {"x": rng.normal(size=200)}, parameters, random_seed=0)
    fit = fake_fit(spec, table, parameters, chains=4, draws=1000, spread=0.05)
    return bm.predict(fit, {"x": rng.normal(size=rows)})


READINGS: dict[str, Callable[[Any], object]] = {
    "mean": lambda p: p.mean(),
    "logpdf(0)": lambda p: p.logpdf(0.0),
    "cdf(0)": lambda p: p.cdf(0.0),
    "interval(0.9)": lambda p: p.interval(0.9),
}


def reading(quantity: str, family: str, rows: int, seed: int = 0) -> Answer:
    """A quantity of the posterior predictive, and the process's peak of memory in MiB."""
    del seed  # the same fit in every round
    asked = predictive(family, rows)
    taken = seconds(lambda: READINGS[quantity](asked))
    return {"s": taken, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


# --- NUTS ----------------------------------------------------------------------------------------


def whole_call(problem: str, seed: int, **options: Any) -> Answer:
    """A call of ``bm.fit`` with default settings, and figures of its draws."""
    case = chains.PROBLEMS[problem]()
    fits: list[bm.Fit] = []
    options |= {"random_seed": seed, "progressbar": False}
    taken = seconds(lambda: fits.append(bm.fit(case.spec, case.table, **options)))
    features = np.column_stack([np.ones(len(case.features)), case.features])
    return {"s": taken} | label_free.figures(case, chains.of_fit(fits[0]), features)


@cache
def compiled_by_hand(problem: str) -> Any:
    import nutpie

    from benchmarks import handwritten

    return nutpie.compile_pymc_model(handwritten.model(chains.PROBLEMS[problem]()))


def by_hand(problem: str, seed: int, **options: Any) -> Answer:
    """Nutpie's sampler alone, with its defaults, on the model written by hand."""
    import nutpie

    from benchmarks.handwritten import Standardised

    case, compiled = chains.PROBLEMS[problem](), compiled_by_hand(problem)
    trees: list[Any] = []
    options |= {"seed": seed, "progress_bar": False, "chains": 4}
    taken = seconds(lambda: trees.append(nutpie.sample(compiled, **options)))
    draws = chains.of_tree(case, trees[0])
    return {"s": taken} | label_free.figures(case, draws, Standardised.of(case).features)


TASKS: dict[str, Callable[..., Answer]] = {
    "em": em,
    "reading": reading,
    "whole_call": whole_call,
    "by_hand": by_hand,
}
