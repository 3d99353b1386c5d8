"""This version beside the one before: EM, the search for modes, prediction, the first call."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from statistics import median

from benchmarks import cases
from benchmarks.page import Section
from benchmarks.tasks import READINGS, Answer
from benchmarks.timing import ROOT, Row, seconds
from benchmarks.versions import (
    NOTE,
    Answers,
    busy,
    compared,
    environment,
    folders,
    noted,
    rounds_in_turn,
    workers,
)

BUSY = 2
ROWS, WARM = 10_000, 1_000
SEEDS, FIRST_SEED = 10, 100
"""Number of searches, and a seed before them: others than those by which settings were chosen."""
BEST_MODES = ROOT / "tests" / "data" / "best_modes.json"
"""Log density of the best mode that 1000 starts of the version before found, by table."""
NEAR = 0.01
FIRST = (
    "import bayes_moe as bm; "
    "fit = bm.fit(bm.mixture_of_experts('tuned ~ stretchratio', experts=2), "
    "bm.load_dataset('tone'), random_seed=1, progressbar=False); print(bm.summary(fit))"
)


def threads(rounds: int) -> list[Section]:
    """EM by default settings, on a quiet machine and beside busy processes."""
    rows: list[Row] = []
    with workers() as asked:
        for problem in cases.trained():
            quiet: Answers = {}
            for state, others in (("quiet", 0), (f"beside {BUSY} busy processes", BUSY)):
                for worker in asked.values():
                    worker.ask("em", problem=problem, seed=0)
                calls = {n: w.asking("em", problem=problem, seed=1) for n, w in asked.items()}
                with busy(others):
                    answers = rounds_in_turn(calls, rounds)
                quiet = quiet or answers
                case = cases.TABLES[problem]()
                row = compared(f"{case.what}, {state}", answers)
                ours = median(answer["s"] for answer in answers["now"])
                row["now / now quiet"] = ours / median(answer["s"] for answer in quiet["now"])
                row["log density, before"] = _objective(answers, "before")
                row["log density, now"] = _objective(answers, "now")
                rows.append(row)
    text = (
        f"`bm.fit(spec, table, method='em')` in a warm process. {NOTE} The tables are the first "
        "training rows of UCI energy, concrete and yacht; gate and experts have all features. The "
        "busy processes are endless loops of Python on a machine whose processors the fit uses "
        "all. The last columns are the log density at the best mode."
    )
    return [Section("EM by default settings", noted(text), rows)]


def _objective(answers: Answers, name: str) -> str:
    return f"{answers[name][0]['objective']:.4f}" if name in answers else "–"


def search(_: int) -> list[Section]:
    """How often the search finds the best mode, and its time on one thread."""
    rows: list[Row] = []
    best = json.loads(BEST_MODES.read_text(encoding="utf-8"))["tables"]
    with workers(one_thread=True) as asked:
        for problem in (name for name in best if name in cases.searched()):
            asking = {n: w.asking("em", problem=problem, cores=1) for n, w in asked.items()}
            calls = {n: partial(_of_seed, call) for n, call in asking.items()}
            for call in calls.values():
                call(0)
            found, most = rounds_in_turn(calls, SEEDS), best[problem]["objective"]
            row = compared(cases.TABLES[problem]().what, found)
            del row["rounds"]
            for name in ("before", "now"):
                values = [answer["objective"] for answer in found.get(name, [])]
                row[f"found, {name}"] = f"{sum(v >= most - NEAR for v in values)} of {len(values)}"
                for what, of in (("median", median), ("largest", max)):
                    deficit = of(most - v for v in values) if values else math.nan
                    row[f"{what} deficit, {name}"] = f"{deficit:.2f}"
            rows.append(row)
    text = (
        f"`bm.fit(spec, table, method='em')` with {SEEDS} seeds, on one thread (results do not "
        "depend on their number). The best mode counts as found if the log density is within "
        f"{NEAR:g} of the best of 1000 random starts of the version before, or above it; a deficit "
        "is what is missing to that, and negative above it. Seconds are medians of the whole call "
        "in a warm process. Settings were chosen by other seeds."
    )
    return [Section("EM: the search for the best mode", noted(text), rows)]


def _of_seed(call: Callable[[int], Answer], number: int) -> Answer:
    """Answer of a call for one of the seeds."""
    return call(FIRST_SEED + number)


def reading(rounds: int) -> list[Section]:
    """Quantities of the posterior predictive: time and peak memory, a process for each."""
    rows: list[Row] = []
    for family in ("normal", "studentt"):
        for quantity in READINGS:
            given = {"quantity": quantity, "family": family}
            with workers() as asked:
                for worker in asked.values():
                    worker.ask("reading", rows=WARM, **given)
                calls = {n: w.asking("reading", rows=ROWS, **given) for n, w in asked.items()}
                answers = rounds_in_turn(calls, rounds)
            row = compared(f"{family}, {quantity}", answers)
            for name in ("before", "now"):
                peaks = [answer["peak"] for answer in answers.get(name, [])]
                row[f"peak MiB, {name}"] = round(max(peaks)) if peaks else math.nan
            rows.append(row)
    text = (
        f"{ROWS:,} rows, 4000 draws of 4 experts, in a process for each quantity, which has read "
        f"it for {WARM:,} rows first. {NOTE} The peak is that of the process's resident memory."
    )
    return [Section("Prediction, beside the version before", noted(text), rows)]


def first(rounds: int) -> list[Section]:
    """Whole processes, from their start to a printed summary of a fit by NUTS."""
    calls = {name: _process(environment(folder)) for name, folder in folders().items()}
    for call in calls.values():
        call(0)
    row = compared("process start to printed summary, warm caches", rounds_in_turn(calls, rounds))
    text = f"Tone data, K = 2, `bm.fit` and `bm.summary`. {NOTE}"
    return [Section("NUTS: first call of a process, beside before", noted(text), [row])]


def _process(env: dict[str, str]) -> Callable[[int], dict[str, float]]:
    command = [sys.executable, "-P", "-c", FIRST]
    run = partial(subprocess.run, command, check=True, env=env, stdout=subprocess.DEVNULL)
    return lambda _: {"s": seconds(run)}
