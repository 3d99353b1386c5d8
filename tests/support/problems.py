"""Random problems for optimisers: easy and awful ones, each decided by its number."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.em.climb import ClimbResult, run_em
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.partitions import initial_partitions
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.families import Family
from tests.support.examples import CLASSES, OF_SEVERAL_RESPONSES, WITHOUT_PARAMETERS
from tests.support.roles import REACH, Reach

FAMILIES = ["normal", "studentt", "poisson", "bernoulli", "binomial"]
FAMILIES += ["negativebinomial", "geometric", "betabinomial"]
SETTINGS = CLASSES | WITHOUT_PARAMETERS


def problem(number: int, family: str | None = None) -> tuple[bm.MixtureOfExperts, pd.DataFrame]:
    """Return a model and a table: clusters of any size, collinear columns, scales, outliers.

    The family is by default one of ``FAMILIES``, by the number. One without parameters has as many
    gamma experts beside it.
    """
    rng = np.random.default_rng(number)
    family = family or FAMILIES[number % len(FAMILIES)]
    n = int(np.exp(rng.uniform(np.log(20), np.log(2000))))
    k = int(rng.integers(1, min(6, n // 6) + 1))
    p = int(rng.integers(0, 9))
    x = rng.standard_normal((n, p))
    if p > 2 and rng.random() < 0.3:
        x[:, 0] = x[:, 1] + x[:, 2]  # exactly collinear
    if p > 1 and rng.random() < 0.2:
        x[:, 1] = x[:, 0] + 1e-4 * rng.standard_normal(n)
    groups = int(rng.integers(1, k + 2))
    label = rng.choice(groups, n, p=rng.dirichlet(np.full(groups, 0.5)))
    if p and rng.random() < 0.3:
        label = np.digitize(x[:, -1], np.linspace(-1, 1, groups - 1)) if groups > 1 else label
    eta = rng.normal(0, 2, groups)[label] + np.einsum(
        "ip,ip->i", x, rng.normal(0, 1, (groups, p))[label]
    )
    table = pd.DataFrame(x * 10 ** rng.uniform(-6, 6, p), columns=[f"x{j}" for j in range(p)])
    table["n"] = rng.integers(1, 30, n)
    left = "y"
    if family in OF_SEVERAL_RESPONSES:
        left = several_responses(family, eta, label, table, rng)
    else:
        table["y"] = response(family, eta, label, table["n"].to_numpy(), rng)
    terms = [f"x{j}" for j in range(p)] or ["1"]
    formula = " + ".join(terms)
    gate = rng.choice(["~ 1", f"~ {formula}", f"~ {terms[0]}"])
    made = families.by_name(family, **SETTINGS.get(family, {}))
    made = families.with_responses(made, left)
    own: dict[str, str] = {known: "n" for known in made.known_counts}
    if family in ("normal", "studentt") and p and rng.random() < 0.25:
        own["sigma"] = f"~ {terms[0]}"
    if family == "studentt" and p and rng.random() < 0.1:
        own["nu"] = f"~ {terms[0]}"
    others = [q.name for q in made.parameters[1:] if q.role != "gap"]
    if family not in FAMILIES and others and p and rng.random() < 0.25:
        own[str(rng.choice(others))] = f"~ {terms[0]}"
    if p and rng.random() < 0.1:
        formula = f"0 + {formula}"
    if family in WITHOUT_PARAMETERS:
        experts = [bm.Expert("y", made), *[bm.Expert(f"y ~ {formula}", "gamma")] * k]
        return bm.MixtureOfExperts(bm.gates.Softmax(gate), experts), table
    return bm.mixture_of_experts(f"{left} ~ {formula}", gate, k, made, **own), table


def response(
    family: str, eta: np.ndarray, label: np.ndarray, n: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return responses of a family at predictors, some with outliers, ties or a wild scale."""
    if family == "poisson":
        return rng.poisson(np.exp(np.clip(eta, -5, 8))).astype(float)
    if family in ("negativebinomial", "geometric"):
        shape = 10 ** rng.uniform(-1, 2) if family == "negativebinomial" else 1.0
        rate = np.exp(np.clip(eta, -5, 8)) * rng.gamma(shape, size=len(eta)) / shape
        return rng.poisson(rate).astype(float)
    if family in ("bernoulli", "binomial", "betabinomial"):
        trials = 1 if family == "bernoulli" else n
        y = rng.binomial(trials, special.expit(eta)).astype(float)
        y[:2] = [0, 1]  # never all the same
        return y
    if family in WITHOUT_PARAMETERS:
        y = drawn(families.by_name("gamma"), eta, label, n, rng)
        y[rng.random(len(y)) < rng.uniform(0.02, 0.9)] = 0.0
        y[:2] = [0, 1]
        return y
    if family not in FAMILIES:
        return drawn(families.by_name(family, **SETTINGS.get(family, {})), eta, label, n, rng)
    y = eta + 10 ** rng.uniform(-2, 1, label.max() + 1)[label] * rng.standard_normal(len(eta))
    kind = rng.random()
    if kind < 0.15:
        y[rng.random(len(y)) < 0.05] *= 1e3
    elif kind < 0.3:
        y = np.round(y)  # ties: experts that fit exactly
    return (y + 10 ** rng.uniform(-2, 3)) * 10 ** rng.uniform(-6, 6)


def several_responses(
    family: str,
    eta: np.ndarray,
    label: np.ndarray,
    table: pd.DataFrame,
    rng: np.random.Generator,
) -> str:
    """Put two to four responses into a table, and return the left-hand side of their formula."""
    names = [f"y{j}" for j in range(int(rng.integers(2, 5)))]
    left = f"cbind({', '.join(names)})"
    made = families.with_responses(families.by_name(family), left)
    etas = []
    for slot in made.slots:
        own = rng.normal(0.0, 1.5, label.max() + 1)[label]
        moved = rng.normal() * eta + own if slot.parameter.role in ("class", "location") else own
        etas.append(moved[None])
    known = {name: table["n"].to_numpy(dtype=float) for name in made.known_counts}
    drawn = made.random(made.named(etas, known, NUMERIC) | known, rng, (1, len(eta)))
    for name, y in zip(names, np.asarray(drawn, dtype=float)[:, 0], strict=True):
        table[name] = y if made.discrete else perturbed(y, -np.inf, rng)
    return left


def drawn(
    family: Family, eta: np.ndarray, label: np.ndarray, n: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return draws (obs,) of any family, its location at ``eta``, the rest constant in a group."""
    etas = []
    for j, slot in enumerate(family.slots):
        reach = REACH.get(slot.parameter.role, Reach((0.0, 0.0), centre=0.0, spread=1.0))
        own = rng.normal(reach.centre, min(reach.spread, 1.5), label.max() + 1)[label]
        first = eta if j == 0 else own
        if slot.parameter.role == "class":
            first = rng.normal() * eta + own
        etas.append((np.clip(first, -5, 8) if slot.parameter.link.name == "log" else first)[None])
    known = {name: n.astype(float) for name in family.known_counts}
    params = family.named(etas, known, NUMERIC) | known
    y = np.asarray(family.random(params, rng, (1, len(eta)))[0], dtype=float)
    if hasattr(family, "levels"):
        codes = np.concatenate([np.arange(family.count), y[family.count :]])  # none is missing
        return np.array(family.shown_levels)[codes.astype(int)]
    if family.discrete:
        y[:2] = family.lower + np.arange(2)  # never all the same
        return y
    if not varied(y):
        y[:2] = [0.25, 0.75]
    return y if np.isfinite(family.upper) else perturbed(y, family.lower, rng)


def varied(y: np.ndarray) -> bool:
    """Return whether responses other than zero are not all the same."""
    return np.unique(y[y != 0]).size > 1


def perturbed(y: np.ndarray, lower: float, rng: np.random.Generator) -> np.ndarray:
    """Return responses above a bound with outliers or ties, in some cases, and in any unit."""
    kind = rng.random()
    if kind < 0.15:
        y[rng.random(len(y)) < 0.05] *= 1e3
    elif kind < 0.3:
        whole = np.ceil(y)  # ties: experts that fit exactly
        y = whole if varied(whole) else y
    return y * 10 ** rng.uniform(-6, 6) if lower in (0.0, -np.inf) else y


def climbs(
    number: int,
    likelihood: bool,
    restarts: int = 6,
    max_iter: int = 1000,
    family: str | None = None,
) -> tuple[Objective, np.ndarray, ClimbResult]:
    """Climb a problem from several splits; return the objective, the starts and the ends."""
    spec, table = problem(number, family)
    design = spec.design(table)
    objective = Objective(parameter_vector(spec, design, likelihood=likelihood))
    split = initial_partitions(spec, design.rows, restarts, np.random.default_rng(number))
    start = initial_points(objective, split)
    return objective, start, run_em(objective, start, max_iter=max_iter)


def faults(objective: Objective, start: np.ndarray, found: ClimbResult) -> list[str]:
    """Say what is wrong with climbs; nothing should be."""
    wrong = []
    if not np.isfinite(found.theta).all() or not np.isfinite(found.value).all():
        wrong.append("NaN")
    falls = np.diff(found.path, axis=0) < -1e-9 * np.abs(found.path[:-1])
    if falls.any():
        wrong.append(f"falls {np.argwhere(falls)[0]}")
    begin = objective.value(start)
    if np.any(found.value < begin - 1e-9 * np.abs(begin)):
        wrong.append("below its start")
    if np.any(
        np.abs(objective.value(found.theta) - found.value) > 1e-9 * (1 + np.abs(found.value))
    ):
        wrong.append("value is not that of the point")
    at = objective.evaluate(found.theta, Curvature.OBSERVED)
    smooth = not any(b.family.kink for b in objective.vector.spec.structure.blocks)
    for j in np.flatnonzero(found.converged & smooth):
        size = 1 + abs(found.value[j])
        gradient, matrix = at.gradient[j], at.curvature[j]
        norm = np.linalg.norm(gradient)
        # Where the curvature is huge, rounding leaves a gradient that promises nothing.
        scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
        scaled = matrix / np.multiply.outer(scale, scale)
        promise = np.linalg.lstsq(scaled, gradient / scale, rcond=1e-10)[0] @ (gradient / scale)
        if norm > 1e-5 * size and promise > 1e-9 * size:
            wrong.append(f"climb {j} converged at gradient {norm:.2g}, promise {promise:.2g}")
        relative, absolute = np.linalg.eigvalsh(scaled), np.linalg.eigvalsh(matrix)
        if relative[0] < -1e-6 and absolute[0] < -2e-6 - 1e-12 * absolute[-1]:
            wrong.append(f"climb {j} converged at curvature {absolute[0]:.2g}")
    return wrong
