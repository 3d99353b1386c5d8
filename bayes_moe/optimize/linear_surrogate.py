"""Where climbs begin, for any model: at points of a stand-in whose predictors are linear.

The stand-in has a linear gate and experts with linear predictors, all on the same features. Its
points say how the experts share the rows. Predictors that are not linear are asked to come near:
either to those of the stand-in, or to what the rows themselves say, each as far as it is
responsible for them, which linear predictors need not reach. Where experts are of different kinds,
every start hands out the stand-in's experts to them anew: the likeliest of some ways, once the
predictors have come near the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.design import Design
from bayes_moe.em import multistart
from bayes_moe.em.climb import first_points
from bayes_moe.em.objective import Objective
from bayes_moe.em.partitions import initial_partitions
from bayes_moe.em.vector_layout import coordinates
from bayes_moe.model.blocks import Block, blocks
from bayes_moe.model.evaluation import Mixture, evaluate
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Linear

Values = dict[str, np.ndarray]

MAX_ITER = 200
RIDGE = 1.0
"""Penalty of internal coefficients whose prior has unit scale, against a unit error of a logit."""
OF_EXPERTS = 0.1
"""The same for experts, over that of the gate: rows say more about locations than about logits."""
SOFTNESS = 0.1
LARGEST = 8.0
"""Largest logit that is asked for."""
HANDED_OUT = 8
"""Ways of handing out the stand-in's experts to kinds, of which a start takes the likeliest."""
NOISE = 0.05
"""Standard deviation of noise in the logits, so that nothing stays alike."""


@dataclass(frozen=True)
class LinearSurrogate:
    """A linear model in the place of another.

    ``order[k]`` is the expert of the other model that expert ``k`` of ``spec`` stands for.
    """

    spec: MixtureOfExperts
    order: tuple[int, ...]

    @classmethod
    def of(cls, spec: MixtureOfExperts) -> LinearSurrogate:
        """Return the model with linear predictors on the same features, under default priors.

        Priors of parameters that stay as they are stay too.
        """
        experts = [expert.linear for expert in spec.experts]
        order = tuple(k for block in blocks(tuple(experts)) for k in block.positions)
        simple = MixtureOfExperts(spec.gate.linear(), experts, None, spec.center)
        changed = {place.coef for place, p in spec.placed if p != Linear()}
        same = {n: dims for n, dims in simple.dims.items() if spec.dims.get(n) == dims}
        kept = {n: p for n, p in spec.priors.items() if n in same and n not in changed}
        kept = {n: p for n, p in kept.items() if n in simple.variables}
        return cls(MixtureOfExperts(spec.gate.linear(), experts, kept, spec.center), order)

    def seen(self, design: Design) -> Design:
        """Return a design by the stems of the stand-in, whose formulas are the other model's."""
        matrices = {design.formulas[stem]: m for stem, m in design.rows.matrices.items()}
        own = {stem: matrices[formula] for stem, formula in self.spec.formulas.items()}
        return replace(
            design, rows=replace(design.rows, matrices=own), formulas=dict(self.spec.formulas)
        )


def first_values(
    spec: MixtureOfExperts, design: Design, count: int, rng: np.random.Generator
) -> list[Values]:
    """Return so many points as reported variables.

    The first half are modes of the stand-in, as far as it has that many, others come from splits of
    the rows; all from splits where the model is its own stand-in.
    """
    if spec.is_linear:
        return _from_splits(spec, design, count, rng)
    simple = LinearSurrogate.of(spec)
    found = multistart.search(
        coordinates(simple.spec, simple.seen(design)),
        restarts=multistart.RESTARTS,
        max_iter=MAX_ITER,
        rng=rng,
    )
    modes = [
        {name: v[j] for name, v in found.values.items()}
        for j in range(min((count + 1) // 2, len(found.value)))
    ]
    points = modes + _from_splits(simple.spec, simple.seen(design), count - len(modes), rng)
    turns = [_likeliest(spec, simple, design, point, rng) for point in points]
    return [
        near(spec, simple, design, point, rng, by_rows=bool(j % 2), turn=turn)
        for j, (point, turn) in enumerate(zip(points, turns, strict=True))
    ]


def _from_splits(
    spec: MixtureOfExperts, design: Design, count: int, rng: np.random.Generator
) -> list[Values]:
    """Points of a linear model that a few sweeps reach from splits of the rows.

    One expert has one split, and that point again and again.
    """
    if count == 0:
        return []
    moving = coordinates(spec, design)
    rows = design.rows
    if rows.size > multistart.SUBSAMPLE:
        rows = rows.pick(np.sort(rng.choice(rows.size, multistart.SUBSAMPLE, replace=False)))
    split = initial_partitions(spec, rows, count, rng)
    values = moving.variables(first_points(Objective(moving, rows), split))
    return [{name: v[j % len(split)] for name, v in values.items()} for j in range(count)]


def near(
    spec: MixtureOfExperts,
    simple: LinearSurrogate,
    design: Design,
    point: Values,
    rng: np.random.Generator,
    *,
    by_rows: bool,
    turn: np.ndarray | None = None,
) -> Values:
    """Reported variables of a model near a point of its stand-in.

    ``by_rows`` asks predictors to come near what the rows say. ``turn`` is which expert of the
    stand-in each expert begins as; drawn if it is not given.
    """
    rows = design.rows
    mixture = evaluate(
        simple.spec, {name: v[None] for name, v in point.items()}, simple.seen(design).rows
    )
    turn = _handed_out(spec, simple, rng) if turn is None else turn
    shares = mixture.responsibilities(rows.observed)[0][turn]  # (expert, obs)
    found: Values = {}
    if spec.n_experts > 1:
        logits = mixture.log_weights[0][turn]
        if by_rows:
            logits = np.log((1 - SOFTNESS) * shares + SOFTNESS / len(shares))
        found |= _near_logits(spec, design, logits, rng)
    each = _by_expert(mixture)
    for block in spec.blocks:
        own = [each[turn[k]] for k in block.positions]
        weights = shares[list(block.positions)] if by_rows else None
        found |= _near_experts(block, design, own, weights, rng, found)
    for part in spec.parts:
        if part.column is not None:
            found |= {name: point[name][turn] for name in part.block.variables}
    return found


def _near_logits(
    spec: MixtureOfExperts, design: Design, logits: np.ndarray, rng: np.random.Generator
) -> Values:
    """The gate's variables, near some logits (expert, obs)."""
    logits = np.clip(logits - logits.mean(axis=0), -LARGEST, LARGEST)
    logits = logits + NOISE * rng.standard_normal(logits.shape)
    logits -= logits.mean(axis=0)
    given = (spec.n_experts, logits, design.rows.matrices, design.response, rng, RIDGE)
    return spec.gate.from_rows(*given)


def _near_experts(
    block: Block,
    design: Design,
    own: list[Values],
    weights: np.ndarray | None,
    rng: np.random.Generator,
    known: Values,
) -> Values:
    """Variables of a block near some parameters, one mapping an expert.

    With ``weights`` (expert, obs), locations come near what the rows suggest.
    """
    rows, found = design.rows, dict(known)
    for c in block.components:
        values = np.stack([parameters[c.parameter.name] for parameters in own])
        if c.formula is None:
            found[c.variable] = values[:, 0]
            continue
        target = c.parameter.link(values, NUMERIC)
        by_rows = weights is not None and c.parameter is block.family.PARAMS[0]
        if by_rows:
            target = block.family.initial_eta(rows.observed, block.known(rows.matrices))
        found |= c.predictor.project(
            c.place,
            rows.matrices[c.stem],
            design.response,
            np.broadcast_to(target, (len(own), rows.size)),
            rng,
            ridge=RIDGE * OF_EXPERTS,
            weights=weights if by_rows else None,
            known=found,
        )
    return found


def _by_expert(mixture: Mixture) -> list[Values]:
    """Parameters (obs,) or (1,) of every expert of a mixture of one point."""
    return [
        {name: v[0, j] for name, v in params.items() if v.ndim == 3}
        for block, params in zip(mixture.blocks, mixture.params, strict=True)
        for j in range(len(block.positions))
    ]


def _handed_out(
    spec: MixtureOfExperts, simple: LinearSurrogate, rng: np.random.Generator
) -> np.ndarray:
    """Which expert of the stand-in each expert of a model begins as."""
    places = np.empty(spec.n_experts, dtype=np.int64)
    places[list(simple.order)] = np.arange(spec.n_experts)
    kinds = [expert.linear.kind for expert in spec.experts]
    for kind in dict.fromkeys(kinds):
        own = np.array([k for k, other in enumerate(kinds) if other == kind])
        if len({spec.experts[k].kind for k in own}) > 1:
            places[own] = places[rng.permutation(own)]
    return places


def _likeliest(
    spec: MixtureOfExperts,
    simple: LinearSurrogate,
    design: Design,
    point: Values,
    rng: np.random.Generator,
) -> np.ndarray:
    """The way of handing out experts under which the rows are likeliest, of some."""
    turns = [_handed_out(spec, simple, rng) for _ in range(HANDED_OUT)]
    turns = list({tuple(turn): turn for turn in turns}.values())
    if len(turns) == 1:
        return turns[0]
    heights = []
    for turn in turns:
        found = near(spec, simple, design, point, rng, by_rows=True, turn=turn)
        mixture = evaluate(spec, {name: v[None] for name, v in found.items()}, design.rows)
        heights.append(float(mixture.log_density(design.rows.observed).sum()))
    return turns[int(np.argmax(heights))]
