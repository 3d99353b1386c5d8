"""Hierarchical mixtures beside flat ones: EM with restarts, and the time of one iteration."""

from statistics import median

import numpy as np
import pandas as pd

import bayes_moe as bm
from bayes_moe.em.m_step import sweep_step
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from benchmarks.page import Section
from benchmarks.timing import Row, alternate, seconds

ROWS, FEATURES = 50_000, 10


def trees(rounds: int) -> list[Section]:
    table = nested()
    features = " + ".join(f"x{j}" for j in range(FEATURES))
    tree = bm.hierarchical_mixture(f"y ~ {features}", branching=(2, 2, 2))
    flat = bm.mixture_of_experts(f"y ~ {features}", experts=8)
    return [fits(table, tree, flat, min(rounds, 3)), iterations(table, tree, flat, rounds)]


def nested() -> pd.DataFrame:
    """Rows of eight regressions, one in each octant of the first three of ten features."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, FEATURES))
    leaf = 4 * (x[:, 0] > 0) + 2 * (x[:, 1] > 0) + (x[:, 2] > 0)
    slopes, levels = rng.normal(0, 1, (8, FEATURES)), rng.normal(0, 3, 8)
    y = levels[leaf] + (x * slopes[leaf]).sum(axis=1) + 0.5 * rng.standard_normal(ROWS)
    return pd.DataFrame(x, columns=[f"x{j}" for j in range(FEATURES)]).assign(y=y)


def fits(
    table: pd.DataFrame, tree: bm.MixtureOfExperts, flat: bm.MixtureOfExperts, rounds: int
) -> Section:
    by_gate: dict[str, bm.Fit] = {}

    def timed(what: str, spec: bm.MixtureOfExperts) -> float:
        def fit() -> None:
            by_gate[what] = bm.fit(spec, table, method="em", random_seed=1, progressbar=False)

        return seconds(fit)

    pairs = alternate(lambda: timed("tree", tree), lambda: timed("flat", flat), rounds)
    rows: list[Row] = [
        {
            "what": f"{what}, 30 starts",
            "s": median(pair[j] for pair in pairs),
            "log likelihood": float(by_gate[what].idata["fit"]["log_likelihood"]),
            "converged": str(bool(by_gate[what].idata["fit"]["converged"])),
        }
        for j, what in enumerate(("tree", "flat"))
    ]
    text = (
        f"Normal regressions in the octants of three of {FEATURES} features, {ROWS:,} rows. The "
        "tree has three levels of two branches, the flat gate eight experts; both gates and all "
        "experts have all features. Whole `bm.fit(..., method='em')` calls, taken in turn."
    )
    return Section("EM: a tree of eight leaves", text, rows)


def iterations(
    table: pd.DataFrame, tree: bm.MixtureOfExperts, flat: bm.MixtureOfExperts, rounds: int
) -> Section:
    rows: list[Row] = []
    for what, curvature in (("a sweep of EM", Curvature.COMPLETE), ("Newton", Curvature.OBSERVED)):
        calls = []
        for spec in (tree, flat):
            objective = Objective(parameter_vector(spec, spec.design(table)), cores=2)
            theta = 0.1 * np.random.default_rng(0).standard_normal((1, objective.size))

            def call(
                objective: Objective = objective,
                theta: np.ndarray = theta,
                curvature: Curvature = curvature,
            ) -> None:
                evaluation = objective.evaluate(theta, curvature)
                if curvature is Curvature.COMPLETE:
                    sweep_step(objective, theta, evaluation)

            call()
            calls.append(call)
        one, other = calls
        pairs = alternate(
            lambda one=one: seconds(one),
            lambda other=other: seconds(other),
            rounds,  # type: ignore[misc]
        )
        rows.append(
            {
                "what": what,
                "tree, s": median(p[0] for p in pairs),
                "flat, s": median(p[1] for p in pairs),
                "ratio": median(p[0] / p[1] for p in pairs),
            }
        )
    text = (
        "The same tables and models: derivatives and, for EM, the step, at one point on all rows, "
        "with two threads; tree and flat taken in turn."
    )
    return Section("EM: an iteration of a tree", text, rows)
