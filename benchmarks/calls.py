"""NUTS as a whole call, against the sampler alone of a model written by hand."""

import math
from contextlib import closing
from statistics import median
from typing import Any

import numpy as np

from benchmarks.chains import PROBLEMS
from benchmarks.page import Section
from benchmarks.timing import ROOT, Row
from benchmarks.versions import NOTE, Answers, Worker, noted, rounds_in_turn, workers

SHORT = {"draws": 10, "tune": 10}


def calls(rounds: int) -> list[Section]:
    rows = [measured(problem, rounds) for problem in PROBLEMS]
    text = (
        "Whole calls of `bm.fit(spec, table)` (design, modes to start from, sampling, pointwise "
        "log likelihood, labels, checks) against `nutpie.sample` alone on the compiled model that "
        f"a PyMC user writes by hand, with 4 chains. {NOTE} Warm processes, runs in turn, a seed "
        "for each round. ESS is the least of quantities that labels cannot change (log likelihood, "
        "and mean and squared weights at five rows); the last columns are the largest difference "
        "of their means in Monte Carlo standard errors, and the worst R-hat. The simulated tables "
        "have n = 5000, p = 10 and K = 4."
    )
    return [Section("NUTS: whole calls against the sampler alone", noted(text), rows)]


def measured(problem: str, rounds: int) -> Row:
    """A row of the table."""
    with workers() as asked, closing(Worker(ROOT)) as hand:
        turns = {"by hand": hand.asking("by_hand", problem=problem)}
        turns |= {n: w.asking("whole_call", problem=problem) for n, w in asked.items()}
        hand.ask("by_hand", problem=problem, seed=0, **SHORT)
        for worker in asked.values():
            worker.ask("whole_call", problem=problem, seed=0, **SHORT)
        return row(problem, rounds_in_turn(turns, rounds))


def row(problem: str, answers: Answers) -> Row:
    per_second = {n: [a["ess"] / a["s"] for a in found] for n, found in answers.items()}
    figures: Row = {"what": problem}
    for name in ("by hand", "before", "now"):
        found = answers.get(name, [])
        figures[f"{name} s"] = median(a["s"] for a in found) if found else math.nan
        figures[f"{name} ESS"] = round(median(a["ess"] for a in found)) if found else math.nan
    for name in ("before", "now"):
        pairs = zip(per_second.get(name, []), per_second["by hand"], strict=False)
        ratios = [ours / theirs for ours, theirs in pairs]
        figures[f"ESS/s, {name} / by hand"] = median(ratios) if ratios else math.nan
    pairs = zip(answers["now"], answers["by hand"], strict=True)
    figures["difference / MCSE"] = max(apart(a, b) for a, b in pairs)
    worst = {name: max(a["rhat"] for a in answers[name]) for name in ("now", "by hand")}
    figures["R-hat, now / by hand"] = f"{worst['now']:.3f} / {worst['by hand']:.3f}"
    figures["rounds"] = len(answers["now"])
    return figures


def apart(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Largest difference of posterior means in Monte Carlo standard errors."""
    error = np.hypot(a["mcse"], b["mcse"])
    return float((np.abs(np.subtract(a["means"], b["means"])) / error).max())
