"""EM alone: a cold process, a warm fit, and how time and memory grow with the rows."""

import json
import subprocess
import sys
from statistics import median

import numpy as np

import bayes_moe as bm
from bayes_moe.em import multistart
from benchmarks import cases
from benchmarks.against import WAYS
from benchmarks.page import Section
from benchmarks.timing import ROOT, Row, in_turn, process, seconds

TONE = "bm.mixture_of_experts('tuned ~ stretchratio', experts=2)"
COLD = (
    "import bayes_moe as bm; "
    f"fit = bm.fit({TONE}, bm.load_dataset('tone'), method='em', random_seed=1); "
    "print(bm.summary(fit))"
)
SIZES = (10_000, 100_000, 1_000_000)


def em(rounds: int) -> list[Section]:
    return [first_answer(rounds), growth(rounds)]


def first_answer(rounds: int) -> Section:
    bare = process("import pandas, xarray, formulaic")
    cold = in_turn("cold process: fit and print, against bare imports", process(COLD), bare, rounds)
    table = cases.shipped("tone")
    spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=2)

    def fit() -> object:
        return bm.fit(spec, table, method="em", random_seed=1, progressbar=False)

    fit()
    warm: Row = {"what": "warm fit", "s": median(seconds(fit) for _ in range(rounds))}
    text = (
        "Tone data, K = 2, default objective and restarts. The cold process imports the package, "
        "fits, and prints the summary; against it, a process with the bare imports "
        "`pandas, xarray, formulaic`, taken in turn."
    )
    return Section("EM: the first answer", text, [cold, warm])


def measured(n: int, way: str, rounds: int) -> Row:
    """Medians over whole processes."""
    command = [sys.executable, "-m", "benchmarks.scale", str(n), way]
    runs = [
        json.loads(subprocess.run(command, check=True, cwd=ROOT, capture_output=True).stdout)
        for _ in range(rounds)
    ]
    s, iterations, before, peak = (
        median(run[key] for run in runs) for key in ("s", "iterations", "before", "peak")
    )
    return {
        "what": f"n = {n:,}, {way}",
        "s": s,
        "iterations": iterations,
        "peak MiB": round(peak),
        "of it before the fit": round(before),
    }


def exponent(rows: list[Row]) -> str:
    """Slope of log seconds on log rows: over all sizes, and from each size to the next."""
    n, s = np.log(SIZES), np.log([float(str(row["s"])) for row in rows])
    steps = ", then ".join(f"{step:.2f}" for step in np.diff(s) / np.diff(n))
    return f"{np.polyfit(n, s, 1)[0]:.2f} ({steps} from size to size)"


def growth(rounds: int) -> Section:
    taken = max(1, rounds // 2)
    measurements = {way: [measured(n, way, taken) for n in SIZES] for way in WAYS}
    powers = "; ".join(f"{way}, {exponent(rows)}" for way, rows in measurements.items())
    text = (
        "The problem of the comparison with flexmix (K = 4, p = 10, 81 parameters): seconds of "
        "the whole `bm.fit` call after a warm-up on 1000 rows, and the peak of resident memory, "
        "each size in a process of its own. Time grows with the rows to the power: "
        f"{powers}. Without a given start, a table of more than {multistart.SUBSAMPLE} rows is "
        "first fitted on that many rows at random."
    )
    return Section(
        "EM: growth with the rows", text, [row for rows in measurements.values() for row in rows]
    )
