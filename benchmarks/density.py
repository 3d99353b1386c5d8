"""Mixture density networks: held-out log score and time, beside the same networks in PyTorch."""

import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

import bayes_moe as bm
from benchmarks.cases import UCI
from benchmarks.page import Section
from benchmarks.timing import ROOT, Row, process, seconds

TORCH = "TORCH_PYTHON"
"""Environment variable that names a Python with torch; without it, this one."""
PYTHON = os.environ.get(TORCH, sys.executable)
PEER = Path(__file__).with_name("torch_mdn.py")
COMPONENTS, HIDDEN = 5, (16, 16)
SAMPLES, FOLDS, FIRST, NETWORKS = 5, 3, 50, 8
"""Samples of the inverse problem, folds of mcycle, a seed that no setting was chosen by, and
networks of an average in PyTorch."""
METHODS = ("map", "ensemble")
SPLITS = 5
TABLES = ("yacht", "energy", "concrete")
TRUTH = 1.2824
"""Mean log density of the inverse problem under its true density."""
CHAINS, DRAWS = 2, 200
LONG = (100_000, 1_000_000)
PEAK = """
import resource, sys, time
import bayes_moe as bm
from benchmarks.density import uneven
table = uneven(int(sys.argv[1]), 0)
began = time.perf_counter()
bm.fit(bm.mixture_density("y ~ a + b", 5, (16, 16)), table, "map", random_seed=1, progressbar=False)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
COLD = """
from benchmarks.density import Problem, inverse, ours
ours(Problem("", "x ~ t", [(inverse(1000, 0), inverse(10_000, 100))]), "map")
"""


@dataclass(frozen=True)
class Problem:
    """Tables to fit and rows of the same source to score, in pairs."""

    what: str
    formula: str
    tables: list[tuple[pd.DataFrame, pd.DataFrame]]
    networks: int = 1
    truth: float | None = None

    @property
    def spec(self) -> bm.MixtureOfExperts:
        return bm.mixture_density(self.formula, COMPONENTS, HIDDEN)

    @property
    def response(self) -> str:
        return self.formula.split("~")[0].strip()

    @property
    def features(self) -> list[str]:
        return [name.strip() for name in self.formula.split("~")[1].split("+")]


@dataclass(frozen=True)
class Answers:
    """Log density of each table's new rows, and seconds of each fit."""

    densities: list[np.ndarray]
    seconds: list[float]

    @property
    def score(self) -> float:
        return float(np.concatenate(self.densities).mean())

    def regret(self, truth: float) -> float:
        """Median over tables of the distance from the score of the true density."""
        return truth - float(median(d.mean() for d in self.densities))


def inverse(n: int, seed: int) -> pd.DataFrame:
    """Inverse problem of Bishop (1994): several values of x for one t."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, n)
    t = x + 0.3 * np.sin(2 * np.pi * x) + rng.uniform(-0.1, 0.1, n)
    return pd.DataFrame({"x": x, "t": t})


def uneven(n: int, seed: int) -> pd.DataFrame:
    """Two branches of a curved response, whose shares and noise depend on two features."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-2, 2, n), rng.normal(size=n)
    upper = rng.random(n) < 1 / (1 + np.exp(-2 * a * b))
    mean = np.where(upper, np.sin(2 * a) + 0.5 * b, -1.5 - 0.5 * b**2)
    noise = np.exp(-1.5 + 0.5 * a - 0.3 * upper)
    return pd.DataFrame({"a": a, "b": b, "y": mean + noise * rng.normal(size=n)})


def folds(table: pd.DataFrame, count: int) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    fold = np.random.default_rng(0).permutation(len(table)) % count
    return [(table[fold != j], table[fold == j]) for j in range(count)]


def splits(name: str) -> Problem:
    """The given splits of a table of the UCI repository into rows to fit and new rows."""
    table = pd.read_csv(UCI / f"{name}.csv")
    given = json.loads((UCI / f"{name}_splits.json").read_text())["test_rows"]
    new = [table.index.isin(given[str(j)]) for j in range(SPLITS)]
    formula = f"y ~ {' + '.join(table.columns.drop('y'))}"
    tables = [(table[~rows], table[rows]) for rows in new]
    return Problem(f"{name}, {(~new[0]).sum()} rows, {SPLITS} splits", formula, tables)


def problems() -> list[Problem]:
    mcycle = folds(bm.load_dataset("mcycle"), FOLDS)
    seeds = range(FIRST, FIRST + SAMPLES)
    samples = [(inverse(1000, seed), inverse(10_000, 100 + seed)) for seed in seeds]
    long = [(uneven(20_000, FIRST), uneven(20_000, FIRST + 1))]
    return [
        Problem(
            f"inverse problem, 1000 rows, {SAMPLES} samples", "x ~ t", samples, NETWORKS, TRUTH
        ),
        *(splits(name) for name in TABLES if UCI.exists()),
        Problem(f"mcycle, 133 rows, {FOLDS} folds", "accel ~ times", mcycle),
        Problem("two branches, 20,000 rows", "y ~ a + b", long),
    ]


def ours(problem: Problem, method: str) -> Answers:
    densities, taken = [], []
    with warnings.catch_warnings(action="ignore", category=bm.ConvergenceWarning):
        for table, new in problem.tables:
            began = time.perf_counter()
            fit = bm.fit(problem.spec, table, method, random_seed=1, progressbar=False)
            taken.append(time.perf_counter() - began)
            densities.append(bm.predict(fit, new).logpdf(new[problem.response]).to_numpy())
    return Answers(densities, taken)


@cache
def torch() -> str:
    """Version of torch; empty without it."""
    command = [PYTHON, "-c", "import torch; print(torch.__version__)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def theirs(problem: Problem) -> tuple[Answers, Answers]:
    """Answers of one network, and of the average of all that are fitted to a table."""
    task: dict[str, Any] = {"hidden": HIDDEN, "components": COMPONENTS}
    task |= {"tables": len(problem.tables), "networks": problem.networks}
    for j, pair in enumerate(problem.tables):
        for end, table in zip(("", "_new"), pair, strict=True):
            task[f"x{end}{j}"] = table[problem.features].to_numpy(float)
            task[f"y{end}{j}"] = table[problem.response].to_numpy(float)
    with TemporaryDirectory() as name:
        np.savez(Path(name) / "task.npz", **task)
        subprocess.run([PYTHON, str(PEER), name], check=True)
        with np.load(Path(name) / "answer.npz") as answer:
            numbers = range(len(problem.tables))
            densities = [answer[f"density{j}"].astype(float) for j in numbers]
            times = [answer[f"seconds{j}"] for j in numbers]
    average = [logsumexp(d, axis=0) - np.log(len(d)) for d in densities]
    one = Answers([d[0] for d in densities], [float(t[0]) for t in times])
    return one, Answers(average, [float(t.sum()) for t in times])


def compared(what: str, answers: Answers, peer: Answers | None) -> Row:
    """A row of the table; the errors are those of means over all rows, and over the samples."""
    row: Row = {"what": what, "ours": answers.score, "torch": np.nan}
    row |= {"ours - torch": np.nan, "SE, rows": np.nan, "SE, samples": np.nan}
    if peer is not None:
        pairs = zip(answers.densities, peer.densities, strict=True)
        gains = [one - other for one, other in pairs]
        means, all_rows = [g.mean() for g in gains], np.concatenate(gains)
        row |= {"torch": peer.score, "ours - torch": float(np.mean(means))}
        row["SE, rows"] = float(all_rows.std(ddof=1) / np.sqrt(all_rows.size))
        if len(means) > 1:
            row["SE, samples"] = float(np.std(means, ddof=1) / np.sqrt(len(means)))
    row |= {"ours s": median(answers.seconds), "torch s": np.nan}
    if peer is not None:
        row["torch s"] = median(peer.seconds)
    return row


def rows_of(problem: Problem) -> list[Row]:
    """Rows of one network, and of an ensemble beside the average of as many as there are."""
    peers = theirs(problem) if torch() else (None, None)
    rows = []
    for method, peer in zip(METHODS, peers, strict=True):
        of = f" (torch: average of {problem.networks})" if method == "ensemble" else ""
        answers = ours(problem, method)
        rows.append(compared(f"{problem.what}, {method}{of}", answers, peer))
        if problem.truth is not None:
            rows.append({"what": f"median regret of these, {method}{of}"})
            rows[-1]["ours"] = answers.regret(problem.truth)
            rows[-1]["torch"] = np.nan if peer is None else peer.regret(problem.truth)
    return rows


def sampled() -> Row:
    """A row of NUTS on one sample of the inverse problem."""
    spec, table = bm.mixture_density("x ~ t", COMPONENTS, HIDDEN), inverse(1000, 0)
    settings: dict[str, Any] = {"draws": DRAWS, "tune": DRAWS, "chains": CHAINS}
    with warnings.catch_warnings(action="ignore", category=bm.ConvergenceWarning):
        began = time.perf_counter()
        fit = bm.fit(spec, table, "nuts", random_seed=1, progressbar=False, **settings)
        taken = time.perf_counter() - began
    each = float(fit.idata["sample_stats"]["n_steps"].mean())
    what = f"nuts, {CHAINS} x {DRAWS} draws after as many to tune; {each:,.0f} gradients a draw"
    return {"what": what, "ours s": taken}


def long_table(rows: int) -> Row:
    """A row of a fit to a long table in a process of its own, with the peak of its memory."""
    command = [sys.executable, "-W", "ignore", "-c", PEAK, str(rows)]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    taken, peak = map(float, done.stdout.split())
    return {"what": f"two branches, {rows:,} rows, map; peak of {peak:,.0f} MiB", "ours s": taken}


def density(_: int) -> list[Section]:
    for method in METHODS:
        bm.fit(
            bm.mixture_density("x ~ t", 2, (4,)), inverse(100, 0), method, random_seed=1, epochs=9
        )
    rows = [row for problem in problems() for row in rows_of(problem)]
    first = problems()[0]
    whole: Row = {"what": "whole processes, one sample of the inverse problem, map"}
    whole["ours s"] = seconds(process(COLD))
    one = Problem(first.what, first.formula, first.tables[:1])
    whole["torch s"] = seconds(lambda: theirs(one)) if torch() else np.nan
    said = f"torch {torch()}" if torch() else f"no torch here, and none named by {TORCH}"
    text = (
        f"`bm.mixture_density` with {COMPONENTS} components and hidden layers {HIDDEN}, by "
        "`method='map'` and `method='ensemble'` with default settings, and the same network in "
        f"plain PyTorch ({said}; `benchmarks/torch_mdn.py`): standardised data, Adam from 0.01 "
        "with a falling rate, batches of 32 to 256 rows, early stopping on a tenth of the rows, "
        "one start, one thread. An ensemble is beside the average of several such networks, where "
        "more than one was fitted. Scores are mean log densities of rows that neither saw, in "
        "units of the response. Seconds are medians of fits, the process warm; those of whole "
        "processes have imports too.\n\n"
        "The inverse problem is Bishop's: x is uniform on (0, 1), t = x + 0.3 sin(2 pi x) plus "
        "uniform noise on (-0.1, 0.1), and x is predicted from t, with 10,000 new rows a sample; "
        f"the true density scores {TRUTH}, and a regret is the distance from it. NUTS has one such "
        "sample. The two branches have shares and noise that depend on two "
        "features; there are 20,000 new rows. Yacht, energy and concrete are tables of the UCI "
        "repository with the first five of the usual 90 / 10 splits; published means of the "
        "negative log density by ensembles of networks are 1.18, 1.38 and 3.06."
    )
    rows += [whole, sampled(), *map(long_table, LONG)]
    return [Section("Mixture density networks: held-out score", text, rows)]
