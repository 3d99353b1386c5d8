"""Modes of linear models with random effects: all but the effects at their marginal mode.

EM finds modes of coefficients and effects together, under first values of the effects' standard
deviations. From each of the best, the Laplace-approximate marginal likelihood
(:mod:`bayes_moe.em.group_marginal`) is maximised over all but the effects, which are then at their
mode given these. The joint mode itself would be no estimate: with few rows a group, scale
parameters are too small there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.core.linalg import inverse
from bayes_moe.data.design import Design
from bayes_moe.em.climb import ClimbResult, padded_paths
from bayes_moe.em.effect_marginal import EffectMarginal, MarginalPoint
from bayes_moe.em.group_marginal import GroupMarginal
from bayes_moe.em.grouped_rows import GroupedRows
from bayes_moe.em.marginal_runs import (
    LEAST_CURVATURE,
    ROUNDS,
    Run,
    curvatures,
    evaluated,
    points_of,
    runs_from,
    unit_axes,
)
from bayes_moe.em.modes import Modes, merge_modes, new_mode_chance
from bayes_moe.em.multistart import NO_START, SearchSettings, Start, search
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.shared_marginal import SharedMarginal
from bayes_moe.em.shared_search import SharedRuns, runs_of_groups
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.families import quoted
from bayes_moe.model import expert_order
from bayes_moe.model.effect_checks import check_within_groups
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors.random_effects import RandomEffects

POSTERIOR, LIKELIHOOD, UNCONSTRAINED = "posterior", "likelihood", "unconstrained"
SEARCHED = 120
"""Effects up to which modes are searched on all rows; of more groups, on those of some."""
FINALISTS = 3
"""Modes of the search from which the marginal likelihood is maximised."""
CONVERGED = 2e-2
"""Gradient, in units of standard deviations of the coordinates, at which a point is a maximum."""
NO_MODE = (
    "The marginal likelihood of the random effects has no normal approximation at any mode: use "
    "fewer experts, tighter priors, or method='nuts'."
)


def has_random_effects(spec: MixtureOfExperts) -> bool:
    """Whether a predictor of a model has random effects."""
    return any(isinstance(p, RandomEffects) for _, p in spec.structure.sites)


@dataclass(frozen=True)
class MarginalModes:
    """Modes of a marginal likelihood.

    ``modes`` have the marginal log likelihood, or log posterior density, as value. ``errors`` are
    the standard errors of the best mode, ``point`` the mode itself, and ``covariance`` (coordinate,
    coordinate) that of its coordinates; None if there is none.
    """

    modes: Modes
    marginal: EffectMarginal
    point: MarginalPoint
    errors: dict[str, np.ndarray] | None
    covariance: np.ndarray | None


def marginal_modes(
    spec: MixtureOfExperts,
    design: Design,
    settings: SearchSettings,
    rng: np.random.Generator,
    start: Start = NO_START,
    *,
    density: str = POSTERIOR,
    rough: bool = False,
) -> MarginalModes:
    """Return modes of a model with random effects.

    They are those of the posterior ``density`` of natural values, of ``"unconstrained"`` ones, or
    of the ``"likelihood"``. With ``rough`` modes may be no maxima, as starting values of chains.

    Raises
    ------
    SpecError
        For models of which the marginal likelihood has no such approximation.
    """
    vector = parameter_vector(spec, design, jacobian=density == UNCONSTRAINED)
    _check(vector, rough)
    if spec.row_columns.group is not None:
        shared = SharedMarginal.of(vector, density == LIKELIHOOD)
        return _modes_of_groups(shared, runs_of_groups(shared, settings, rng, start))
    marginal = GroupMarginal(GroupedRows(vector, design.rows), density == LIKELIHOOD)
    if marginal.rows.size <= SEARCHED:
        found = search(vector, settings, rng, start)
        best = np.argsort(found.singular, kind="stable")[:FINALISTS]
        fixed, effects = marginal.rows.parted(found.theta[best])
        first = points_of(marginal, fixed)
    else:
        part = _some_groups(marginal, rng, start)
        found = search(part.vector, settings, rng, part.start)
        best = np.argsort(found.singular, kind="stable")[:FINALISTS]
        first = part.ends(found.theta[best], marginal)
        effects = np.zeros((len(best), marginal.rows.size))
    runs = runs_from(marginal, first, effects)
    modes = merge_modes(_modes(found, best, runs, marginal), design.rows)
    of_starts = {n: getattr(found, n) for n in ("restarts", "finished", "new_mode_chance")}
    return _with_errors(replace(modes, **of_starts), marginal)


def _modes_of_groups(marginal: SharedMarginal, found: SharedRuns) -> MarginalModes:
    """Modes of a model whose rows share an expert by group."""
    if not found.runs:
        raise SpecError(NO_MODE)
    ends = _ends(found.runs, marginal, np.zeros(len(found.runs), dtype=int), found.singular)
    modes = merge_modes(ends, marginal.vector.design.rows)
    chance = new_mode_chance(modes)
    return _with_errors(replace(modes, restarts=found.starts, new_mode_chance=chance), marginal)


@dataclass(frozen=True)
class _Part:
    """The model on the rows of some groups, and where its search starts."""

    vector: ParameterVector
    start: Start

    def ends(self, theta: np.ndarray, whole: EffectMarginal) -> np.ndarray:
        """Coordinates (point, coordinate) of the whole at maxima of the part's marginal likelihood.

        The maximisations start from modes ``theta`` of coefficients and effects, whose spreads of
        effects are first values: far from those of the marginal likelihood, effects of many groups
        would end in lesser modes.
        """
        own = GroupMarginal(GroupedRows(self.vector, self.vector.design.rows), whole.likelihood)
        fixed, effects = own.rows.parted(theta)
        first = points_of(own, fixed)
        runs = runs_from(own, first, effects)
        found = []
        for at, run in zip(first, runs, strict=True):
            psi = at if run is None else run.point.psi
            values = own.rows.fixed.variables(psi[None, : own.fixed])
            found.append(whole.point(whole.rows.fixed.points(values)[0], own.scales(psi)))
        return np.stack(found)


def _some_groups(marginal: EffectMarginal, rng: np.random.Generator, start: Start) -> _Part:
    """The rows of some groups, with at most :data:`SEARCHED` effects."""
    if start.theta is not None:
        raise SpecError(
            f"With more than {SEARCHED} effects of groups, `start` must be responsibilities."
        )
    vector, rows = marginal.vector, marginal.vector.design.rows
    largest = max(marginal.rows.effects, key=lambda e: e.shape[1]).columns
    kept = max(4, SEARCHED * len(largest.labels) // marginal.rows.size)
    chosen = rng.choice(len(largest.labels), kept, replace=False)
    where = np.flatnonzero(np.isin(largest.codes, chosen))
    part = rows.pick(where)
    matrices = {
        stem: replace(matrix, groups=tuple(g.present for g in matrix.groups))
        for stem, matrix in part.matrices.items()
    }
    design = replace(vector.design, rows=replace(part, matrices=matrices))
    shares = None if start.allocation is None else start.allocation[..., where]
    own = parameter_vector(vector.spec, design, jacobian=vector.jacobian)
    return _Part(own, Start(allocation=shares))


def _check(vector: ParameterVector, rough: bool) -> None:
    """Raise :class:`SpecError` for what does not go with random effects."""
    structure = vector.spec.structure
    if structure.gate.chain is not None:
        raise SpecError(
            "EM, MAP and Laplace's method do not integrate effects of groups out beside a Markov "
            "gate: leave terms such as (1 | g) out, or use gate='softmax'."
        )
    others = [
        p
        for s, p in structure.sites
        if p.variables(s).hyperparameters and not isinstance(p, RandomEffects)
    ]
    if others:
        raise SpecError(
            f"{others[0]!r} has learned scales, which EM, MAP and Laplace's method do not learn "
            "together with random effects: use method='nuts', or a linear predictor."
        )
    if structure.constraints:
        raise SpecError(
            "A model with random effects has no shared or fixed parameters, and no priors of "
            "single entries."
        )
    check_within_groups(structure, vector.spec.row_columns)
    kinked = next((f.block.family for f in structure.factors if f.block.family.kink), None)
    if kinked is not None and not rough:
        raise SpecError(
            f"The density of the family {quoted(kinked)} has a kink, at which effects of groups "
            "have no normal approximation: use method='nuts', or family='studentt'."
        )
    if vector.has_kinks:
        raise SpecError(
            "Laplace priors have kinks, where the marginal likelihood of random effects has no "
            "normal approximation: use normal priors, or method='nuts'."
        )


def _modes(
    found: Modes, best: np.ndarray, runs: list[Run | None], marginal: EffectMarginal
) -> Modes:
    """One mode per run, experts in canonical order."""
    pairs = [(j, run) for j, run in zip(best, runs, strict=True) if run is not None]
    if not pairs:
        raise SpecError(NO_MODE)
    at, kept = np.array([j for j, _ in pairs]), [run for _, run in pairs]
    ends = _ends(kept, marginal, found.iterations[at], found.singular[at])
    return replace(ends, hits=found.hits[at])


def _ends(
    runs: list[Run], marginal: EffectMarginal, before: np.ndarray, singular: np.ndarray
) -> Modes:
    """One mode per run, after so many iterations ``before`` (run,), experts in canonical order."""
    ordered = [_in_order(marginal, run.point) for run in runs]
    norms = np.array([run.gradient_norm for run in runs])
    iterations = np.array([run.iterations for run in runs])
    ends = ClimbResult(
        theta=np.stack([theta for theta, _ in ordered]),
        value=np.array([run.point.value for run in runs]),
        gradient_norm=norms,
        iterations=iterations + before,
        converged=norms < CONVERGED,
        running=np.zeros((len(runs), 0), dtype=bool),
        floored=singular,
        exhausted=iterations >= ROUNDS,
        path=padded_paths([run.path for run in runs]),
        variables=(),
    )
    return Modes.of_ends(
        marginal.vector.spec,
        marginal.vector.design,
        ends,
        values={n: np.stack([values[n] for _, values in ordered]) for n in ordered[0][1]},
        log_prior=np.array([run.point.log_prior for run in runs]),
    )


def _in_order(
    marginal: EffectMarginal, point: MarginalPoint
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Whole vector (coordinate,) and variables at a point, experts in canonical order."""
    vector, spec, scales = marginal.vector, marginal.vector.spec, marginal.scales(point.psi)
    theta = marginal.rows.joined(point.psi[None, : marginal.fixed], point.effects[None])
    values = vector.with_hyperparameters(scales).variables(theta)
    order = expert_order.order(spec, expert_order.levels(spec, values, vector.design.rows))
    permuted = expert_order.permute(spec, {n: v[None] for n, v in scales.items()}, order)
    theta = vector.permute(theta, order)
    own = vector.with_hyperparameters({n: v[0] for n, v in permuted.items()})
    return theta[0], {n: v[0] for n, v in own.variables(theta).items()}


def _with_errors(modes: Modes, marginal: EffectMarginal) -> MarginalModes:
    """Modes with the standard errors of the best, and its effective number of parameters."""
    of_best = {n: modes.values[n][modes.best] for n in marginal.shapes}
    fixed, effects = marginal.rows.parted(modes.theta[[modes.best]])
    point = evaluated(marginal, marginal.point(fixed[0], of_best), effects[0])
    assert point is not None
    if modes.singular[modes.best]:
        return MarginalModes(modes, marginal, point, None, None)
    total, prior = curvatures(marginal, point)
    axes = unit_axes(marginal, point)
    within = axes.T @ total @ axes
    known = np.diag(within) > LEAST_CURVATURE
    spread = inverse(within[np.ix_(known, known)])
    if spread is None:
        return MarginalModes(modes, marginal, point, None, None)
    covariance = axes[:, known] @ spread @ axes[:, known].T
    effective = float(np.trace((total - prior) @ covariance))
    modes = replace(modes, effective_parameters=effective)
    errors = _errors(marginal, point, covariance)
    return MarginalModes(modes, marginal, point, errors, covariance)


def _errors(
    marginal: EffectMarginal, point: MarginalPoint, covariance: np.ndarray
) -> dict[str, np.ndarray]:
    """Standard errors of the reported variables at a mode."""
    size, rows = marginal.fixed, marginal.rows
    errors = rows.fixed.reported_sds(point.psi[None, :size][0], covariance[:size, :size])
    sds, at = np.sqrt(np.diag(covariance)), size
    for name, shape in marginal.shapes.items():
        own = slice(at, at + int(np.prod(shape)))
        error = sds[own] * marginal.kinds[name].slope(point.psi[own])
        errors[name] = np.where(error > 0, error, np.nan).reshape(shape)
        at = own.stop
    for e in rows.effects:
        block = marginal.vector.blocks[e.block]
        assert block.scaling is not None
        basis = np.eye(e.shape[0]) if block.basis is None else block.basis
        slopes = point.slopes[e.where].reshape(*e.shape, -1)
        moved = np.einsum("dk,dgqj->kgqj", basis, slopes)
        variance = np.einsum("kgqi,ij,kgqj->kgq", moved, covariance, moved, optimize=True)
        within = marginal.covariances(point, e)
        variance = variance + np.einsum("dk,defq,ek->kfq", basis, within, basis, optimize=True)
        unit = block.scaling.units.unit / e.columns.scale
        errors[e.of.effect] = unit * np.sqrt(variance)
    return errors
