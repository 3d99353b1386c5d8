"""NUTS against the model written by hand (nutpie, PyMC) and in Stan: the same posterior."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import label_free, stan
from benchmarks.chains import PROBLEMS, Settings
from benchmarks.handwritten import Standardised
from benchmarks.page import Section
from benchmarks.timing import ROOT, Row

OURS = "bayes_moe"
PEERS = ("by hand, nutpie", "by hand, our settings", "by hand, PyMC", "Stan")


def nuts(rounds: int) -> Iterator[Section]:
    yield posteriors("tone", rounds)
    yield first_fit(rounds)
    yield second_fit(rounds)
    yield posteriors("simulated", max(1, rounds // 2))


# --- the same posterior by several programs ----------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Seconds of one run, and its draws of label-invariant quantities."""

    compiling: float
    sampling: float
    invariants: np.ndarray  # (chain, draw, quantity)

    def of_each(self, figure: str) -> np.ndarray:
        """One of ArviZ's statistics of each quantity (quantity,)."""
        return label_free.of_each(figure, self.invariants)

    @cached_property
    def least_ess(self) -> float:
        return float(self.of_each("ess").min())

    @property
    def per_second(self) -> float:
        return self.least_ess / self.sampling

    @property
    def per_whole_second(self) -> float:
        return self.least_ess / (self.compiling + self.sampling)


@contextmanager
def cache_folder() -> Iterator[dict[str, str]]:
    """Environment of a process with separate compile caches, which are empty at first."""
    with TemporaryDirectory() as name:
        flags = os.environ.get("PYTENSOR_FLAGS", "")
        yield os.environ | {
            "PYTENSOR_FLAGS": ",".join(filter(None, [flags, f"base_compiledir={name}"])),
            "NUMBA_CACHE_DIR": str(Path(name) / "numba"),
        }


def answer(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Last line that a Python process prints, parsed as JSON."""
    said = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    ).stdout
    printed: dict[str, float] = json.loads(said.splitlines()[-1])
    return printed


def sampled(problem: str, program: str, settings: Settings) -> Run:
    """One run in a separate process with empty compile caches."""
    case = PROBLEMS[problem]()
    with cache_folder() as environment, TemporaryDirectory() as name:
        path = Path(name) / "draws.npz"
        arguments = [problem, program, json.dumps(asdict(settings)), str(path)]
        took = answer(["-m", "benchmarks.chains", *arguments], environment)
        with np.load(path) as file:
            draws = dict(file)
    features = Standardised.of(case).features
    if program == OURS:  # our coefficients belong to features as they were given
        features = np.column_stack([np.ones(len(features)), case.features])
    found = label_free.invariants(draws, features, case.response, case.family)
    return Run(took["compiling"], took["sampling"], found)


def apart(a: Run, b: Run) -> float:
    """Largest difference of posterior means in Monte Carlo standard errors."""
    means = [run.invariants.mean(axis=(0, 1)) for run in (a, b)]
    error = np.hypot(a.of_each("mcse"), b.of_each("mcse"))
    return float((np.abs(means[0] - means[1]) / error).max())


def compared(problem: str, rounds: int) -> tuple[list[Row], list[str]]:
    """A row for each program, and a note on each one that cannot run here."""
    notes: list[str] = []
    taken: dict[str, list[Run]] = {name: [] for name in (OURS, *PEERS)}
    if not stan.version():
        notes.append("Stan: skipped, R's rstan is not installed.")
        del taken["Stan"]
    for seed in range(1, rounds + 1):
        for name in list(taken):
            try:
                taken[name].append(sampled(problem, name, Settings(random_seed=seed)))
            except subprocess.CalledProcessError as error:
                if name != "Stan":
                    raise
                notes.append(f"Stan: rstan failed here ({stan.reason(error.stderr)}).")
                del taken[name]
    rows = [row(name, list(zip(taken[OURS], runs, strict=True))) for name, runs in taken.items()]
    return rows, notes


def row(program: str, pairs: list[tuple[Run, Run]]) -> Row:
    runs = [b for _, b in pairs]
    figures: Row = {
        "program": program,
        "compiling s": median(r.compiling for r in runs),
        "sampling s": median(r.sampling for r in runs),
        "least ESS": round(median(r.least_ess for r in runs)),
        "ESS/s": median(r.per_second for r in runs),
        "ESS/s with compiling": median(r.per_whole_second for r in runs),
        "worst R-hat": f"{max(r.of_each('rhat').max() for r in runs):.3f}",
    }
    if program == OURS:
        return figures
    return figures | {
        "ours / theirs": median(a.per_second / b.per_second for a, b in pairs),
        "with compiling": median(a.per_whole_second / b.per_whole_second for a, b in pairs),
        "worst difference / MCSE": max(apart(a, b) for a, b in pairs),
    }


COLUMNS = (
    "Each run is a process of its own with empty compile caches, on all cores. The hand-written "
    "models are `pm.NormalMixture` with a softmax gate, and in Stan a mixture by `log_sum_exp`, "
    "with our default priors on standardised features and response, from their default random "
    "starts and with their default settings, or once with ours (low-rank mass matrix, target "
    "0.9). Our compiling is what a first `bm.fit` of ten draws takes beyond a second one; our "
    "sampling is the whole of a later call: design, modes to start from, sampling, labels, "
    "checks. Theirs is the sampler alone. ESS is the least bulk ESS of quantities that do not "
    "depend on labels: the log likelihood, and at five rows the mean and the sum of squared "
    "gate weights. The last column compares their posterior means with ours. Where R-hat is "
    "above 1.05, chains sit in different modes, and neither ESS nor the comparison means much."
)


def posteriors(problem: str, rounds: int) -> Section:
    case, settings = PROBLEMS[problem](), Settings()
    rows, notes = compared(problem, rounds)
    text = (
        f"{case.what}, p = {case.features.shape[1]}, K = {case.experts}; {settings.chains} chains "
        f"of {settings.tune} tuning steps and {settings.draws} draws, nutpie {version('nutpie')}"
        f"{', rstan ' + stan.version() if stan.version() else ''}. {COLUMNS}"
    )
    return Section(f"NUTS: the same posterior, {problem} data", "\n\n".join([text, *notes]), rows)


# --- processes that fit the tone data ------------------------------------------------------------

READY = (
    "import json, time; import pandas; import bayes_moe as bm\n"
    "spec = bm.mixture_of_experts('tuned ~ stretchratio', experts=2)\n"
    "table = bm.load_dataset('tone')\n"
    "def fit(table, n=1000):\n"
    "    return bm.fit(spec, table, method='nuts', draws=n, tune=n, chains=4,\n"
    "                  progressbar=False, random_seed=1)\n"
)
READY_BY_HAND = (
    "import json, time; import pandas, pymc, nutpie\n"
    "from benchmarks import cases, handwritten\n"
    "from dataclasses import replace\n"
    "case = cases.tone_case(); table = case.table\n"
    "def fit(table, n=1000):\n"
    "    model = handwritten.model(replace(case, table=table))\n"
    "    compiled = nutpie.compile_pymc_model(model)\n"
    "    return nutpie.sample(compiled, draws=n, tune=n, chains=4, seed=1, save_warmup=False,\n"
    "                         progress_bar=False)\n"
)
FIRST = (
    "began = time.perf_counter(); posterior = fit(table); took = time.perf_counter() - began\n"
    "{printed}\n"
    "print(json.dumps({{'fit': took}}))\n"
)
OTHER = (
    "fit(table, 10)\n"
    "def timed(seed, n):\n"
    "    other = table.sample(len(table), replace=True, random_state=seed, ignore_index=True)\n"
    "    began = time.perf_counter(); fit(other, n); return time.perf_counter() - began\n"
    "print(json.dumps({'ten': timed(1, 10), 'whole': timed(2, 1000)}))\n"
)
SCRIPTS = {
    "ours": READY + FIRST.format(printed="print(bm.summary(posterior))"),
    "theirs": READY_BY_HAND
    + FIRST.format(printed="import arviz as az; print(az.summary(posterior))"),
}


def first_fit(rounds: int) -> Section:
    """Seconds of a call and of its whole process, by side and state of the caches."""
    taken: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(rounds):
        with cache_folder() as ours, cache_folder() as theirs:
            for state in ("cold", "warm"):
                for side, environment in (("ours", ours), ("theirs", theirs)):
                    began = time.perf_counter()
                    call = answer(["-c", SCRIPTS[side]], environment)["fit"]
                    whole = time.perf_counter() - began
                    taken.setdefault(("call", state, side), []).append(call)
                    taken.setdefault(("process", state, side), []).append(whole)
    words = {"call": "from the call to the posterior", "process": "process, to a printed summary"}
    rows = [
        side_by_side(f"{words[what]}, {state} cache", *(taken[what, state, s] for s in SCRIPTS))
        for what in words
        for state in ("cold", "warm")
    ]
    text = (
        "Tone data, K = 2, 1000 tuning steps and draws of 4 chains: `bm.fit` against the "
        "hand-written model built, compiled and sampled by nutpie, each as the first fit of a "
        "fresh process. The call is timed after `import bayes_moe, pandas` or "
        "`import pymc, nutpie`, the process from its start to a printed summary, imports "
        "included. Cold: empty compile caches; warm: the next process with the same caches."
    )
    return Section("NUTS: the first fit of a process", text, rows)


def second_fit(rounds: int) -> Section:
    sides = [READY + OTHER, READY_BY_HAND + OTHER]
    with cache_folder() as ours, cache_folder() as theirs:
        runs = [
            [answer(["-c", code], e) for code, e in zip(sides, (ours, theirs), strict=True)]
            for _ in range(rounds)
        ]
    words = {"ten": "10 tuning steps and draws", "whole": "1000 tuning steps and draws"}
    rows = [
        side_by_side(what, *([run[side][key] for run in runs] for side in (0, 1)))
        for key, what in words.items()
    ]
    text = (
        "The same model on other rows (the tone data drawn with replacement) in a process that "
        "has fitted it once: seconds from the call to the result. With ten draws, this is nearly "
        "all time before sampling. By hand, the model is built and compiled anew; nutpie can also "
        "put new data of the same columns into a compiled model (`with_data`)."
    )
    return Section("NUTS: the next fit of a process", text, rows)


def side_by_side(what: str, ours: list[float], theirs: list[float]) -> Row:
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "what": what,
        "ours s": median(ours),
        "theirs s": median(theirs),
        "ours / theirs": median(a / b for a, b in pairs),
    }
