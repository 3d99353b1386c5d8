"""Modes of mixtures of constant class probabilities with many classes: EM's sums, and L-BFGS.

The coefficients are too many for the matrices that EM and Newton's method have elsewhere. A start
is a partition of some rows; each expert gets the best log odds of its part (an M-step), and L-BFGS
follows in coordinates that are divided by the root of the diagonal of the information. The best
starts go on with all rows, from an M-step there, up to a vanishing gradient,
with a few steps of Newton's method at the end where there are few coefficients.

References
----------
Liu, D. C., & Nocedal, J. (1989). On the limited memory BFGS method for large scale optimization.
Mathematical Programming, 45, 503-528.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from bayes_moe.core.errors import PACKAGE_FILES, SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.em.class_information import ClassInformation
from bayes_moe.em.class_mixture import ClassMixture, best_log_odds, diagonal_curvature
from bayes_moe.em.climb import ClimbResult, padded_paths
from bayes_moe.em.gradient_runs import Run, continued
from bayes_moe.em.modes import Modes, merge_modes, new_mode_chance
from bayes_moe.em.multistart import SearchSettings, Start
from bayes_moe.em.newton import ACCEPTED_GRADIENT
from bayes_moe.em.partitions import initial_partitions
from bayes_moe.em.vector_layout import gate_vector
from bayes_moe.families.categories import Categorical
from bayes_moe.model import expert_order
from bayes_moe.model.allocation import random_rows
from bayes_moe.model.blocks import Component
from bayes_moe.model.internal_values import internal_values
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors.linear import Linear
from bayes_moe.predictors.scaling import Scaling

LEAST_COEFFICIENTS = 64
"""Class coefficients of all experts from which on modes are found here: other methods' matrices of
second derivatives over all of them take minutes."""
SLOW = 100
"""Class coefficients from which on a model that is not treated here is warned of: for 1500 rows,
two experts ``y ~ x`` and 15 classes EM takes 20 s, and for 30 classes more than 90 s."""
STARTS, RACE, FINISHED = 10, 30, 3
"""Default number of starts, their iterations, and how many go on to the end."""
SUBSAMPLE = 50_000
"""Most rows from which starts are made."""
ROUND = 200
"""Iterations after which coordinates are divided anew."""
LEAST_GAIN = 1e-14
"""Relative gain of an iteration below which a round ends."""
NEWTON_STEPS, ROUNDING = 10, 1e-13
"""Most steps of Newton's method at the end of a run, and the objective's relative rounding."""


def class_coefficients(spec: MixtureOfExperts) -> int:
    """Number of log odds of classes, of all categorical experts."""
    of_classes = [b for b in spec.structure.blocks if isinstance(b.family, Categorical)]
    return sum(c.site.outputs for b in of_classes for c in b.components)


def has_many_classes(spec: MixtureOfExperts) -> bool:
    """Whether experts have so many class coefficients that modes are found here, if they can be."""
    return class_coefficients(spec) >= LEAST_COEFFICIENTS


def why_not(spec: MixtureOfExperts, design: Design, objective: str) -> str:
    """What of a model is not treated here, as a clause of an error; empty if nothing."""
    structure, observed = spec.structure, design.rows.observation
    gate, block = structure.gate, structure.blocks[0]
    if objective == "likelihood":
        return "objective='likelihood' has no finite maximum where an expert has no row of a class"
    if len(structure.factors) > 1 or not isinstance(block.family, Categorical):
        return "experts of other kinds are beside them, or the gate models its features"
    (component,) = block.components
    matrix = design.rows.matrices[component.stem]
    plain = type(component.predictor) is Linear and not matrix.groups
    if not plain or matrix.terms != (INTERCEPT,) or matrix.offset is not None:
        return f"the class probabilities of 'y {component.formula}' depend on features"
    single = gate.n_experts == 1 or (gate.splits is not None and gate.splits.is_single_softmax)
    if not single or structure.has_memory:
        return f"the gate {spec.gate!r} is no plain softmax"
    if any(h.predictor.variables(h.site).hyperparameters for h in gate.heads):
        return "the gate has learned scales"
    if not structure.is_linear:
        return "the gate is not linear in its coefficients"
    if structure.constraints or observed.group is not None or observed.expert is not None:
        return "of `fixed`, `shared`, `group=` and `expert=` there is one"
    prior = spec.resolve_priors(design)[component.variable]
    if prior.kind.support != "zero-sum" or np.size(prior.arguments["sigma"]) != 1:
        return f"the prior of {component.variable!r} is no ZeroSumNormal of one sigma"
    if gate.heads and gate_vector(spec, design).has_kinks:
        return "a Laplace prior of the gate has a kink"
    return ""


def class_mixture(spec: MixtureOfExperts, design: Design, cores: int) -> ClassMixture:
    """The objective of a model that :func:`why_not` says nothing against."""
    (component,) = spec.structure.components
    _, prior = component.site_under(spec.resolve_priors(design)[component.variable])
    assert prior is not None
    binding = component.site.bind(design.rows.matrices[component.stem], design.first_sample)
    by_term = prior.over_terms(component.variable, (INTERCEPT,))
    sigma = Scaling(binding.matrix, binding.units).raw_prior(by_term).arguments["sigma"]
    gate = gate_vector(spec, design) if spec.structure.gate.heads else None
    count = component.parameter.size
    return ClassMixture(spec, design, design.rows, gate, float(np.squeeze(sigma)), count, cores)


def class_search(
    mixture: ClassMixture,
    settings: SearchSettings,
    rng: np.random.Generator,
    start: Start | None = None,
) -> Modes:
    """Return the modes that runs from several starts end in.

    Parameters
    ----------
    mixture : ClassMixture
        The objective.
    settings : SearchSettings
        Number of starts, iterations, tolerance and threads; there are no moves.
    rng : numpy.random.Generator
        Of the partitions, and of the rows from which starts are made.
    start : Start, optional
        Responsibilities or points (start, coordinate) from which to start instead, on all rows.
    """
    if start is not None and start.theta is not None:
        points = [Run(theta, -np.inf, []) for theta in start.theta]
    elif start is not None and start.allocation is not None:
        points = [_from_partition(mixture, shares) for shares in start.allocation]
    else:
        points = _raced(mixture, settings, rng)
    total = len(points)
    best = sorted(points, key=lambda run: -run.value)[:FINISHED]
    for j, run in enumerate(best):
        if mixture.gate is not None and start is None:  # classes that the subsample lacks
            _m_step(mixture, run)
        _finish(mixture, run, settings)
        settings.progress(j + 1, len(best))
    modes = merge_modes(_ends(mixture, best, settings.max_iter), mixture.design.rows)
    modes = replace(modes, restarts=total, finished=len(best))
    return replace(modes, new_mode_chance=new_mode_chance(modes))


def _raced(mixture: ClassMixture, settings: SearchSettings, rng: np.random.Generator) -> list[Run]:
    """Runs of a few iterations on some rows, from partitions of these."""
    rows = mixture.rows
    if rows.size > SUBSAMPLE:
        rows = rows.pick(random_rows(rows, SUBSAMPLE, rng))
    part = replace(mixture, rows=rows)
    count = 1 if mixture.gate is None else settings.restarts or STARTS
    runs = []
    for j, shares in enumerate(initial_partitions(mixture.spec, rows, count, rng)):
        run = _from_partition(part, shares)
        _lbfgs(part, run, min(RACE, settings.max_iter), settings.tol)
        runs.append(run)
        settings.progress(j + 1, 2 * count)
    return runs


def _from_partition(mixture: ClassMixture, shares: np.ndarray) -> Run:
    """Start at the best log odds of a partition (expert, obs) of the rows, and at equal weights."""
    eta = best_log_odds(mixture.counts_of(shares), mixture.sigma)
    theta = np.r_[np.zeros(mixture.gate_size), eta.ravel()]
    return Run(theta, mixture.evaluate(theta)[0], [])


def _m_step(mixture: ClassMixture, run: Run) -> None:
    """Take the best log odds of the expected counts on all rows."""
    eta = best_log_odds(mixture.sums(run.theta).counts, mixture.sigma)
    run.theta = np.r_[run.theta[: mixture.gate_size], eta.ravel()]


def _lbfgs(mixture: ClassMixture, run: Run, most: int, tol: float) -> bool:
    """Continue a run by L-BFGS; whether it has ended."""
    value, gradient, counts = mixture.evaluate(run.theta)
    if not run.path:
        run.path.append(value)
    scale = np.sqrt(diagonal_curvature(mixture, run.theta, counts))

    def minus(x: np.ndarray) -> tuple[float, np.ndarray]:
        found, slope, _ = mixture.evaluate(x / scale)
        return -found, -slope / scale

    # the norm of the whole gradient is at most the root of the size times its largest element
    least = tol * (1 + abs(value)) / (np.sqrt(mixture.size) * scale.max())
    x, reached = continued(run, minus, run.theta * scale, most, (LEAST_GAIN, least))
    run.theta, gained = x / scale, reached - value
    run.value, gradient, _ = mixture.evaluate(run.theta)
    run.gradient_norm = float(np.linalg.norm(gradient))
    size = 1 + abs(run.value)
    return run.gradient_norm <= tol * size or gained <= LEAST_GAIN * size


def _finish(mixture: ClassMixture, run: Run, settings: SearchSettings) -> None:
    """Continue a run to its end."""
    run.path.clear()
    while run.iterations < settings.max_iter:
        most = min(ROUND, settings.max_iter - run.iterations)
        if _lbfgs(mixture, run, most, settings.tol):
            break
    for _ in range(NEWTON_STEPS):
        norm, size = run.gradient_norm, 1 + abs(run.value)
        if norm <= settings.tol * size or not _newton(mixture, run):
            return


def _newton(mixture: ClassMixture, run: Run) -> bool:
    """A step of Newton's method, where matrices are affordable; whether it lessens the gradient."""
    information = ClassInformation.at(mixture, run.theta)
    step = None if information is None else information.step(mixture.evaluate(run.theta)[1])
    if step is None:
        return False
    theta = run.theta + step
    value, gradient, _ = mixture.evaluate(theta)
    norm = float(np.linalg.norm(gradient))
    better = value >= run.value - ROUNDING * (1 + abs(run.value)) and norm < run.gradient_norm
    if better:
        run.theta, run.value, run.gradient_norm = theta, value, norm
        run.iterations += 1
        run.path.append(value)
    return better


def _ends(mixture: ClassMixture, runs: list[Run], max_iter: int) -> Modes:
    """One mode per run, experts in canonical order."""
    spec, design = mixture.spec, mixture.design
    theta = np.stack([run.theta for run in runs])
    values = _variables(mixture, theta)
    orders = expert_order.order(spec, expert_order.levels(spec, values, design.rows))
    norm = np.array([run.gradient_norm for run in runs])
    value = np.array([run.value for run in runs])
    none = np.zeros(len(runs), dtype=bool)
    ends = ClimbResult(
        theta=theta,
        value=value,
        gradient_norm=norm,
        iterations=np.array([run.iterations for run in runs]),
        converged=norm <= ACCEPTED_GRADIENT * (1 + np.abs(value)),
        running=none[:, None][:, :0],
        floored=none,
        exhausted=np.array([run.iterations >= max_iter for run in runs]),
        path=padded_paths([run.path for run in runs]),
        variables=(),
    )
    prior = np.array([mixture.log_prior(one)[0] for one in theta])
    ordered = expert_order.permute(spec, values, orders)
    ends = replace(ends, theta=points_of(mixture, ordered))
    return Modes.of_ends(spec, design, ends, values=ordered, log_prior=prior)


def _variables(mixture: ClassMixture, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Variables of the model at points (point, coordinate): reported ones and internal ones."""
    component = component_of(mixture)
    eta = np.stack([mixture.parts(one)[1] for one in theta])
    eta -= eta.mean(axis=-1, keepdims=True)
    reported = {} if mixture.gate is None else mixture.gate.variables(theta[:, : mixture.gate_size])
    by_class = np.swapaxes(eta, 1, 2).reshape(len(theta), -1, 1)
    reported = reported | {component.variable: by_class}
    priors = mixture.spec.resolve_priors(mixture.design)
    return internal_values(mixture.spec, mixture.design, priors, reported) | reported


def component_of(mixture: ClassMixture) -> Component:
    """The experts' class probabilities."""
    (component,) = mixture.spec.structure.components
    return component


def points_of(mixture: ClassMixture, values: dict[str, np.ndarray]) -> np.ndarray:
    """Points (point, coordinate) of reported variables (point, ...)."""
    given = np.asarray(values[component_of(mixture).variable], dtype=float)
    eta = np.swapaxes(given.reshape(len(given), mixture.classes, mixture.experts), 1, 2)
    eta = eta - eta.mean(axis=-1, keepdims=True)
    flat = eta.reshape(len(given), -1)
    return flat if mixture.gate is None else np.c_[mixture.gate.points(values), flat]


def refuse(spec: MixtureOfExperts, reason: str) -> SpecError:
    """Error for a model with too many classes that cannot be treated here."""
    return SpecError(
        f"The categorical experts have {class_coefficients(spec)} class "
        f"coefficients, and {reason}. So many are fitted by method='em' for experts 'y ~ 1' alone, "
        "under a softmax gate with linear features: join rare classes into one, or use that."
    )


def warn_of_matrices(spec: MixtureOfExperts, reason: str) -> None:
    """Warn of many classes whose EM has matrices over all class coefficients."""
    coefficients = class_coefficients(spec)
    if coefficients >= SLOW:
        warnings.warn(
            f"EM may take hours: the categorical experts have {coefficients} class coefficients, "
            f"and {reason}, so that second derivatives by all pairs of these are summed over the "
            "rows. Experts 'y ~ 1' under a softmax gate with linear features take seconds.",
            UserWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )
