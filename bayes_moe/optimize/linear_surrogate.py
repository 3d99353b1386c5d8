"""Starting points of L-BFGS runs for any model: from modes of a surrogate with linear predictors.

The surrogate has a linear gate and experts with linear predictors, on the same features. The
predictors of the model are fitted either to those of the surrogate, or to the rows with the
surrogate's responsibilities as weights, which can differ from anything linear. Where experts are of
different kinds, every start assigns the surrogate's experts to them: of several random
assignments, the one with the highest likelihood after the predictors have been fitted to the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import without_offsets
from bayes_moe.em import multistart
from bayes_moe.em.objective import Objective
from bayes_moe.em.partitions import initial_partitions
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model.allocation import observed_responsibilities, random_rows
from bayes_moe.model.blocks import blocks_of, initial_location
from bayes_moe.model.constraints import WEIGHTS
from bayes_moe.model.evaluation import evaluate, log_likelihood
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.offset_rules import tells_apart
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.model.structure import DensityFactor
from bayes_moe.predictors import Linear
from bayes_moe.predictors.base import Target

Values = dict[str, np.ndarray]

SEARCH = multistart.SearchSettings(multistart.RESTARTS, max_iter=200, moves=0)
"""Settings of the search for modes of the surrogate: many different ones are wanted as starts, not
the best one."""
RIDGE = 1.0
"""Penalty of internal coefficients whose prior has unit scale, relative to a unit error of a
logit."""
OF_EXPERTS = 0.1
"""Penalty of the experts over that of the gate: rows determine locations better than logits."""
SOFTNESS = 0.1
"""Share of equal responsibilities in the responsibilities that logits are fitted to."""
LARGEST = 8.0
"""Largest logit that the gate is fitted to."""
ASSIGNMENTS = 8
"""Random assignments of the surrogate's experts, of which a start has the likeliest."""
NOISE = 0.05
"""Standard deviation of noise in the logits, to break symmetries."""


@dataclass(frozen=True)
class LinearSurrogate:
    """A model with linear predictors on the features of another model.

    ``order[k]`` is the expert of the other model to which expert ``k`` of ``spec`` belongs.
    """

    spec: MixtureOfExperts
    order: tuple[int, ...]

    @classmethod
    def of(cls, spec: MixtureOfExperts) -> LinearSurrogate:
        """Surrogate of a model, under default priors for the predictors that it replaces."""
        experts = [expert.linear for expert in spec.experts]
        order = tuple(k for block in blocks_of(tuple(experts)) for k in block.positions)
        gate: Any = spec.structure.gate.surrogate or spec.gate
        if tells_apart(gate) and order != tuple(range(len(order))):  # columns are in their order
            gate = replace(gate, formula=without_offsets(gate.formula))
        given = (spec.center, spec.functions)
        own: dict[str, Any] = spec.row_columns.given
        surrogate = MixtureOfExperts(gate, experts, None, *given, **own)
        changed = {place.coef for place, p in spec.structure.sites if p != Linear()}
        dims = spec.structure.dims
        same = {n for n, d in surrogate.structure.dims.items() if dims.get(n) == d}
        alike = (same - changed) & {*surrogate.variables}
        kept = {n: p for n, p in spec.priors.items() if n in alike}
        if order != tuple(range(len(order))):  # labels of experts may differ
            return cls(MixtureOfExperts(gate, experts, kept, *given, **own), order)
        kept = {n: p for n, p in spec.priors.items() if n.partition("[")[0] in alike}
        shared = [n for n in spec.shared if n.partition("[")[0] in alike]
        held = {n: v for n, v in spec.fixed.items() if n.partition("[")[0] in {*alike, WEIGHTS}}
        return cls(MixtureOfExperts(gate, experts, kept, *given, shared, held, **own), order)

    def design(self, design: Design) -> Design:
        """Design of the surrogate, from the other model's: their formulas are the same."""
        matrices = {design.formulas[stem]: m for stem, m in design.rows.matrices.items()}
        for formula, matrix in list(matrices.items()):
            bare = replace(matrix, offset=None, level=0.0)
            matrices.setdefault(without_offsets(formula), bare)
        by_stem = {stem: matrices[formula] for stem, formula in self.spec.formulas.items()}
        seen = design.rows.observation
        if seen.expert is not None:
            places = np.append(np.argsort(self.order), -1)  # the last is that of unknown experts
            seen = replace(seen, expert=places[seen.expert])
        rows = replace(design.rows, matrices=by_stem, observation=seen)
        return replace(design, rows=rows, formulas=dict(self.spec.formulas))


def first_values(
    spec: MixtureOfExperts,
    design: Design,
    count: int,
    rng: np.random.Generator,
    search: multistart.SearchSettings | None = SEARCH,
) -> list[Values]:
    """Starting points, each as reported variables.

    The first half are from modes of the surrogate, if it has that many, the others from partitions
    of the rows; all are from partitions where the model itself is linear, or without a search.
    """
    if spec.structure.is_linear:
        return _from_partitions(spec, design, count, rng)
    surrogate = LinearSurrogate.of(spec)
    modes = [] if search is None else _modes(surrogate, design, (count + 1) // 2, search, rng)
    points = modes + _from_partitions(
        surrogate.spec, surrogate.design(design), count - len(modes), rng
    )
    assignments = [_likeliest(spec, surrogate, design, point, rng) for point in points]
    return [
        near(spec, surrogate, design, point, rng, by_rows=bool(j % 2), assignment=assignment)
        for j, (point, assignment) in enumerate(zip(points, assignments, strict=True))
    ]


def _modes(
    surrogate: LinearSurrogate,
    design: Design,
    most: int,
    search: multistart.SearchSettings,
    rng: np.random.Generator,
) -> list[Values]:
    """The best modes of a surrogate."""
    vector = parameter_vector(surrogate.spec, surrogate.design(design))
    result = multistart.search(vector, search, rng)
    count = min(most, len(result.value))
    return [{name: v[j] for name, v in result.values.items()} for j in range(count)]


def _from_partitions(
    spec: MixtureOfExperts, design: Design, count: int, rng: np.random.Generator
) -> list[Values]:
    """Points of a linear model after a few EM sweeps from partitions of the rows.

    A model of one expert has one partition, and all its points are the same.
    """
    if count == 0:
        return []
    parameters = parameter_vector(spec, design)
    rows = design.rows
    if rows.size > multistart.SUBSAMPLE:
        rows = rows.pick(random_rows(rows, multistart.SUBSAMPLE, rng))
    objective = Objective(parameters, rows)
    partitions = initial_partitions(spec, objective.rows, count, rng)
    values = parameters.variables(initial_points(objective, partitions))
    return [{name: v[j % len(partitions)] for name, v in values.items()} for j in range(count)]


def near(
    spec: MixtureOfExperts,
    surrogate: LinearSurrogate,
    design: Design,
    point: Values,
    rng: np.random.Generator,
    *,
    by_rows: bool,
    assignment: np.ndarray | None = None,
) -> Values:
    """Reported variables of a model near a point of its surrogate.

    With ``by_rows`` predictors are fitted to the rows, else to the surrogate's. ``assignment``
    (expert,) is the surrogate's expert of each expert; random if it is None.
    """
    known = surrogate.design(design).rows
    mixture = evaluate(surrogate.spec, {name: v[None] for name, v in point.items()}, known)
    if assignment is None:
        assignment = _random_assignment(spec, surrogate, rng)
    shares = observed_responsibilities(mixture, known)[0][assignment]  # (expert, obs)
    variables: Values = {}
    if spec.n_experts > 1:
        logits = mixture.log_weights[0][assignment]
        if by_rows:
            logits = np.log((1 - SOFTNESS) * shares + SOFTNESS / len(shares))
        variables |= _near_logits(spec, design, logits, rng)
    params = _by_expert(mixture)
    for part in spec.structure.factors:
        if part.column is not None:
            variables |= {name: point[name][assignment] for name in part.block.variables}
            continue
        of_block = [params[assignment[k]] for k in part.block.positions]
        weights = shares[list(part.block.positions)] if by_rows else None
        variables |= _near_experts(part, design, of_block, weights, rng, variables)
    return variables


def _near_logits(
    spec: MixtureOfExperts, design: Design, logits: np.ndarray, rng: np.random.Generator
) -> Values:
    """The gate's variables, fitted to logits (expert, obs)."""
    # A common shift has no effect on the weights; without it, logits are small enough to fit.
    logits = np.clip(logits - logits.mean(axis=0), -LARGEST, LARGEST)
    logits = logits + NOISE * rng.standard_normal(logits.shape)
    logits -= logits.mean(axis=0)
    matrices, response = design.rows.matrices, design.first_sample
    return spec.structure.gate.initialise(logits, matrices, response, rng, RIDGE)


def _near_experts(
    part: DensityFactor,
    design: Design,
    params: list[Values],
    weights: np.ndarray | None,
    rng: np.random.Generator,
    known: Values,
) -> Values:
    """Variables of a block, fitted to parameters, one mapping an expert.

    With ``weights`` (expert, obs), locations are fitted to the rows.
    """
    rows, variables, block = design.rows, dict(known), part.block
    own_response = part.own_response(rows)
    for c in block.components:
        # (expert, obs), or (label and expert, obs)
        values = np.stack([of_expert[c.parameter.name] for of_expert in params], axis=-2)
        if c.formula is None:
            variables[c.variable] = values[..., 0].ravel()
            continue
        eta = c.parameter.link(values, NUMERIC)
        by_rows = weights is not None and c.parameter.name in block.family.locations
        if by_rows:
            eta = initial_location(block, c.parameter, rows)
        eta = np.broadcast_to(eta, (*eta.shape[:-2], len(params), rows.size))
        b = c.site.bind(rows.matrices[c.stem], c.parameter.own(own_response))
        target = Target(
            b.unshifted(eta.reshape(c.site.outputs, rows.size)),
            rng,
            RIDGE * OF_EXPERTS,
            np.tile(weights, (c.parameter.size, 1)) if by_rows and weights is not None else None,
            variables,
        )
        variables |= c.predictor.project(b, target)
    return variables


def _by_expert(mixture: Mixture) -> list[Values]:
    """Parameters (obs,) or (1,) of every expert of a mixture at one point."""
    return [
        {name: v[0, ..., j, :] for name, v in params.items() if v.ndim >= 3}
        for block, params in zip(mixture.blocks, mixture.params, strict=True)
        for j in range(len(block.positions))
    ]


def _random_assignment(
    spec: MixtureOfExperts, surrogate: LinearSurrogate, rng: np.random.Generator
) -> np.ndarray:
    """Surrogate's expert of each expert (expert,), permuted within kinds that become the same."""
    positions = np.empty(spec.n_experts, dtype=np.int64)
    positions[list(surrogate.order)] = np.arange(spec.n_experts)
    if spec.row_columns.expert is not None:  # rows say which expert is which
        return positions
    linear_kinds = [expert.linear.kind for expert in spec.experts]
    for linear_kind in dict.fromkeys(linear_kinds):
        members = np.array([k for k, other in enumerate(linear_kinds) if other == linear_kind])
        if len({spec.experts[k].kind for k in members}) > 1:
            positions[members] = positions[rng.permutation(members)]
    return positions


def _likeliest(
    spec: MixtureOfExperts,
    surrogate: LinearSurrogate,
    design: Design,
    point: Values,
    rng: np.random.Generator,
) -> np.ndarray:
    """Of several random assignments, the one under which the rows are likeliest."""
    drawn = [_random_assignment(spec, surrogate, rng) for _ in range(ASSIGNMENTS)]
    assignments = list({tuple(a): a for a in drawn}.values())
    if len(assignments) == 1:
        return assignments[0]
    log_likelihoods = []
    for assignment in assignments:
        values = near(spec, surrogate, design, point, rng, by_rows=True, assignment=assignment)
        variables = {name: v[None] for name, v in values.items()}
        log_likelihoods.append(log_likelihood(spec, variables, design.rows)[0])
    return assignments[int(np.argmax(log_likelihoods))]
